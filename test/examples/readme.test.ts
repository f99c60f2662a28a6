/**
 * Runs the examples of the README and of the guides about Streams, durable channels and plain Node. The
 * servers and the client run in their own processes, the rest in this one. `test/react/readme.test.tsx`
 * runs the components, `guides.test.ts` and `doors.test.ts` the other guides.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import type { Channel } from "effect-realtime"
import { PgNotificationSource, QueryResults, Realtime } from "effect-realtime/server"
import {
  ConfigProvider,
  Effect,
  Fiber,
  Layer,
  Logger,
  Queue,
  Redacted,
  Schedule,
  Stream
} from "effect"
import { spawn } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { createServer, type AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { ship } from "../../examples/streams/transaction.ts"
import { follow } from "../../examples/streams/gaps.ts"
import { Answer, DurableReport, Notices, OrderUpdates } from "../../examples/channels.ts"
import { Durable } from "../../examples/durable/layers.ts"
import { ledger } from "../../examples/durable/ledger.ts"
import { answer } from "../../examples/durable/answer.ts"
import { start } from "../../examples/durable/report.ts"
import { readThenFollow } from "../../examples/durable/snapshot.ts"
import { chat } from "../../examples/node/client.ts"
import { receipts } from "../../examples/streams/worker.ts"
import { database, execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { greet } from "../support/wire.ts"
import { listenTo } from "../support/listenTo.ts"

const root = resolve(import.meta.dirname, "../..")

/** Runs a file of the repository as a process that ends with the scope. */
const runFile = (
  [file, ...args]: readonly [string, ...ReadonlyArray<string>],
  env: Readonly<Record<string, string>>,
  cwd = root
) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const given = ["-C", "@effect-realtime/source", resolve(root, file), ...args]
      const child = spawn(process.execPath, given, {
        cwd,
        env: { ...process.env, NODE_ENV: "", ...env },
        stdio: ["ignore", "pipe", "pipe"]
      })
      let output = ""
      const waiting = new Set<() => void>()
      for (const stream of [child.stdout, child.stderr]) {
        stream.on("data", (data: Buffer) => {
          output += data.toString()
          for (const check of waiting) check()
        })
      }
      /** Completes when the output has a text. */
      const said = (text: string) =>
        Effect.callback<void>((resume) => {
          const check = () => {
            if (!output.includes(text)) return
            waiting.delete(check)
            resume(Effect.void)
          }
          waiting.add(check)
          check()
        })
      const exited = new Promise<number | null>((done) => child.once("exit", done))
      return { child, said, exited, output: () => output }
    }),
    ({ child, exited }) =>
      Effect.promise(() => {
        child.kill("SIGKILL")
        return exited
      })
  )

const run = (file: string, env: Readonly<Record<string, string>>) =>
  runFile([`examples/${file}`], env)

/** The table of the README, and its triggers by the README's command. */
const withOrders = Effect.fnUntraced(function* (url: string) {
  yield* execute(
    url,
    "create table orders (id int primary key, customer text not null, status text not null)"
  )
  const command = ["src/bin/effect-realtime.ts", "sql", "--definitions", "./orders.ts", "--apply"]
  const env = { DATABASE_URL: url }
  const { exited } = yield* runFile(command as [string], env, resolve(root, "examples"))
  return yield* Effect.promise(() => exited)
})

const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** Connects once the example listens. */
const greetSoon = (url: string) =>
  Effect.retry(greet(url), Schedule.spaced(20)).pipe(Effect.timeout("25 seconds"))

const update = `{"operation":"INSERT","data":{"id":7,"customer":"Ada","status":"new"}}`

describe("the examples", () => {
  it.live("server.ts and client.ts: a changed row of the README's table reaches the clients", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      expect(yield* withOrders(url)).toBe(0)
      const port = yield* freePort
      const address = `ws://127.0.0.1:${port}/realtime`
      const server = yield* run("server.ts", { DATABASE_URL: url, PORT: String(port) })
      yield* server.said("Listening on")
      const wire = yield* greet(address)
      wire.send({ type: "subscribe", id: 1, channel: "table_updates_orders" })
      yield* wire.next("subscribed")
      const client = yield* run("client.ts", { REALTIME_URL: address })
      const tell = execute(url, "insert into orders select 7 + count(*), 'Ada', 'new' from orders")
      // Another row until the client has subscribed.
      yield* tell.pipe(
        Effect.andThen(Effect.sleep("50 millis")),
        Effect.forever,
        Effect.raceFirst(client.said("INSERT order "))
      )
      expect((yield* wire.next("events")).events[0]!.data).toMatchObject(JSON.parse(update))
      // It listens for this machine only, and the log has no line for each socket.
      expect(server.output()).toContain(`Listening on http://127.0.0.1:${port}`)
      expect(server.output()).not.toContain("Sent HTTP response")
      server.child.kill("SIGTERM")
      expect(yield* wire.closed).toBe(4000)
    })
  )

  it.live("testing/postgres.ts: runs a database until it is stopped", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.promise(() => mkdtemp(join(tmpdir(), "realtime-postgres-"))),
        (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
      )
      const server = yield* runFile(["examples/testing/postgres.ts"], {}, folder)
      yield* server.said("\n")
      const [, url] = /^export DATABASE_URL=(\S+)\n/.exec(server.output()) ?? []
      yield* execute(url!, "select 1")
      server.child.kill("SIGTERM")
      yield* Effect.promise(() => server.exited)
    })
  )

  it.live("node/server.ts: lets every client use my-channel, and ends on SIGTERM", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const port = yield* freePort
      const server = yield* run("node/server.ts", { DATABASE_URL: url, PORT: String(port) })
      const wire = yield* greetSoon(`ws://127.0.0.1:${port}/realtime`)
      wire.send({ type: "subscribe", id: 1, channel: "my-channel" })
      yield* wire.next("subscribed")
      wire.send({ type: "publish", id: 2, channel: "my-channel", key: "k", data: [1, 2] })
      expect((yield* wire.next("events")).events[0]!.data).toEqual([1, 2])
      server.child.kill("SIGTERM")
      expect(yield* wire.closed).toBe(4000)
      yield* Effect.promise(() => server.exited)
    })
  )

  it.live("node/client.ts: a client without Effect publishes and receives its own message", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const port = yield* freePort
      const server = yield* run("server.ts", { DATABASE_URL: url, PORT: String(port) })
      const address = `ws://127.0.0.1:${port}/realtime`
      yield* server.said("Listening on")
      const heard = yield* Queue.unbounded<string>()
      const { close, leave } = yield* Effect.promise(() =>
        chat(address, (text) => Queue.offerUnsafe(heard, text))
      )
      expect(yield* Queue.take(heard)).toBe("hello")
      leave()
      yield* Effect.promise(close)
    })
  )

  const layer = Realtime.layer().pipe(
    Layer.provide(PgNotificationSource.layer()),
    Layer.provideMerge(layerDatabase)
  )

  /** The log while `body` runs. */
  const logged = <A, E, R>(body: (lines: Queue.Queue<string>) => Effect.Effect<A, E, R>) =>
    Effect.flatMap(Queue.unbounded<string>(), (lines) =>
      body(lines).pipe(
        Effect.provide(
          Logger.layer([
            Logger.make(({ message }) => {
              Queue.offerUnsafe(lines, JSON.stringify(message))
            })
          ])
        )
      )
    )

  it.live("worker.ts: writes a receipt for inserts only", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(receipts)
        const tell = (operation: "INSERT" | "DELETE", customer: string) =>
          Realtime.publish(OrderUpdates, { operation, data: { id: 1, customer, status: "new" } })
        // Published again until the worker has subscribed.
        yield* tell("INSERT", "Ada").pipe(
          Effect.andThen(Effect.sleep("20 millis")),
          Effect.repeat({ until: () => Queue.sizeUnsafe(lines) > 0 })
        )
        yield* tell("DELETE", "Bob")
        yield* tell("INSERT", "Cleo")
        let line = yield* Queue.take(lines)
        while (line.includes("Ada")) line = yield* Queue.take(lines)
        expect(line).toContain("a receipt for Cleo")
        yield* Fiber.interrupt(fiber)
      })
    ).pipe(Effect.provide(layer))
  )

  it.live("gaps.ts: reads the state again at a gap, and goes on", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const reloaded = yield* Queue.unbounded<void>()
        const fiber = yield* Effect.forkChild(follow(Queue.offer(reloaded, undefined)))
        const invalid = sql`select pg_notify('table_updates_orders', 'not json')`
        yield* invalid.pipe(
          Effect.andThen(Effect.sleep("20 millis")),
          Effect.repeat({ until: () => Queue.sizeUnsafe(reloaded) > 0 })
        )
        yield* sql`select pg_notify('table_updates_orders', ${update})`
        let line = yield* Queue.take(lines)
        while (!line.includes("INSERT")) line = yield* Queue.take(lines)
        expect(line).toContain("Ada")
        yield* Fiber.interrupt(fiber)
      })
    ).pipe(Effect.provide(layer))
  )

  it.live("transaction.ts: publishes at commit", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create table orders (id int primary key, status text)")
      yield* execute(url, "insert into orders values (1, 'new')")
      const listening = yield* PgNotificationSource.make().pipe(
        Effect.flatMap((source) => listenTo(source, Notices.name)),
        Effect.provide(PgClient.layer({ url: Redacted.make(url) }))
      )
      yield* ship(1)
      expect(yield* Queue.take(listening)).toContain("Order 1 shipped")
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  /** The layers of `layers.ts`, on a database with the table orders. */
  const durably = <A, E>(
    body: Effect.Effect<A, E, Layer.Success<typeof Durable> | QueryResults.QueryResults>
  ) =>
    Effect.gen(function* () {
      const { url } = yield* database
      yield* execute(url, "create table orders (id int primary key, customer text, status text)")
      return yield* body.pipe(
        Effect.provide(QueryResults.layer.pipe(Layer.provideMerge(Durable))),
        Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ DATABASE_URL: url })))
      )
    }).pipe(Effect.scoped)

  const order = PgClient.PgClient.use((sql) => sql`insert into orders values (1, 'Ada', 'new')`)

  it.live(
    "durable/layers.ts and ledger.ts: store each event as one row in the transaction of the cursor",
    () =>
      durably(
        Effect.gen(function* () {
          const sql = yield* PgClient.PgClient
          yield* sql`create table ledger (id text primary key)`
          const fiber = yield* Effect.forkChild(ledger)
          const consumers = sql`select from realtime.consumers where name = 'ledger'`
          const rows = sql`select from ledger`
          const untilRow = <A>(query: Effect.Effect<ReadonlyArray<A>, unknown>) =>
            query.pipe(Effect.repeat({ until: (found) => found.length === 1 }))
          yield* untilRow(consumers)
          yield* order
          yield* untilRow(rows)
          expect(yield* sql`select id from ledger`).toHaveLength(1)
          yield* Fiber.interrupt(fiber)
        })
      )
  )

  it.live("snapshot.ts: reads the state, then receives the events after it", () =>
    logged((lines) =>
      durably(
        Effect.gen(function* () {
          yield* order
          const fiber = yield* Effect.forkChild(readThenFollow)
          let line = yield* Queue.take(lines)
          while (!line.includes("orders now")) line = yield* Queue.take(lines)
          expect(line).toContain("1 orders now")
          yield* (yield* PgClient.PgClient)`update orders set status = 'shipped'`
          while (!line.includes("UPDATE")) line = yield* Queue.take(lines)
          expect(line).toContain("shipped")
          yield* Fiber.interrupt(fiber)
        })
      )
    )
  )

  it.live("report.ts: answers at once, and publishes the result on its channel", () =>
    durably(
      Effect.gen(function* () {
        const rows = [{ id: 1, customer: "Ada", status: "new" }]
        const { cursor } = yield* Realtime.snapshot(Effect.void)
        const id = yield* start("ada", Effect.succeed(rows))
        expect(QueryResults.isOwner("ada", id)).toBe(true)
        const answer: Channel.Payload<ReturnType<typeof DurableReport>> = {
          status: "completed",
          data: rows
        }
        const [event] = yield* Realtime.events(DurableReport(id), { from: cursor }).pipe(
          Stream.take(1),
          Stream.runCollect
        )
        expect(event).toMatchObject({ payload: answer })
      })
    )
  )

  it.live("answer.ts: publishes tokens in chunks, and the whole at the end", () =>
    durably(
      Effect.gen(function* () {
        const id = yield* answer("ada", Stream.make("one ", "two"))
        const events = yield* Realtime.events(Answer(id), { from: "oldest" }).pipe(
          Stream.takeUntil(
            (event) => event._tag === "Event" && event.payload.status === "completed"
          ),
          Stream.runCollect
        )
        expect(events.at(0)).toMatchObject({ payload: { status: "running" } })
        expect(events.at(-1)).toMatchObject({ payload: { status: "completed", data: "one two" } })
      })
    )
  )
})
