/** `serve`: a gateway over a real database, with real sockets. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue, Schema } from "effect"
import { Channel } from "effect-realtime"
import { createRealtimeClient } from "effect-realtime/client"
import { SignJWT } from "jose"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { record, start } from "./support/run.ts"

const secret = "0123456789abcdef0123456789abcdef"

const tokenOf = (claims: Readonly<Record<string, unknown>>) =>
  Effect.promise(() =>
    new SignJWT({ sub: "ann", ...claims })
      .setProtectedHeader({ alg: "HS256" })
      .setExpirationTime("1 hour")
      .sign(new TextEncoder().encode(secret))
  )

/** Starts a gateway, and gives its address. */
const serve = (args: ReadonlyArray<string>, env?: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const { url } = yield* TestDatabase
    const gateway = yield* start(["serve", "--port", "0", ...args], {
      env: { DATABASE_URL: url, ...env }
    })
    const line = yield* Queue.take(gateway.lines).pipe(
      Effect.raceFirst(Effect.flatMap(gateway.ended, ({ stderr }) => Effect.die(stderr)))
    )
    const address = /^ready (http:\/\/127\.0\.0\.1:\d+)$/.exec(line)![1]!
    return { ...gateway, address, sql: (text: string) => execute(url, text) }
  })

const clientOf = (address: string, token?: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      createRealtimeClient({
        url: `${address.replace("http", "ws")}/realtime`,
        ...(token === undefined ? {} : { token: () => token })
      })
    ),
    (client) => Effect.promise(() => client.close())
  )

type Client = Effect.Success<ReturnType<typeof clientOf>>

/** Subscribes, and gives what arrives: events, and the code of what ends the subscription. */
const hear = (client: Client, channel: string) =>
  Effect.gen(function* () {
    const heard = yield* Queue.unbounded<unknown>()
    const subscribed = Promise.withResolvers<void>()
    client.listen(channel, (payload) => Queue.offerUnsafe(heard, payload), {
      onCursor: () => subscribed.resolve(),
      onError: (error) => {
        Queue.offerUnsafe(heard, Object(error).code)
        subscribed.resolve()
      }
    })
    yield* Effect.promise(() => subscribed.promise)
    return Queue.take(heard)
  })

const get = (url: string) =>
  Effect.promise(async () => {
    const response = await fetch(url)
    return [response.status, await response.text()] as const
  })

describe("serve", () => {
  it.live("serves channels and a table of flags, its health and its metrics, and ends with 0", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create table orders (id int primary key, status text)")
      const gateway = yield* serve(["--allow-all", "--live", "news", "--table", "orders"])
      const { address, sql } = gateway
      expect(yield* get(`${address}/health`)).toEqual([200, '{"status":"ready"}\n'])
      expect(yield* get(`${address}/live`)).toEqual([200, '{"status":"live"}\n'])
      expect((yield* get(`${address}/other`))[0]).toBe(404)
      const client = yield* clientOf(address)
      const orders = yield* hear(client, "table_updates_orders")
      const news = yield* hear(client, "news")
      yield* sql("insert into orders values (1, 'new')")
      expect(yield* orders).toMatchObject({ operation: "INSERT", data: { id: 1, status: "new" } })
      yield* sql(`select pg_notify('news', '{"a":1}')`)
      expect(yield* news).toEqual({ a: 1 })
      const Orders = Channel.table("orders", Schema.Struct({ id: Schema.Int }), { key: "id" })
      const rows = client.rows(Orders)
      yield* Effect.promise(
        () =>
          new Promise<void>((done) => {
            const stop = rows.subscribe(() => {
              if (rows.getSnapshot().rows.length === 1) done()
            })
            if (rows.getSnapshot().rows.length === 1) done()
            void stop
          })
      )
      const [status, metrics] = yield* get(`${address}/metrics`)
      expect(status).toBe(200)
      expect(metrics).toMatch(/^effect_realtime_sessions \d+$/m)
      yield* gateway.signal
      expect(yield* gateway.ended).toMatchObject({ code: 0, stdout: `ready ${address}\n` })
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("bounds clients by their tokens, as its file says", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create table orders (id int primary key, team text, status text)")
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "realtime-serve-"))),
        (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
      )
      const file = Path.join(folder, "gateway.json")
      Fs.writeFileSync(
        file,
        JSON.stringify({
          jwt: { secret },
          channels: {
            news: { read: "any", publish: { claim: "role", param: "role" } },
            "room_{room}": {
              delivery: "durable",
              read: { claim: "rooms", param: "room" },
              publish: { claim: "rooms", param: "room" }
            }
          },
          tables: { orders: { read: { claim: "team", column: "team" } } }
        })
      )
      const wrong = yield* record(["serve", "--config", file, "--database", url])
      expect(wrong.code).toBe(64)
      expect(wrong.stderr).toContain('channels.news.publish: The channel has no parameter "role"')
      const text = Fs.readFileSync(file, "utf8")
      Fs.writeFileSync(file, text.replace('{"claim":"role","param":"role"}', '"signed-in"'))
      const { address, sql } = yield* serve(["--config", file])
      const token = yield* tokenOf({ rooms: ["lobby"], team: "red" })
      const ann = yield* clientOf(address, token)
      const guest = yield* clientOf(address)
      const seen = yield* hear(guest, "news")
      expect(yield* yield* hear(guest, "room_lobby")).toBe("channel/forbidden")
      expect(yield* yield* hear(guest, "table_updates_orders")).toBe("channel/forbidden")
      expect(yield* yield* hear(ann, "room_attic")).toBe("channel/forbidden")
      expect(yield* yield* hear(ann, "other")).toBe("channel/unknown")
      const lobby = yield* hear(ann, "room_lobby")
      const orders = yield* hear(ann, "table_updates_orders")
      yield* Effect.promise(() => ann.publish("room_lobby", "hello"))
      expect(yield* lobby).toBe("hello")
      yield* Effect.promise(() => ann.publish("news", { by: "ann" }))
      expect(yield* seen).toEqual({ by: "ann" })
      yield* sql("insert into orders values (1, 'blue', 'new'), (2, 'red', 'new')")
      expect(yield* orders).toMatchObject({ operation: "INSERT", data: { id: 2 } })
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("says what is missing before it listens, and where a port is taken", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const database = ["--database", url]
      const cases: ReadonlyArray<readonly [ReadonlyArray<string>, number, string]> = [
        [["--live", "news", "--allow-all"], 64, "serve needs a database"],
        [[...database], 64, "There is nothing to serve"],
        [["--live", "news", ...database], 64, "No client may use anything"],
        [["--live", "news", "--read", "signed-in", ...database], 64, "needs tokens"],
        [["--config", "/nowhere.json", ...database], 64, "/nowhere.json cannot be read"],
        [
          ["--table", "missing", "--allow-all", "--port", "0", ...database],
          64,
          'no table "public.missing"'
        ],
        [
          [
            "--live",
            "n",
            "--allow-all",
            "--port",
            "0",
            "--database",
            url.replace(/\/[^/]*$/, "/none")
          ],
          1,
          "does not exist"
        ]
      ]
      for (const [args, code, said] of cases) {
        const refused = yield* record(["serve", ...args])
        expect([refused.code, refused.stdout], args.join(" ")).toEqual([code, ""])
        expect(refused.stderr).toContain(said)
      }
      const { address } = yield* serve(["--live", "news", "--read", "any"])
      const port = new URL(address).port
      const taken = yield* record([
        "serve",
        "--live",
        "news",
        "--read",
        "any",
        "--port",
        port,
        ...database
      ])
      expect([taken.code, taken.stdout]).toEqual([1, ""])
      expect(taken.stderr).toContain(`Port ${port} of 127.0.0.1 is taken`)
    }).pipe(Effect.provide(layerDatabase))
  )
})
