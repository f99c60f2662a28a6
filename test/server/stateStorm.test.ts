/** How many statements 1,000 subscribers of one view cost on real PostgreSQL when they come at once. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import { decodeServerFrame, type ServerFrame } from "../../src/Frame.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import type { Outgoing } from "../../src/server/internal/hub/outgoing.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { TestDoor, Visitor } from "../support/sessions.ts"
import { until } from "../support/until.ts"
import { layerInstalled, layerReaderOnly } from "./support/durable.ts"
import { long } from "./support/random.ts"
import { layerCounted } from "./support/pool.ts"

const Order = Schema.Struct({ id: Schema.Int, status: Schema.String, team: Schema.String })
const Orders = Channel.table("orders", Order, { key: "id", filter: "status", boundary: "team" })
const channel = Orders.name

/** A client's end of a socket. Frames that many sockets receive are decoded once. */
class Guest extends Visitor {
  static readonly decoded = new WeakMap<Outgoing, ServerFrame>()

  override write(message: Outgoing): boolean {
    const frame = Guest.decoded.get(message) ?? decodeServerFrame(message.text)!
    Guest.decoded.set(message, frame)
    this.frames.push(frame)
    return true
  }
}

const subscribers = 1000
const rows = long ? 1000 : 200

describe("1,000 subscribers of a view", () => {
  const asked: Array<string> = []
  /** What the node asks by itself, however many subscribers there are. */
  const upkeep = /realtime\.(?:upkeep|prune|look)\(/
  const layer = Layer.effect(
    TestDoor,
    Door.make({
      channels: [Orders],
      authorize: () => Effect.succeed({ where: { team: "a" } }),
      // A storm follows another one here at once, and not in a second.
      limits: { authorizeRate: { perSecond: 100_000, burst: 100_000 } }
    })
  ).pipe(
    Layer.provide(Realtime.layer()),
    Layer.provide(MemorySource.layer),
    Layer.provide(layerReaderOnly()),
    Layer.provide(layerCounted((text) => void (upkeep.test(text) || asked.push(text))))
  )

  it.live(
    "with a state cost at most 5 statements, also when they come again at once",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table orders (id int primary key, status text not null, team text not null)`
        yield* PgInstaller.watch(Orders)
        yield* sql`insert into orders select n, 'new', 'a' from generate_series(1, ${rows}) n`
        yield* sql`insert into orders values (0, 'new', 'b')`
        yield* Effect.gen(function* () {
          const door = yield* TestDoor
          /** All connect and subscribe at once, and are answered. Counts the statements. */
          const come = (
            count: number,
            cursor: string | undefined,
            complete: (visitor: Visitor) => boolean,
            statusOf: (index: number) => string = () => "new"
          ) =>
            Effect.gen(function* () {
              asked.length = 0
              const visitors = Array.from({ length: count }, (_, index) => {
                const visitor = new Guest(true)
                visitor.listen(door.accept(visitor, { headers: {}, address: "203.0.113.7" }))
                visitor.send({ type: "hello", version: 1 })
                const where = { status: statusOf(index) }
                visitor.send({ type: "subscribe", id: 1, channel, where, state: true, cursor })
                return visitor
              })
              const incomplete = () => visitors.find((visitor) => !complete(visitor))
              yield* until(() => incomplete() === undefined || incomplete()!.errors.length > 0)
              expect(incomplete()?.frames).toBeUndefined()
              return visitors
            })
          const leave = (visitors: ReadonlyArray<Visitor>) => {
            for (const visitor of visitors) visitor.leave()
          }
          const hasState = (visitor: Visitor) => {
            const states = visitor.of("state")
            return (
              states.at(-1)?.more === false &&
              states.reduce((sum, state) => sum + state.rows.length, 0) >= rows
            )
          }
          const isCheap = () => expect(asked.length).toBeLessThanOrEqual(5)

          const again = (visitor: Visitor) => visitor.last("state")?.more === false
          // The node looks at the table when it opens the channel. Others have no use for the state of this view.
          leave(yield* come(1, undefined, again, () => "gone"))
          expect(asked.some((text) => text.includes("realtime.state("))).toBe(true)
          const first = yield* come(subscribers, undefined, hasState)
          expect(asked.some((text) => text.includes("realtime.state("))).toBe(true)
          isCheap()
          yield* sql`update orders set status = 'sent' where id = 1`
          yield* until(() => first.every((visitor) => visitor.of("events").length > 0))
          isCheap()
          leave(first)

          // They resume, and receive what was written since.
          yield* sql`update orders set status = 'sent' where id <= 100`
          const { cursor } = first[0]!.last("events")!
          leave(yield* come(subscribers, cursor, (visitor) => visitor.of("events").length > 0))
          isCheap()

          // Positions that are not honoured: the state again for all.
          leave(yield* come(subscribers, "1:1", again))
          isCheap()

          // The same for all of 50 filters: each costs one state.
          const views = 50
          const statusOf = (index: number) => (index % views === 0 ? "new" : `s${index % views}`)
          leave(yield* come(subscribers, "1:1", again, statusOf))
          expect(asked.length).toBeLessThanOrEqual(5 * views)
        }).pipe(Effect.provide(layer))
      }).pipe(Effect.scoped, Effect.provide(layerInstalled())),
    60_000
  )
})
