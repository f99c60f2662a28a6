/**
 * The law of joining: whatever commits, joins, leaves and breaks off, in whatever order, each listener
 * receives exactly the events that its position lacks, once, or a gap; and never a gap because of the
 * position of another listener.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Channel } from "effect-realtime"
import * as Cursor from "../../src/internal/cursorText.ts"
import type { RealtimeEvent } from "../../src/RealtimeEvent.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"
import * as Outbox from "./support/outbox.ts"

const Orders = Channel.make(Outbox.channel, Schema.Finite)

const joins = ["fresh", "newest", "old", "told", "forgotten", "live", "elsewhere"] as const

const Numbers = Schema.Literals([0, 1, 2, 3, 5, 8])
const Commits = Schema.Literals([
  "begin",
  "commit",
  "commit",
  "rollback",
  "write",
  "write",
  "write elsewhere",
  "snapshot"
])
const Wire = Schema.Literals(["tick", "tick", "hear", "say", "say"])
const Rest = Schema.Literals(["hear", "leave", "wait", "refuse", "end", "drop"])

/** What may happen. */
const Step = Schema.Union([
  Schema.Struct({ does: Commits, n: Numbers }),
  Schema.Struct({ does: Commits, n: Numbers }),
  Schema.Struct({ does: Wire, n: Numbers }),
  Schema.Struct({ does: Wire, n: Numbers }),
  Schema.Struct({ does: Rest, n: Numbers }),
  Schema.Struct({ join: Schema.Literals(joins), n: Numbers })
])
type Step = typeof Step.Type

/** A listener, and what it must have been told. */
const listener = (outbox: Outbox.Outbox, from: string | undefined, gapsAllowed: number) => {
  /** The ids that it has; `undefined` until a fresh listener receives its position. */
  let has: Set<number> | undefined
  const isDurable = from?.startsWith(`2.${Outbox.identity}.`) === true
  if (isDurable) has = new Set(outbox.behind(from!))
  const self = {
    gapsAllowed,
    gaps: 0,
    events: 0,
    active: false,
    cursors: [] as Array<string>,
    get has() {
      return [...(has ?? [])].toSorted((a, b) => a - b)
    },
    listener: {
      onEvents: (batch: ReadonlyArray<RealtimeEvent<number>>) => {
        self.active = true
        let previous = 0
        for (const event of batch) {
          if (event._tag === "Gap") {
            self.gaps++
            has = new Set(outbox.behind(event.cursor))
            continue
          }
          assert.isDefined(has, "an event before the position")
          assert.isFalse(has!.has(event.payload), `event ${event.id} twice`)
          assert.isAbove(event.payload, previous, "in order")
          previous = event.payload
          has!.add(event.payload)
          self.events++
        }
        const { cursor } = batch.at(-1)!
        assert.isDefined(cursor)
        at(cursor!)
      },
      onCursor: (cursor: string) => {
        self.active = true
        has ??= new Set(outbox.behind(cursor))
        at(cursor)
      },
      onInactive: () => {
        self.active = false
      },
      onEnd: (error: unknown) => assert.fail(String(error))
    }
  }
  const at = (cursor: string) => {
    assert.deepStrictEqual(self.has, outbox.behind(cursor), "what it has and where it stands")
    self.cursors.push(cursor)
  }
  return self
}

describe("joining a channel that is open", () => {
  const seed = 14
  const count = { joins: 0, drops: 0, subscribes: 0, midway: 0, gaps: 0, events: 0 }
  it.effect.prop(
    `tells each listener what is not in its position, once (seed ${seed})`,
    { steps: Schema.Array(Step).check(Schema.isMinLength(60), Schema.isMaxLength(120)) },
    ({ steps }) =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const outbox = Outbox.make(server)
        const client = yield* Client.make(server, {
          linger: 4,
          backoff: { initial: 2, cap: 2, first: 2, resetAfter: 10_000 }
        })
        const snapshots = [outbox.snapshot()]
        const members: Array<{
          readonly self: ReturnType<typeof listener>
          readonly stop: () => void
        }> = []
        const pick = <A>(list: ReadonlyArray<A>, n: number) =>
          list[list.length - 1 - (n % list.length)]
        const fromOf = (join: (typeof joins)[number], n: number) => {
          const told = members.flatMap(({ self }) => self.cursors)
          switch (join) {
            case "fresh":
              return undefined
            case "newest":
              return outbox.snapshot()
            case "old":
              return pick(snapshots, n)
            case "told":
              return pick(told, n) ?? outbox.snapshot()
            case "forgotten":
              return outbox.forget(pick(snapshots, n)!)
            case "live":
              return `e:${n}`
            case "elsewhere":
              return outbox.snapshot().replace(Outbox.identity, "BBBBBBBB")
          }
        }
        const take = Effect.fnUntraced(function* (step: Step) {
          if ("join" in step) {
            const from = fromOf(step.join, step.n)
            const bad = step.join === "live" || step.join === "elsewhere"
            const mayMiss = bad || (from !== undefined && outbox.isForgotten(from))
            const self = listener(outbox, from, mayMiss ? 1 : 0)
            members.push({ self, stop: client.sync.listen(Orders, self.listener, from) })
            count.joins++
          } else {
            const { n } = step
            switch (step.does) {
              case "begin":
                return outbox.begin()
              case "commit":
                return outbox.over(n, false)
              case "rollback":
                return outbox.over(n, true)
              case "write":
                return outbox.write(n, Outbox.channel)
              case "write elsewhere":
                return outbox.write(n, "other")
              case "snapshot":
                return void snapshots.push(outbox.snapshot())
              case "leave":
                return members.splice(n % Math.max(1, members.length), 1)[0]?.stop()
              case "wait":
                return yield* TestClock.adjust(n)
              case "drop":
                if (server.sockets.length === 0 || server.last.readyState !== 1) return
                outbox.drop()
                return yield* TestClock.adjust(n)
              default:
                return outbox[step.does]()
            }
          }
        })
        for (const step of steps) {
          yield* take(step)
          yield* TestClock.adjust(1)
        }
        // Everything that is under way ends.
        const isDone = () =>
          members.every(({ self }) => self.active && self.has.length === outbox.committed.length)
        for (let i = 0; i < 60 && (i < 3 || !isDone()); i++) {
          while (outbox.running > 0) outbox.over(0, false)
          for (let page = 0; page < 20; page++) outbox.tick()
          while (outbox.requests.length > 0) outbox.hear()
          while (outbox.frames.length > 0) outbox.say()
          yield* TestClock.adjust(4)
        }
        count.drops += server.sockets.length - 1
        count.subscribes += server.sent.filter(({ type }) => type === "subscribe").length
        count.midway += members.flatMap(({ self }) =>
          self.cursors.filter((cursor) => Cursor.readDurable(cursor)?.position.next !== undefined)
        ).length
        for (const { stop } of members) stop()
        for (const { self } of members) {
          assert.deepStrictEqual(self.has, outbox.committed)
          assert.isTrue(self.active)
          assert.isAtMost(self.gaps, self.gapsAllowed)
          count.gaps += self.gaps
          count.events += self.events
        }
      }),
    { arbitrary: { runs: 200, seed, size: 120 } }
  )

  it("happens often in these", () => {
    assert.isAbove(count.joins, 2000)
    assert.isAbove(count.drops, 300)
    // More than each session and each of its joins would ask for alone.
    assert.isAbove(count.subscribes, 900)
    assert.isAbove(count.midway, 400)
    assert.isAbove(count.events, 2000)
    assert.isAbove(count.gaps, 400)
  })
})
