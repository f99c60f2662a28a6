/**
 * A follower brings one socket from a cursor to live: what it holds meanwhile is bounded per
 * session, no event is missed or sent twice, and nothing follows the end of the subscription.
 */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../../../src/Channel.ts"
import { Batch } from "../../../../src/server/internal/hub/batch.ts"
import type { Part } from "../../../../src/server/internal/outbox/catchUp.ts"
import { Subscriber } from "../../../../src/server/internal/session/subscriber.ts"
import { Mailbox } from "../../../../src/server/internal/session/mailbox.ts"
import { View, type ViewJoin } from "../../../../src/server/internal/hub/view.ts"
import type { Outgoing } from "../../../../src/server/internal/hub/outgoing.ts"
import { Sized, sizes } from "../../../support/messages.ts"

/** A session's mailbox over a socket that accepts nothing while `full`. */
const session = (limit: number) => {
  const sent: Array<{ readonly type: string; readonly channel: string; readonly cursor: string }> =
    []
  const state = { full: false, dropped: 0 }
  const subscribers = new Map<string, Subscriber>()
  const writeAll = (messages: ReadonlyArray<Outgoing>) => {
    sent.push(...messages.map(({ text }) => JSON.parse(text) as (typeof sent)[number]))
    return !state.full
  }
  const peer = {
    ...sizes,
    write: (message: Outgoing) => writeAll([message]),
    writeAll
  }
  const mailbox = new Mailbox(peer, limit, 1000)
  const port = {
    mailbox,
    dropped: () => void state.dropped++,
    unread: () => Effect.void
  }
  /** Resumes all channels that are behind. */
  const readOn = () => {
    let next
    while ((next = mailbox.nextBehind()) !== undefined) {
      const subscriber = subscribers.get(next[0])!
      subscriber.hold()
      Effect.runFork(Effect.andThen(subscriber.catchUp(next[1]), Effect.sync(readOn)))
    }
  }
  const drained = () => {
    if (mailbox.drained()) readOn()
  }
  return { mailbox, port, sent, state, subscribers, readOn, drained }
}

type Session = ReturnType<typeof session>

/** A channel of numbered events, one per tick; a join waits for the gate. */
const channel = ({ subscribers, port, readOn }: Session, name: string, bytes = 100) => {
  const events: Array<Batch> = []
  const state = {
    joins: 0,
    read: 0,
    missed: 0,
    gate: undefined as Deferred.Deferred<void> | undefined
  }
  const join = (from: string | undefined, part: Part | undefined): Effect.Effect<ViewJoin> =>
    Effect.gen(function* () {
      state.joins++
      state.missed = part?.missed.events ?? 0
      if (state.gate !== undefined) yield* Deferred.await(state.gate)
      const tick = events.length
      const start = from === undefined ? tick : Number(from.split(":")[1])
      const fits = Math.max(1, Math.ceil((part?.room ?? Infinity) / bytes))
      state.read += Math.min(fits, tick - start)
      return {
        state: from === undefined ? "fresh" : "recovered",
        cursor: `e:${start}`,
        tick,
        replay: events.slice(start, start + fits),
        more: start + fits < tick,
        bytes: 0
      } satisfies ViewJoin
    })
  const view = new View<never>(Channel.untyped(name), join, true)
  const subscriber = new Subscriber(view, port)
  subscribers.set(name, subscriber)
  return {
    state,
    subscriber,
    begin: (from?: string) => Effect.andThen(begin(subscriber, from), Effect.sync(readOn)),
    publish: (count: number) => {
      for (let n = 0; n < count; n++) {
        const tick = events.length + 1
        const json = JSON.stringify("x".repeat(bytes))
        const event = { id: `e:${tick}`, at: 0, payload: undefined, json, tx: undefined }
        const batch = new Batch(view, tick, `e:${tick - 1}`, `e:${tick}`, [event])
        events.push(batch)
        view.hand(batch)
      }
    }
  }
}

const begin = (subscriber: Subscriber, from?: string) =>
  Effect.flatMap(subscriber.join(from), (join) => subscriber.go(join))

const numbers = ({ sent }: Session, name: string) =>
  sent.flatMap(({ channel, cursor, type }) =>
    type === "events" && channel === name ? [Number(cursor.split(":")[1])] : []
  )

/** Bytes held in a mailbox of `limit` bytes that is empty, measured by what it can still hold. */
const heldIn = ({ mailbox }: Session, limit: number): number => {
  let [least, most] = [0, limit / 2]
  while (least < most) {
    const middle = Math.ceil((least + most) / 2)
    const fits = mailbox.hold(new Sized(middle)) > 0
    if (fits) mailbox.release(middle)
    if (fits) least = middle
    else most = middle - 1
  }
  return limit / 2 - least
}

/** Replays are sent in turns of the event loop: waits until those under way are sent. */
const steps = Effect.repeat(
  Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void))),
  { times: 30 }
)

const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1)

describe("A subscriber", () => {
  it.effect("a subscriber receives each event once, however long its join takes", () =>
    Effect.gen(function* () {
      const node = session(1e6)
      const { begin, publish, state } = channel(node, "a")
      publish(3)
      state.gate = yield* Deferred.make<void>()
      const beginning = yield* Effect.forkChild(begin("e:0"), { startImmediately: true })
      publish(3)
      expect(numbers(node, "a")).toEqual([])
      yield* Deferred.succeed(state.gate, undefined)
      yield* Fiber.join(beginning)
      publish(3)
      expect(numbers(node, "a")).toEqual(upTo(9))
      expect(state.joins).toBe(1)
    })
  )

  it.effect("the subscribers of a session together hold at most half of its mailbox limit", () =>
    Effect.gen(function* () {
      const node = session(100_000)
      const gate = yield* Deferred.make<void>()
      const all = upTo(20).map((n) => channel(node, `c${n}`, 1000))
      const beginning = yield* Effect.forEach(all, ({ begin, state }) => {
        state.gate = gate
        return Effect.forkChild(begin("e:0"), { startImmediately: true })
      })
      // 20 channels offer 50 events of 1 KB each: 1 MB, of which half of the 100 KB limit may be held.
      let most = 0
      for (let round = 0; round < 50; round++) {
        for (const { publish } of all) {
          publish(1)
          most = Math.max(most, heldIn(node, 100_000))
        }
      }
      expect(most).toBeGreaterThan(45_000)
      expect(most).toBeLessThanOrEqual(50_000)
      for (const { state } of all) state.gate = undefined
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.forEach(beginning, Fiber.join)
      yield* steps
      // A follower reads again what it could not hold, so that no event is missing.
      for (const { publish } of all) publish(1)
      for (const n of upTo(20)) expect(numbers(node, `c${n}`)).toEqual(upTo(51))
      // All held bytes are released.
      expect([heldIn(node, 100_000), node.state.dropped]).toEqual([0, 0])
      expect(all.some(({ state }) => state.joins > 1)).toBe(true)
    })
  )

  it.effect("a follower releases what it held when the subscriber leaves", () =>
    Effect.gen(function* () {
      const node = session(1e6)
      const { begin, subscriber, publish, state } = channel(node, "a")
      state.gate = yield* Deferred.make<void>()
      yield* Effect.forkChild(begin(), { startImmediately: true })
      publish(20)
      expect(heldIn(node, 1e6)).toBeGreaterThan(2000)
      subscriber.leave()
      expect(heldIn(node, 1e6)).toBe(0)
    })
  )

  it.effect("a follower sends nothing after its subscriber left, even with a read under way", () =>
    Effect.gen(function* () {
      const node = session(10_000)
      const { begin, subscriber, publish, state } = channel(node, "a")
      yield* begin()
      publish(3)
      state.gate = yield* Deferred.make<void>()
      const late = yield* Effect.forkChild(subscriber.catchUp("e:1"), { startImmediately: true })
      subscriber.leave()
      yield* Deferred.succeed(state.gate, undefined)
      yield* Fiber.join(late)
      yield* subscriber.catchUp("e:0")
      expect(numbers(node, "a")).toEqual(upTo(3))
    })
  )

  it.effect("a failing read is not retried after the subscriber left", () =>
    Effect.gen(function* () {
      const { port } = session(10_000)
      let joins = 0
      const view = new View<string>(
        Channel.untyped("a"),
        () =>
          Effect.suspend(() => {
            joins++
            return Effect.fail("the pool is out of order")
          }),
        true
      )
      const subscriber = new Subscriber(view, port)
      const reading = yield* Effect.forkChild(subscriber.catchUp("e:0"), { startImmediately: true })
      expect([joins, reading.pollUnsafe()]).toEqual([1, undefined])
      subscriber.leave()
      // Without time passing: others wait for the session's turn.
      yield* Fiber.join(reading)
      yield* TestClock.adjust("1 minute")
      expect(joins).toBe(1)
    })
  )

  it.effect("a replay larger than the mailbox passes through a full socket without a gap", () =>
    Effect.gen(function* () {
      const node = session(10_000)
      const { begin, publish, state } = channel(node, "a", 1000)
      publish(100)
      node.state.full = true
      yield* begin("e:0")
      expect(node.mailbox.bytes).toBeLessThanOrEqual(10_000)
      for (let round = 0; node.mailbox.blocked; round++) {
        // The socket accepts a slice and is full again.
        node.drained()
        if (round < 20) publish(1)
        yield* steps
      }
      expect(numbers(node, "a")).toEqual(upTo(120))
      // It is read in parts as large as the mailbox, each once, and the session is no slow consumer.
      expect(state.joins).toBeLessThan(30)
      expect(state.read).toBeLessThan(100 + 120 * 1.3)
      expect(node.state.dropped).toBe(0)
      expect(node.sent.filter(({ type }) => type === "gap")).toEqual([])
    })
  )

  it.effect(
    "a follower reports how many events it missed, whether the mailbox dropped or never held them",
    () =>
      Effect.gen(function* () {
        const node = session(10_000)
        const { begin, publish, state } = channel(node, "a", 1000)
        yield* begin()
        node.state.full = true
        publish(50)
        const received = () => numbers(node, "a").length
        /**
         * All waiting frames are written, and the follower has asked for a part that is not
         * answered yet.
         */
        const asked = Effect.fnUntraced(function* (joins: number) {
          const gate = Deferred.makeUnsafe<void>()
          state.gate = gate
          while (state.joins < joins) {
            node.drained()
            yield* steps
          }
          return Effect.andThen(Deferred.succeed(gate, undefined), steps)
        })
        const first = yield* asked(2)
        expect([received(), state.missed]).toEqual([9, 41])
        publish(30)
        yield* first
        const second = yield* asked(3)
        expect(received()).toBeGreaterThan(9)
        expect(state.missed).toBe(80 - received())
        state.gate = undefined
        yield* second
        while (node.mailbox.blocked) {
          node.drained()
          yield* steps
        }
        expect(numbers(node, "a")).toEqual(upTo(80))
        // A follower that has caught up counts from 0 again.
        publish(50)
        yield* asked(state.joins + 1)
        expect(state.missed).toBe(130 - received())
      })
  )

  it.effect(
    "a follower with a full socket and a full session asks once and again after the socket drains",
    () =>
      Effect.gen(function* () {
        const node = session(10_000)
        const { begin, publish, state } = channel(node, "a", 1000)
        const other = channel(node, "b", 9000)
        yield* other.begin()
        node.state.full = true
        other.publish(2)
        state.gate = yield* Deferred.make<void>()
        const beginning = yield* Effect.forkChild(begin("e:0"), {
          startImmediately: true
        })
        publish(5)
        yield* Deferred.succeed(state.gate, undefined)
        yield* Fiber.join(beginning)
        expect([state.joins, numbers(node, "a")]).toEqual([1, []])
        node.state.full = false
        node.drained()
        yield* steps
        expect([state.joins, numbers(node, "a")]).toEqual([2, upTo(5)])
      })
  )
})
