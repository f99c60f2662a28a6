/**
 * A routed table from SQL to a page: the server serves the family, a route receives its own rows and the
 * gaps of its whole table, and resumes exactly; an install of the version before is upgraded in place.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, Option, Queue, Redacted, Result, Schema, Stream } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import { createServer } from "node:http"
import * as Path from "node:path"
import * as Channel from "../../src/Channel.ts"
import * as RealtimeClient from "../../src/client/RealtimeClient.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { schemaVersion } from "../../src/server/internal/sql/schema.ts"
import { Address, address } from "../support/app.ts"
import { execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { layerReader, layerReaderOnly, session } from "./support/durable.ts"
import { script } from "./support/script.ts"

const Row = Schema.Struct({ id: Schema.Int, room: Schema.NullOr(Schema.String) })
const Messages = Channel.table("messages", Row, { key: "id", by: "room" })

/** A server of this table on the database of a test. */
const layerServer = HttpRouter.serve(
  RealtimeServer.layer({
    channels: [Messages],
    authorize: ({ params }) => Effect.succeed(params !== "closed")
  }),
  { disableListenLog: true, disableLogger: true }
).pipe(
  Layer.merge(address),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(Realtime.layerDurable())
)

const layerClient = Layer.unwrap(Address.useSync(({ ws }) => RealtimeClient.layer({ url: ws })))

type Item = { readonly _tag: string }

const lineOf = (item: Item): string => {
  const { payload, reason } = item as Item & {
    readonly payload?: { readonly operation: string; readonly data: { readonly id: number } }
    readonly reason?: string
  }
  return reason === undefined ? `${payload!.operation} ${payload!.data.id}` : `gap ${reason}`
}

describe("A routed table that a server serves", () => {
  it.live(
    "a client of a route receives its rows, moves and the gap of a TRUNCATE, and resumes",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table messages (id int primary key, room text)`
        yield* PgInstaller.watch(Messages)
        const client = yield* RealtimeClient.RealtimeClient
        const { cursor } = yield* Realtime.snapshot(sql`select 1`)
        const lines = yield* Queue.unbounded<string>()
        yield* client.events(Messages("a"), { from: cursor }).pipe(
          Stream.runForEach((item) => Queue.offer(lines, lineOf(item))),
          Effect.forkScoped
        )
        yield* sql`insert into messages values (1, 'a'), (2, 'b'), (3, null)`
        yield* sql`update messages set room = 'a' where id = 2`
        yield* sql`update messages set room = 'b' where id = 1`
        yield* sql`truncate messages`
        yield* sql`insert into messages values (4, 'b'), (5, 'a')`
        const expected = ["INSERT 1", "INSERT 2", "DELETE 1", "gap truncate", "INSERT 5"]
        expect(yield* Queue.takeN(lines, 5)).toEqual(expected)
        // A later client and a Stream of the process read them from the table.
        const again = yield* client
          .events(Messages("a"), { from: cursor })
          .pipe(Stream.take(5), Stream.runCollect)
        expect(again.map(lineOf)).toEqual(expected)
        const own = yield* Realtime.events(Messages("b"), { from: cursor }).pipe(
          Stream.take(5),
          Stream.runCollect
        )
        expect(own.map(lineOf)).toEqual([
          "INSERT 2",
          "DELETE 2",
          "INSERT 1",
          "gap truncate",
          "INSERT 4"
        ])
        // A gap of the table reaches all of its routes.
        yield* sql`select realtime.tell_gap('table_updates_messages')`
        expect(yield* Queue.take(lines)).toBe("gap source")
      }).pipe(
        Effect.scoped,
        Effect.provide(layerClient),
        Effect.provide(layerServer),
        Effect.provide(layerReader())
      )
  )

  it.live("the table itself, a value that no route has and one without right are rejected", () =>
    Effect.gen(function* () {
      const client = yield* RealtimeClient.RealtimeClient
      const refused = (channel: Channel.Channel<unknown>) =>
        Effect.flip(Stream.runDrain(client.events(channel)))
      expect(yield* Effect.flip(Stream.runDrain(client.events(Messages("a b"))))).toMatchObject({
        _tag: "InvalidChannelName"
      })
      const codes = yield* Effect.forEach(
        [
          "table_updates_messages",
          "table_updates_messages:",
          "table_updates_messages:a:b",
          "table_updates_messages:closed"
        ],
        (name) =>
          Effect.map(
            refused(Channel.untyped(name)),
            (error) => (error as { readonly code?: string }).code
          )
      )
      expect(codes).toEqual([
        "channel/unknown",
        "channel/unknown",
        "channel/unknown",
        "channel/forbidden"
      ])
    }).pipe(
      Effect.scoped,
      Effect.provide(layerClient),
      Effect.provide(layerServer),
      Effect.provide(layerReader())
    )
  )
})

describe("A route whose value its column cannot have", () => {
  const Owned = Schema.Struct({ id: Schema.Int, owner: Schema.String })
  const Docs = Channel.table("docs", Owned, { key: "id", by: "owner" })
  const layerDocs = HttpRouter.serve(
    RealtimeServer.layer({ channels: [Docs], authorize: RealtimeServer.allowAll }),
    { disableListenLog: true, disableLogger: true }
  ).pipe(
    Layer.merge(address),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
    Layer.provideMerge(Realtime.layerDurable())
  )

  it.live("is refused with the state, for good, and the node logs nothing", () => {
    const logged: Array<string> = []
    return Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table docs (id int primary key, owner uuid)`
      yield* PgInstaller.watch(Docs)
      const client = yield* RealtimeClient.RealtimeClient
      const channel = Docs("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11")
      expect(
        yield* client.rows(channel).pipe(
          Stream.filterMap(({ error }) =>
            error === undefined ? Result.failVoid : Result.succeed(error)
          ),
          Stream.runHead,
          Effect.map(Option.getOrThrow)
        )
      ).toMatchObject({ code: "channel/invalid-name", retry: "never" })
      expect(yield* Effect.flip(Stream.runDrain(Realtime.rows(channel)))).toMatchObject({
        _tag: "InvalidChannelName"
      })
      expect(logged).toEqual([])
    }).pipe(
      Effect.scoped,
      Effect.provide(layerClient),
      Effect.provide(layerDocs),
      Effect.provide(layerReader()),
      Effect.provide(
        Logger.layer([
          Logger.make(({ logLevel, message }) => {
            if (logLevel === "Error") logged.push(String(message))
          })
        ])
      )
    )
  })
})

describe("An install of version 3", () => {
  const version3 = Fs.readFileSync(Path.join(import.meta.dirname, "support/version3.sql"), "utf8")

  it.live("an upgrade keeps messages, cursors and watched tables, and adds routes", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const role = `node_${randomBytes(4).toString("hex")}`
      const run = (text: string) => execute(url, text)
      yield* script(yield* session, version3)
      yield* run("create table messages (id int primary key, room text)")
      yield* run("select realtime.watch('messages', delivery => 'durable')")
      yield* run("insert into messages values (1, 'a')")
      yield* run(`create role ${role}`)
      yield* Effect.addFinalizer(() =>
        Effect.ignore(run(`drop owned by ${role}`)).pipe(
          Effect.andThen(Effect.ignore(run(`drop role ${role}`)))
        )
      )
      yield* run(`grant execute on function realtime.prune(int) to ${role}`)
      const before = yield* run(
        "select oid, tgname from pg_trigger where tgrelid = 'messages'::regclass order by 1"
      )
      const [settings] = yield* run("select token, identity, origin from realtime.settings")
      const connected = PgClient.layer({ url: Redacted.make(url) })
      yield* Effect.provide(PgInstaller.install(), connected)
      expect(yield* run("select version from realtime.settings")).toEqual([
        { version: schemaVersion }
      ])
      expect(yield* run("select token, identity, origin from realtime.settings")).toEqual([
        settings
      ])
      // The triggers are the same ones, so the install did not lock the table for them.
      expect(
        yield* run(
          "select oid, tgname from pg_trigger where tgrelid = 'messages'::regclass order by 1"
        )
      ).toEqual(before)
      yield* run("insert into messages values (2, 'a')")
      expect(
        yield* run("select channel, match, id::int from realtime.messages m order by m.id")
      ).toEqual([
        { channel: "table_updates_messages", match: null, id: 1 },
        { channel: "table_updates_messages", match: null, id: 2 }
      ])
      expect(
        yield* run(`select has_function_privilege('${role}', 'realtime.unrouted()', 'execute') may`)
      ).toEqual([{ may: true }])
      yield* Effect.gen(function* () {
        const reader = yield* OutboxReader.OutboxReader
        const { cursor } = yield* reader.join("table_updates_messages", undefined)
        yield* Effect.provide(PgInstaller.install({ watch: [Messages] }), connected)
        yield* run("insert into messages values (3, 'a')")
        yield* reader.position
        yield* reader.routed("table_updates_messages")
        const join = yield* reader.join("table_updates_messages:a", cursor)
        expect(join.state).toBe("recovered")
        expect(join.replay.flatMap(({ events }) => events.map(({ text }) => text))).toEqual([
          '{"operation":"INSERT","data":{"id":3,"room":"a"},"key":{"id":3}}'
        ])
      }).pipe(Effect.scoped, Effect.provide(layerReaderOnly()), Effect.provide(connected))
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )
})
