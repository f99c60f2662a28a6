/**
 * An install in a schema of another name: its objects, its readers, and the wakes of the readers.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Queue, Ref, Schema, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import { inSchema } from "../../src/server/internal/sql/schemaName.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { layerDatabase } from "../support/database.ts"
import { quick } from "./support/durable.ts"

const Orders = Channel.tableUpdates("orders", Schema.Struct({ id: Schema.Int }), {
  delivery: "durable"
})
const Room = Channel.make("room", Schema.String, { delivery: "durable" })

/** Our names that are no schema: the transition tables, the mark, reserved channels. */
const ours =
  /effect-realtime|realtime_(?:old|new)|"realtime \w+"|'realtime:?'|'realtime:\w+'|tables? of realtime/g

const layerOthers = (schema: string) =>
  Realtime.layer().pipe(
    Layer.provideMerge([
      PgNotificationSource.layer(),
      OutboxReader.layer({ ...quick, schema, idleInterval: "1 minute" })
    ])
  )

describe("The option schema", () => {
  it.live("an install, its readers, wakes and consumers all work in a schema of another name", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key)`
      // Another install stands beside, which must receive and hold no message.
      yield* PgInstaller.install()
      yield* PgInstaller.install({ schema: "events", watch: [{ channel: Orders }] })
      yield* PgInstaller.watch(
        { channel: "by_statement", table: "orders", level: "statement" },
        { schema: "events" }
      )
      yield* Effect.gen(function* () {
        const told = yield* Queue.unbounded<unknown>()
        const { cursor } = yield* Realtime.snapshot(sql`select * from orders`)
        for (const channel of [Orders, Room] as ReadonlyArray<Channel.Channel<unknown>>) {
          yield* Realtime.events(channel, { from: cursor }).pipe(
            Stream.runForEach((event) =>
              Queue.offer(told, event._tag === "Event" ? event.payload : event)
            ),
            Effect.forkChild
          )
        }
        const consumed = yield* Ref.make(0)
        const consumer = yield* Effect.forkChild(
          Realtime.consume(Orders, {
            name: "counter",
            start: "oldest",
            onEvents: (events) => Ref.update(consumed, (n) => n + events.length)
          })
        )
        // The reader sleeps for a minute: only a wake of its own schema delivers these in time.
        yield* sql`insert into orders values (1)`
        yield* Realtime.publish(Room, "hello")
        expect(yield* Queue.takeN(told, 2)).toEqual(
          expect.arrayContaining([
            expect.objectContaining({ operation: "INSERT", data: { id: 1 } }),
            "hello"
          ])
        )
        yield* Effect.repeat(Ref.get(consumed), { until: (n) => n === 1 })
        yield* Fiber.interrupt(consumer)
        yield* PgInstaller.check
      }).pipe(Effect.provide(layerOthers("events")))
      expect(
        yield* sql`select name from events.consumers union all select channel from realtime.messages where channel <> 'realtime'`
      ).toEqual([{ name: "counter" }])
      // No installed object names another schema.
      const texts = yield* sql<{ readonly text: string }>`
        select pg_get_functiondef(p.oid) as text from pg_proc p where p.pronamespace = 'events'::regnamespace
        union all select pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid
          where c.relnamespace = 'events'::regnamespace or t.tgrelid = 'orders'::regclass`
      const foreign = texts.flatMap(
        ({ text }) => text.replaceAll(ours, "").match(/.*realtime.*/g) ?? []
      )
      expect(foreign).toEqual([])
      yield* Effect.provideService(PgInstaller.uninstall, PgInstaller.SchemaName, "events")
      expect(
        yield* sql`select nspname from pg_namespace where nspname in ('events', 'realtime')`
      ).toEqual([{ nspname: "realtime" }])
      yield* sql`insert into orders values (2)`
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )

  it.live("a schema name that would need quotes is rejected before any statement is sent", () =>
    Effect.gen(function* () {
      for (const schema of ["", "Events", "a b", "pg_events", "1a", "x".repeat(32), 'a"; drop']) {
        expect(yield* Effect.flip(PgInstaller.install({ schema }))).toMatchObject({
          _tag: "InvalidSchemaName"
        })
        expect(() => PgInstaller.sql({ schema })).toThrow("has no plain name")
      }
    }).pipe(Effect.provide(layerDatabase))
  )

  it("the schema name does not replace channels and tables of the user", () => {
    const text = PgInstaller.sql({
      schema: "events",
      watch: [{ channel: "realtime_x", table: { schema: "realtime", name: "realtime.y" } }]
    })
    expect(text).toContain("format('%I.%I', 'realtime', 'realtime.y')")
    expect(text).toContain("select events.watch(")
    expect(inSchema("events", "select realtime.publish($1)")).toBe("select events.publish($1)")
  })
})
