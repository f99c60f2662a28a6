/** Runs `examples/python/client.py` against real servers, through a relay that records frames and cuts sockets. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted, Schema } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { resolve } from "node:path"
import { WebSocket, WebSocketServer } from "ws"
import { Channel } from "effect-realtime"
import { RealtimeServer } from "effect-realtime/node"
import { closeCodes, subprotocol } from "../../src/Protocol.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { execute, installedDatabase } from "../support/database.ts"
import { python } from "../support/python.ts"
import { until } from "../support/until.ts"

const script = resolve(import.meta.dirname, "../../examples/python/client.py")

const Orders = Channel.make("orders", Schema.Struct({ id: Schema.Int }), { delivery: "durable" })
const Items = Channel.table("items", Schema.Struct({ id: Schema.Int, status: Schema.String }), {
  key: "id",
  filter: "status"
})

/** Its events lack the note where the row is too large. */
const Docs = Channel.table(
  "docs",
  Schema.Struct({ id: Schema.Int, note: Schema.optionalKey(Schema.String) }),
  { key: "id" }
)
const Room = Channel.presence("room", Schema.Struct({ name: Schema.String }))
const served = new Set(["orders", "room", "table_updates_docs", "table_updates_items"])

/** A node that serves `orders` to clients with a token, and pings after 1 s. */
const node = (url: string) =>
  Effect.gen(function* () {
    const http = createServer()
    const server = yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new RealtimeServer(http, url, {
            channels: [Orders, Items, Docs, Room],
            authenticate: ({ token = "" }) => ({ identity: token }),
            authorize: ({ channel }) => served.has(channel),
            limits: { pingInterval: "1 second" }
          })
      ),
      (server) =>
        Effect.promise(async () => {
          await server.close()
          http.close()
        })
    )
    yield* Effect.promise(() => server.ready)
    yield* Effect.promise(() => once(http.listen(0, "127.0.0.1"), "listening"))
    return { server, address: addressOf(http.address() as AddressInfo) }
  })

const addressOf = ({ port }: AddressInfo) => `ws://127.0.0.1:${port}/realtime`

/** A relay between a client and a node. */
const relay = (first: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const door = new WebSocketServer({ port: 0, host: "127.0.0.1" })
      await once(door, "listening")
      const between = {
        address: addressOf(door.address() as AddressInfo),
        target: first,
        /** The types of the client's frames. */
        sent: [] as Array<string>,
        subscribes: [] as Array<{ readonly cursor?: string }>,
        /** Whether the states of the server do not reach the client. */
        dropsStates: false,
        /** Frames with states that the server sent. */
        states: 0,
        clients: door.clients,
        close: () => {
          for (const client of door.clients) client.terminate()
          door.close()
        }
      }
      door.on("connection", (client) => {
        const early: Array<string> = []
        const server = new WebSocket(between.target, [subprotocol])
        client.on("message", (data: Buffer) => {
          const text = data.toString("utf8")
          const frame = JSON.parse(text) as { readonly type: string; readonly cursor?: string }
          between.sent.push(frame.type)
          if (frame.type === "subscribe") between.subscribes.push(frame)
          if (server.readyState === WebSocket.OPEN) server.send(text)
          else early.push(text)
        })
        client.on("close", () => server.terminate())
        server.on("open", () => early.forEach((text) => server.send(text)))
        server.on("message", (data: Buffer) => {
          const frames = data.toString("utf8").split("\n")
          const others = frames.filter((text) => !text.startsWith(`{"type":"state"`))
          const passed = between.dropsStates ? others : frames
          between.states += frames.length - others.length
          if (passed.length > 0) client.send(passed.join("\n"))
        })
        server.on("close", (code, reason) => client.close(code === 1006 ? 1011 : code, reason))
        server.on("error", () => undefined)
      })
      return between
    }),
    ({ close }) => Effect.sync(close)
  )

/** The client in its own process, and its printed lines. */
const client = (...args: ReadonlyArray<string>) => clientWith({}, ...args)

const presentAs = (token: string, address: string) =>
  clientWith(
    { REALTIME_TOKEN: token, REALTIME_PRESENT: JSON.stringify({ name: token }) },
    address,
    "room"
  )

const clientWith = (env: NodeJS.ProcessEnv, ...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(python!, ["-u", script, ...args], {
        env: { ...process.env, REALTIME_TOKEN: "ada", no_proxy: "*", ...env },
        stdio: ["ignore", "pipe", "pipe"]
      })
      let output = ""
      child.stdout.on("data", (data: Buffer) => (output += data.toString("utf8")))
      child.stderr.on("data", (data: Buffer) => (output += data.toString("utf8")))
      const lines = () => output.split("\n").filter((line) => line !== "")
      /** Waits for this last line. */
      const says = (line: string) =>
        until(() => lines().at(-1) === line).pipe(
          Effect.timeoutOrElse({
            duration: "20 seconds",
            orElse: () => Effect.fail(new Error(`"${line}" was not printed, but:\n${output}`))
          })
        )
      return { child, lines, says, exited: once(child, "exit") }
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

describe.skipIf(python === undefined)("client.py", () => {
  it.live("prints the rows inside its filter, then their changes, also after a cut and a gap", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const query = (statement: string) => execute(url, statement)
      yield* query("create table items (id int primary key, status text not null)")
      yield* Effect.provide(
        PgInstaller.install({ watch: [Items] }),
        PgClient.layer({ url: Redacted.make(url) })
      )
      yield* query("insert into items values (1, 'new'), (2, 'sent')")
      const between = yield* relay((yield* node(url)).address)
      const { lines, says } = yield* client(
        between.address,
        "table_updates_items",
        `{"status":["new"]}`
      )
      yield* says(`row {"id": 1, "status": "new"}`)
      yield* query("update items set status = 'new' where id = 2")
      const enters = `event {"operation": "INSERT", "data": {"id": 2, "status": "new"}, "key": {"id": 2}}`
      yield* says(enters)
      for (const socket of between.clients) socket.terminate()
      yield* query("update items set status = 'sent' where id = 1")
      const leaves = `event {"operation": "DELETE", "key": {"id": 1}}`
      yield* says(leaves)
      // In one transaction, so that every state behind the gap has the new rows.
      yield* query(
        "do $$ begin truncate items; insert into items values (3, 'new'), (4, 'sent'); end $$"
      )
      yield* until(() => lines().includes(`row {"id": 3, "status": "new"}`))
      expect(lines().slice(0, 6)).toEqual([
        "subscribed fresh",
        `row {"id": 1, "status": "new"}`,
        enters,
        "waiting 1006",
        "subscribed recovered",
        leaves
      ])
      expect(lines()[6]).toBe("gap truncate")
    })
  )

  it.live("goes on at the next node of its list when its node closes", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const nodes = [yield* node(url), yield* node(url)]
      const doors = yield* Effect.forEach(nodes, ({ address }) => relay(address))
      const { lines, says } = yield* client(doors.map(({ address }) => address).join(), "orders")
      yield* says("subscribed fresh")
      const first = doors.findIndex(({ sent }) => sent.length > 0)
      yield* Effect.promise(() => nodes[first]!.server.close())
      yield* until(() => doors[1 - first]!.sent.includes("subscribe"))
      yield* execute(url, `select realtime.publish('orders', '{"id":1}'::text)`)
      yield* says(`event {"id": 1}`)
      expect(lines()).toEqual([
        "subscribed fresh",
        "waiting 4000",
        "subscribed recovered",
        `event {"id": 1}`
      ])
    })
  )

  it.live(
    "resumes after a cut, a deploy and a revoke, receives each event once, and stops at 4202",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const one = yield* node(url)
        const two = yield* node(url)
        const between = yield* relay(one.address)
        const { exited, lines, says } = yield* client(between.address, "orders")
        const publish = (id: number) =>
          execute(url, `select realtime.publish('orders', '{"id":${id}}'::text)`)

        yield* says("subscribed fresh")
        yield* publish(1)
        yield* says(`event {"id": 1}`)
        yield* until(() => between.sent.includes("pong"))

        for (const socket of between.clients) socket.terminate()
        yield* publish(2)
        yield* says(`event {"id": 2}`)

        between.target = two.address
        yield* Effect.promise(() => one.server.close())
        yield* publish(3)
        yield* says(`event {"id": 3}`)

        two.server.revoke("ada")
        yield* publish(4)
        yield* says(`event {"id": 4}`)

        for (const socket of between.clients) socket.close(closeCodes.forbidden.code)
        yield* says("stopped 4202")
        expect(yield* Effect.promise(() => exited)).toEqual([0, null])
        expect(lines()).toEqual([
          "subscribed fresh",
          `event {"id": 1}`,
          "waiting 1006",
          "subscribed recovered",
          `event {"id": 2}`,
          "waiting 4000",
          "subscribed recovered",
          `event {"id": 3}`,
          "waiting 4101",
          "subscribed recovered",
          `event {"id": 4}`,
          "stopped 4202"
        ])
      })
  )

  it.live("prints the events before, then those that come", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const { address } = yield* node(url)
      const publish = (id: number) =>
        execute(url, `select realtime.publish('orders', '{"id":${id}}'::text)`)
      for (const id of [1, 2, 3]) yield* publish(id)
      const { lines, says } = yield* clientWith({ REALTIME_HISTORY: "2" }, address, "orders")
      yield* says(`before {"id": 3}`)
      yield* publish(4)
      yield* says(`event {"id": 4}`)
      expect(lines()).toEqual([
        "subscribed fresh",
        `before {"id": 2}`,
        `before {"id": 3}`,
        `event {"id": 4}`
      ])
    })
  )

  it.live(
    "waits for the state after the event of a row that is too large, also on a new socket",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const query = (statement: string) => execute(url, statement)
        yield* query("create table docs (id int primary key, note text not null)")
        yield* Effect.provide(
          PgInstaller.install({ watch: [{ channel: Docs, maxBytes: 100 }] }),
          PgClient.layer({ url: Redacted.make(url) })
        )
        const between = yield* relay((yield* node(url)).address)
        const { lines, says } = yield* client(between.address, "table_updates_docs", "{}")
        yield* until(() => between.states > 0)
        const cut = `event {"operation": "INSERT", "data": {"id": 1}, "key": {"id": 1}, "truncated": true}`
        const row = `row {"id": 1, "note": "${"a".repeat(200)}"}`
        // The socket ends before the state, so the client must not go on where it was.
        between.dropsStates = true
        yield* query("insert into docs values (1, repeat('a', 200))")
        yield* says(cut)
        between.dropsStates = false
        for (const socket of between.clients) socket.terminate()
        yield* says(row)
        // The server may send the state that it read within the last second, and then the event again.
        const again = lines().length > 5 ? [cut] : []
        const expected = [
          "subscribed fresh",
          cut,
          "waiting 1006",
          "subscribed fresh",
          ...again,
          row
        ]
        expect(lines()).toEqual(expected)
        expect(between.subscribes.map(({ cursor }) => cursor)).toEqual([undefined, undefined])
      })
  )

  it.live("prints the members of a presence channel, and is one of them", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const between = yield* relay((yield* node(url)).address)
      const ada = yield* presentAs("ada", between.address)
      yield* ada.says(`members 1 [{"name": "ada"}]`)
      const bob = yield* presentAs("bob", between.address)
      yield* bob.says(`members 2 [{"name": "ada"}, {"name": "bob"}]`)
      yield* ada.says(`members 2 [{"name": "ada"}, {"name": "bob"}]`)
      const before = bob.lines().length
      // Within the grace bob is a member all the time, and his new socket receives the whole list.
      for (const socket of between.clients) socket.terminate()
      yield* bob.says(`members 2 [{"name": "ada"}, {"name": "bob"}]`)
      yield* until(() => bob.lines().length > before + 2)
      expect(bob.lines().slice(before)).toEqual([
        "waiting 1006",
        "subscribed fresh",
        `members 2 [{"name": "ada"}, {"name": "bob"}]`
      ])
    })
  )

  it.live("stops with the server's sentence when the server rejects its subscribe", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const { address } = yield* node(url)
      const { exited, lines } = yield* client(address, "secrets")
      expect(yield* Effect.promise(() => exited)).toEqual([0, null])
      expect(lines()).toEqual([
        "error channel/unknown The server has no channel of this name.",
        "stopped 0"
      ])
    })
  )
})
