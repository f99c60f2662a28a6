/** How the gateway watches tables beside other programs, in a real database. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Channel } from "effect-realtime"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { ownersLine } from "../../../src/bin/gateway/watches.ts"
import { execute, layerDatabase, TestDatabase } from "../../support/database.ts"
import { temporary } from "../../support/temporary.ts"
import { clientOf, hear, secret, serve, tokenOf } from "../support/gateway.ts"
import { record } from "../support/run.ts"

const created =
  "create table orders (id int primary key, team text not null, region text not null, status text, secret text)"

/** A file of a gateway whose clients see the rows of their claim. */
const fileOf = (name: string, table: object) =>
  Effect.map(temporary, (folder) => {
    const file = Path.join(folder, name)
    Fs.writeFileSync(file, JSON.stringify({ jwt: { secret }, tables: { orders: table } }))
    return file
  })

const byClaim = (column: string) => ({ read: { claim: column, column } })

/** Runs `sql` in the database of the test. */
const sqlCommand = (args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { url } = yield* TestDatabase
    const done = yield* record(["sql", ...args, "--apply", "--database", url])
    expect([done.code, done.stderr]).toEqual([0, ""])
  })

/** What keeps columns back. */
const narrow = ["--watch-durable", "orders", "--columns", "id,status", "--old"]

const watched = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const [row] = yield* execute(
    url,
    "select id, definition from realtime.watched where channel = 'table_updates_orders'"
  )
  return row as { readonly id: number; readonly definition: Record<string, unknown> } | undefined
})

/** Starts a gateway that is refused. */
const refused = (args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { url } = yield* TestDatabase
    const env = { DATABASE_URL: url }
    const end = yield* record(["serve", "--port", "0", ...args], { env })
    expect([end.code, end.stdout], end.stderr).toEqual([64, ""])
    return end.stderr
  })

const Orders = Channel.table("orders", Schema.Struct({ id: Schema.Int }), { key: "id" })

/** The rows that a client reads, once it has as many. */
const rowsOf = (client: Effect.Success<ReturnType<typeof clientOf>>, count: number) =>
  Effect.promise(
    () =>
      new Promise<ReadonlyArray<unknown>>((done) => {
        const rows = client.rows(Orders)
        const look = () => {
          const found = rows.getSnapshot().rows
          if (found.length === count) done(found)
        }
        rows.subscribe(look)
        look()
      })
  )

describe.concurrent("a table that another program watches", () => {
  it.live("keeps back the columns that it keeps back, and every option, without a word", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, created)
      yield* sqlCommand([...narrow, "--max-bytes", "5000"])
      const before = yield* watched
      const gateway = yield* serve(["--allow-all", "--table", "orders"])
      const client = yield* clientOf(gateway.address)
      const heard = yield* hear(client, "table_updates_orders")
      yield* gateway.sql("insert into orders values (1, 'red', 'north', 'new', 'hidden')")
      expect(Object(yield* heard).data).toEqual({ id: 1, status: "new" })
      expect(yield* rowsOf(client, 1)).toEqual([{ id: 1 }])
      expect(yield* watched).toEqual(before)
      yield* gateway.signal
      expect((yield* gateway.ended).stderr).not.toContain("watched")
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live(
    "is given what the rules of a gateway need, said in one line, and nothing is taken away",
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        yield* execute(url, created)
        yield* sqlCommand([...narrow, "--when-insert", "new.status is not null"])
        const gateway = yield* serve(["--config", yield* fileOf("red.json", byClaim("team"))])
        expect((yield* watched)!.definition).toMatchObject({
          columns: ["id", "status"],
          old: true,
          insert: "new.status is not null",
          boundary: ["team"]
        })
        const ann = yield* clientOf(gateway.address, yield* tokenOf({ team: "red" }))
        const heard = yield* hear(ann, "table_updates_orders")
        yield* gateway.sql(
          "insert into orders values (1, 'blue', 'n', 'new', 's'), (2, 'red', 'n', 'new', 's')"
        )
        expect(yield* heard).toMatchObject({ operation: "INSERT", data: { id: 2, status: "new" } })
        yield* gateway.signal
        const lines = (yield* gateway.ended).stderr.split("\n")
        expect(lines.filter((line) => line.includes("is watched"))).toEqual([
          expect.stringContaining(
            "the columns that rules and filters compare were none and are team now, because"
          )
        ])
      }).pipe(Effect.provide(layerDatabase))
  )

  it.live("serves two gateways with different rules at once, whichever started last", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, created)
      const files = [
        yield* fileOf("team.json", byClaim("team")),
        yield* fileOf("region.json", { ...byClaim("region"), filter: "status" })
      ]
      const token = yield* tokenOf({ team: "red", region: "north" })
      const started = (file: string) =>
        Effect.gen(function* () {
          const gateway = yield* serve(["--config", file])
          const client = yield* clientOf(gateway.address, token)
          return { gateway, client, heard: yield* hear(client, "table_updates_orders") }
        })
      const one = yield* started(files[0]!)
      yield* execute(url, "insert into orders values (1, 'red', 'south', 'new', 's')")
      expect(yield* one.heard).toMatchObject({ data: { id: 1 } })
      // The first one runs while the second one watches the table again.
      const two = yield* started(files[1]!)
      const both = yield* watched
      expect(both!.definition).toMatchObject({ boundary: ["team", "region"], filter: ["status"] })
      yield* execute(
        url,
        "insert into orders values (2, 'red', 'south', 'new', 's'), (3, 'blue', 'north', 'new', 's'), (4, 'red', 'north', 'new', 's')"
      )
      expect(yield* one.heard).toMatchObject({ operation: "INSERT", data: { id: 2 } })
      expect(yield* one.heard).toMatchObject({ operation: "INSERT", data: { id: 4 } })
      expect(yield* two.heard).toMatchObject({ operation: "INSERT", data: { id: 3 } })
      expect(yield* two.heard).toMatchObject({ operation: "INSERT", data: { id: 4 } })
      expect(yield* rowsOf(one.client, 3)).toMatchObject([{ id: 1 }, { id: 2 }, { id: 4 }])
      expect(yield* rowsOf(two.client, 2)).toMatchObject([{ id: 3 }, { id: 4 }])
      // A start of either changes nothing any more.
      yield* started(files[0]!)
      yield* started(files[1]!)
      expect(yield* watched).toEqual(both)
      yield* one.gateway.signal
      expect((yield* one.gateway.ended).stderr).not.toMatch(/level=(ERROR|WARN)/)
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("has what both need when two gateways start together", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, created)
      yield* sqlCommand([])
      const files = [
        yield* fileOf("team.json", byClaim("team")),
        yield* fileOf("region.json", byClaim("region"))
      ]
      yield* Effect.forEach(files, (file) => serve(["--config", file]), {
        concurrency: "unbounded"
      })
      const { boundary } = (yield* watched)!.definition as {
        readonly boundary: ReadonlyArray<string>
      }
      expect(boundary.toSorted()).toEqual(["region", "team"])
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("is refused with the line that changes it where both cannot be", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, created)
      yield* sqlCommand(narrow)
      const wider = yield* fileOf("wider.json", { read: "any", columns: ["id", "team"] })
      const said = yield* refused(["--config", wider])
      expect(said).toContain(
        `${wider}: tables.orders: Table public.orders is watched for channel "table_updates_orders" already, with the columns id, status, and not id, team.`
      )
      const line =
        "npx effect-realtime sql --watch-durable public.orders=table_updates_orders --columns id,team --old --apply"
      expect(said).toContain(line)
      const routes = yield* fileOf("routes.json", { read: "any", by: "team" })
      const statement = /select realtime\.watch\(.*\);/.exec(yield* refused(["--config", routes]))
      expect(statement![0]).toContain("by => array['team']::text[]")
      // Each line does what it says.
      yield* sqlCommand(line.split(" ").slice(3, -1))
      yield* Effect.scoped(serve(["--config", wider]))
      yield* execute(url, statement![0])
      yield* Effect.scoped(serve(["--config", routes]))
      yield* execute(url, "select realtime.unwatch('orders')")
      yield* sqlCommand(["--watch", "orders"])
      const live = yield* refused(["--allow-all", "--table", "orders"])
      expect(live).toContain("--table orders: Table public.orders is watched")
      expect(live).toContain("for live events, and the gateway needs durable ones")
      // Not with the bound of a live event.
      expect(live).toContain("sql --watch-durable public.orders=table_updates_orders --apply")
      expect((yield* watched)!.definition).toMatchObject({ delivery: "live" })
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("is served as it is with --no-install, and refused where its rules need more", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, created)
      yield* sqlCommand(["--watch-durable", "orders"])
      const before = yield* watched
      const file = yield* fileOf("team.json", byClaim("team"))
      const said = yield* refused(["--config", file, "--no-install"])
      expect(said).toContain(`${file}: tables.orders: Its rules and filters need other columns`)
      const statement = /select realtime\.watch\(.*\);/.exec(said)
      expect(yield* watched).toEqual(before)
      yield* execute(url, statement![0])
      yield* Effect.scoped(serve(["--config", file, "--no-install"]))
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("is served by a role that may not watch, which says nothing that it did not do", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const role = `gate_${new URL(url).pathname.slice(1)}`.slice(0, 60)
      yield* execute(url, created)
      yield* sqlCommand(["--watch-durable", "orders", "--node-role", role])
      yield* execute(url, `alter role ${role} login`)
      const node = new URL(url)
      node.username = role
      const gateway = yield* serve(["--allow-all", "--table", "orders", "--database", node.href])
      const client = yield* clientOf(gateway.address)
      const heard = yield* hear(client, "table_updates_orders")
      yield* gateway.sql("insert into orders values (1, 'red', 'north', 'new', 's')")
      expect(yield* heard).toMatchObject({ data: { id: 1 } })
      const file = yield* fileOf("team.json", byClaim("team"))
      expect(yield* refused(["--config", file, "--database", node.href])).toContain(
        "Let the owner of the table run: select realtime.watch("
      )
      yield* gateway.signal
      const { stderr } = yield* gateway.ended
      expect(stderr).toContain("The role of the gateway may not install")
      expect(stderr).not.toContain("is watched")
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("gets back the triggers that are gone, with the options that it has", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, created)
      yield* sqlCommand(narrow)
      const before = yield* watched
      yield* execute(url, `drop trigger "!realtime_${before!.id}_row" on orders`)
      const gateway = yield* serve(["--allow-all", "--table", "orders"])
      const client = yield* clientOf(gateway.address)
      const heard = yield* hear(client, "table_updates_orders")
      yield* gateway.sql("insert into orders values (1, 'red', 'north', 'new', 'hidden')")
      expect(yield* heard).toMatchObject({ data: { id: 1, status: "new" } })
      expect((yield* watched)!.definition).toEqual(before!.definition)
    }).pipe(Effect.provide(layerDatabase))
  )
})

it("the line for the owner of a table is one word of a shell for each name", () => {
  const needs = {
    place: "--table",
    schema: "public",
    name: 'my "new" x=y',
    channel: "mine",
    key: ["id"],
    by: undefined,
    columns: undefined,
    filter: [],
    boundary: []
  }
  const lists = { by: [], filter: [], boundary: [] }
  const line = (...columns: ReadonlyArray<string>) =>
    ownersLine(needs, { ...lists, columns }, { delivery: "durable" }, "realtime")
  expect(line("id", "it's")).toBe(
    `npx effect-realtime sql --watch-durable 'public."my ""new"" x=y"=mine' --columns 'id,it'\\''s' --apply`
  )
  // No flag can say a column with a comma.
  expect(line("id", "a,b")).toMatch(/^select realtime\.watch\(/)
})
