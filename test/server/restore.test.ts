/**
 * Databases that are replaced: a data folder put back, a dump restored, an upgrade of PostgreSQL or
 * of the schema.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Queue, Redacted } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { consumeItems as consume } from "../../src/server/internal/outbox/consumers.ts"
import { schemaVersion } from "../../src/server/internal/sql/schema.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { databaseWith, execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { dump, orders, restore } from "./support/dump.ts"
import { layerInstalled, layerReaderOnly, quick } from "./support/durable.ts"
import { random, seed } from "./support/random.ts"
import { Address, copyFolder, folder, installedOn, nodeAt } from "./support/recovery.ts"

const publish = (url: string, payload: unknown) =>
  execute(url, `select realtime.publish('room', '${JSON.stringify(payload)}'::text)`)

/** A node on a database, and what it installs first. */
const nodeOn = (url: string, options?: PgInstaller.Options) =>
  Effect.map(
    Layer.build(
      Layer.fresh(OutboxReader.layer({ ...quick, idleInterval: 20 })).pipe(
        Layer.provideMerge(
          options === undefined ? Layer.empty : Layer.fresh(PgInstaller.layer(options))
        ),
        Layer.provideMerge(Layer.fresh(PgClient.layer({ url: Redacted.make(url) })))
      )
    ),
    (context) => ({ context, reader: Context.get(context, OutboxReader.OutboxReader) })
  )

const told = (queue: Queue.Dequeue<OutboxReader.Item>, until: string) =>
  Effect.gen(function* () {
    const seen: Array<string> = []
    while (seen.at(-1) !== until) {
      const item = yield* Queue.take(queue)
      if (item._tag === "Gap") seen.push(`gap ${item.reason}`)
      if (item._tag === "Batch") seen.push(...item.events.map(({ text }) => text))
    }
    return seen
  })

describe("A data folder that is put back", () => {
  it.live(
    "followers of a running node get a gap, and lost cursors are reset, 10 or 50 commits later",
    () =>
      Effect.gen(function* () {
        const r = random(seed)
        const place = yield* folder
        const postgres = yield* installedOn(Path.join(place, "data"))
        const address = new Address(postgres.socketDirectory)
        const node = yield* nodeAt(address, { idleInterval: 20 })
        /** Each commit is a transaction of its own, on one session. */
        const commit = (name: string, count: number) =>
          Effect.gen(function* () {
            const db = yield* PgConnection.make({ url: Redacted.make(postgres.url) })
            for (let n = 0; n < count; n++) {
              const text = JSON.stringify(`${name} ${n}`)
              yield* db.query("select realtime.publish('room', $1::text)", [text])
              if (r.chance(0.3)) cursors.push(yield* node.reader.position)
            }
          }).pipe(Effect.scoped)
        let cursors: Array<string> = []
        yield* commit("kept", 3)
        const kept = yield* node.reader.position
        const queue = yield* node.reader.follow("room")
        yield* postgres.stop("fast")
        yield* copyFolder(postgres.dataDirectory, Path.join(place, "saved"))
        yield* postgres.start
        for (const commits of [10, 50]) {
          cursors = []
          yield* commit(`old ${commits}`, 20)
          const before = [...cursors, yield* node.reader.position]
          expect(yield* told(queue, `"old ${commits} 19"`)).toHaveLength(20)
          // The node does not look before other writers have reused the numbers.
          address.directory = undefined
          yield* postgres.stop("fast")
          yield* copyFolder(Path.join(place, "saved"), postgres.dataDirectory)
          yield* postgres.start
          const db = yield* PgConnection.make({ url: Redacted.make(postgres.url) })
          for (let n = 0; n < commits; n++) {
            yield* db.query("select realtime.publish('room', 'true'::text)")
          }
          address.move(postgres.socketDirectory)
          expect(yield* Queue.take(queue)).toMatchObject({ _tag: "Gap", reason: "source" })
          yield* commit(`end ${commits}`, 1)
          expect(yield* told(queue, `"end ${commits} 0"`)).toEqual([`"end ${commits} 0"`])
          for (const cursor of before) {
            expect(yield* node.reader.join("room", cursor)).toMatchObject({
              state: "reset",
              reason: "witness"
            })
          }
          // A cursor that was in the folder resumes and misses no event.
          const join = yield* node.reader.join("room", kept)
          expect(join.state).toBe("recovered")
          expect(join.replay.flatMap(({ events }) => events)).toHaveLength(commits + 1)
        }
      }).pipe(Effect.scoped),
    60_000
  )
})

const watched = { watch: [{ channel: "table_updates_orders", delivery: "durable" }] } as const

describe("A restored dump", () => {
  const source = Effect.gen(function* () {
    const { url } = yield* TestDatabase
    yield* execute(url, orders)
    const { reader } = yield* nodeOn(url, watched)
    yield* execute(url, "insert into orders values (1, 'new')")
    const cursor = yield* reader.position
    yield* execute(url, "insert into orders values (2, 'new')")
    return { url, cursor, reader }
  })

  const changes = (url: string) =>
    execute(
      url,
      "select payload::json->'key'->>'id' as id from realtime.messages where channel = 'table_updates_orders' order by messages.id"
    )

  it.live.each(["the installer", "the reader"])(
    "%s notices a dump restored beside the original: a change is sent once, and old cursors are reset",
    (first) =>
      Effect.gen(function* () {
        const { cursor, url } = yield* source
        const copy = yield* databaseWith("")
        yield* restore(copy.url, yield* dump(url))
        if (first === "the reader") {
          const { reader } = yield* nodeOn(copy.url)
          yield* reader.position
        }
        // Install again and again: the objects that are there stay.
        const { reader } = yield* nodeOn(copy.url, watched)
        yield* nodeOn(copy.url, watched)
        expect(yield* reader.join("table_updates_orders", cursor)).toMatchObject({
          state: "reset",
          reason: "identity"
        })
        expect(yield* changes(copy.url)).toEqual([])
        const queue = yield* reader.follow("table_updates_orders")
        yield* execute(copy.url, "insert into orders values (3, 'new')")
        expect(yield* Queue.take(queue)).toMatchObject({ _tag: "Batch", events: [{}] })
        expect(yield* changes(copy.url)).toEqual([{ id: "3" }])
        // The original database is unchanged.
        expect(yield* changes(url)).toEqual([{ id: "1" }, { id: "2" }])
      }).pipe(Effect.scoped, Effect.provide(layerDatabase)),
    60_000
  )

  it.live.each([
    ["with its objects", true],
    ["row by row into the existing tables", false]
  ] as const)(
    "a dump restored over the original, %s, is a gap for followers and a reset for old cursors",
    ([, clean]) =>
      Effect.gen(function* () {
        const { cursor, reader, url } = yield* source
        const dumped = yield* dump(url)
        yield* execute(url, "insert into orders values (9, 'later')")
        const queue = yield* reader.follow("table_updates_orders")
        const late = yield* reader.position
        if (clean) yield* restore(url, dumped, true)
        else {
          for (const { name, rows } of dumped.tables) {
            const rowsOfDump = name.startsWith("realtime.")
              ? `insert into ${name} overriding system value
                 select * from json_populate_recordset(null::${name}, $json$${rows}$json$);`
              : ""
            // In one transaction: the reader, which is up, adds a missing row of its own.
            yield* execute(url, `do $do$ begin delete from ${name}; ${rowsOfDump} end $do$`)
          }
        }
        // A new node looks at once; this one looks within ten seconds, or with its next session.
        yield* execute(
          url,
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'effect-realtime reader'"
        )
        const items: Array<OutboxReader.Item> = []
        while (items.at(-1)?._tag !== "Gap") items.push(yield* Queue.take(queue))
        expect(items.at(-1)).toMatchObject({ _tag: "Gap", reason: "source" })
        // The gap may be of a state on the way to the whole restore, where the reader stood for a moment.
        yield* reader.position
        for (const old of [cursor, late]) {
          expect(yield* reader.join("table_updates_orders", old)).toMatchObject({
            state: "reset",
            reason: "identity"
          })
        }
        yield* nodeOn(url, watched)
        yield* execute(url, "insert into orders values (4, 'new')")
        // Each state on the way to a whole restore may have been a gap of its own.
        let next = yield* Queue.take(queue)
        while (next._tag === "Gap") next = yield* Queue.take(queue)
        expect(next).toMatchObject({ _tag: "Batch", events: [{}] })
        expect(yield* changes(url)).toEqual([{ id: "4" }])
      }).pipe(Effect.scoped, Effect.provide(layerDatabase)),
    60_000
  )
})

describe("Copies by pg_upgrade", () => {
  /** The only change by pg_upgrade that counts here: another cluster has another identifier. */
  const otherCluster = `update realtime.settings set identity = '1 ' || split_part(identity, ' ', 2) || ' ' || split_part(identity, ' ', 3)`

  it.live.each([
    ["after pg_upgrade cursors are accepted", [otherCluster], "recovered"],
    [
      "after a dump into another cluster with the same oids cursors are reset",
      [otherCluster, "update realtime.origin set one = true"],
      "reset"
    ]
  ] as const)("%s", ([, statements, state]) =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const cursor = yield* Effect.gen(function* () {
        const { reader } = yield* nodeOn(url)
        yield* publish(url, 1)
        return yield* reader.position
      }).pipe(Effect.scoped)
      yield* publish(url, 2)
      for (const statement of statements) yield* execute(url, statement)
      const { reader } = yield* nodeOn(url)
      const join = yield* reader.join("room", cursor)
      expect(join.state).toBe(state)
      expect(join.replay.flatMap(({ events }) => events.map(({ text }) => text))).toEqual(
        state === "recovered" ? ["2"] : []
      )
      const [row] = yield* execute(url, "select identity from realtime.settings")
      expect(String(row!["identity"])).not.toMatch(/^1 /)
    }).pipe(Effect.scoped, Effect.provide(layerInstalled({ wake: "poll" })))
  )
})

describe("An upgrade from version 2", () => {
  const script = Fs.readFileSync(Path.join(import.meta.dirname, "support/version2.sql"), "utf8")

  it.live("an upgrade from version 2 keeps messages, resets cursors, and fails old nodes", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      for (const statement of script.split(/;\n\n/)) {
        if (/^(begin|commit)|^set local/m.test(statement) && statement.length < 60) continue
        yield* execute(url, statement.replace(/;\s*$/, ""))
      }
      yield* publish(url, 1)
      yield* publish(url, 2)
      // As nodes of version 2 did: raw snapshots.
      yield* execute(
        url,
        "insert into realtime.marks (snapshot, next, drawn) values (pg_current_snapshot(), '3', 2)"
      )
      yield* execute(url, "update realtime.horizon set snapshot = pg_current_snapshot()")
      const [old] = yield* execute(
        url,
        "insert into realtime.consumers (name, channel, cursor) select 'mails', 'room', '1.' || realtime.identity() || '.AQA' returning cursor"
      )
      const before = Layer.launch(
        layerReaderOnly().pipe(Layer.provide(PgClient.layer({ url: Redacted.make(url) })))
      )
      // A reader of this version logs what is missing until then.
      yield* Effect.forkScoped(before)
      const { context, reader } = yield* nodeOn(url, { wake: "poll" })
      expect(yield* execute(url, "select version from realtime.settings")).toEqual([
        { version: schemaVersion }
      ])
      expect(yield* execute(url, "select payload from realtime.messages order by id")).toEqual([
        { payload: "1" },
        { payload: "2" }
      ])
      expect(yield* execute(url, "select snapshot::text s from realtime.horizon")).toEqual([
        { s: "1:1:" }
      ])
      expect(yield* execute(url, "select from realtime.marks")).toEqual([])
      const node = yield* Effect.flip(execute(url, "select * from realtime.open()"))
      expect(String((node.reason.cause as Error).message)).toContain("made for version 2")
      expect(yield* reader.join("room", String(old!["cursor"]))).toMatchObject({ state: "reset" })
      // A consumer of version 2 gets a gap and goes on.
      const seen = yield* Queue.unbounded<string>()
      const offer = (text: string) => Effect.asVoid(Queue.offer(seen, text))
      const one = { name: "mails", channel: "room" }
      yield* consume({
        ...one,
        onBatch: ({ events }) =>
          Effect.forEach(events, ({ text }) => offer(text), { discard: true }),
        onGap: ({ reason }) => offer(`gap ${reason}`)
      }).pipe(Effect.provideContext(context), Effect.forkScoped)
      expect(yield* Queue.take(seen)).toBe("gap source")
      yield* publish(url, 3)
      expect(yield* Queue.take(seen)).toBe("3")
      // A new consumer that starts at the oldest message receives all of them.
      yield* consume({
        name: "new",
        channel: "room",
        start: "oldest",
        onBatch: ({ events }) =>
          Effect.forEach(events, ({ text }) => offer(text), { discard: true })
      }).pipe(Effect.provideContext(context), Effect.forkScoped)
      expect(yield* Queue.take(seen)).toBe("1")
      expect(yield* Queue.take(seen)).toBe("2")
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )
})
