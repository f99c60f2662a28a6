/** How long ago a fed node stood at the present, as the reader of its ticks and its own session tell it. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Duration, Effect } from "effect"
import { TestClock } from "effect/testing"
import type { Feed, FeedCarrier, Receiver } from "../../../../src/server/FeedCarrier.ts"
import * as Feeding from "../../../../src/server/internal/feed/feeding.ts"
import { Leases } from "../../../../src/server/internal/outbox/lease.ts"
import { Pace } from "../../../../src/server/internal/outbox/lookSchedule.ts"
import { turns } from "../../../support/until.ts"
import { type Frame, Host, identity, Reader, Table } from "./feedModel.ts"

/** Between two looks of the reader. */
const beat = 250

/** A node in a feed that the test carries, with a session that the test may hang. */
const fedNode = Effect.gen(function* () {
  const table = new Table()
  const host = new Host(table)
  const { followers, tail } = host
  const clock = yield* Clock.Clock
  const seconds = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e9
  let present = seconds()
  followers.onPresent = () => {
    present = seconds()
  }
  followers.add("a", { offer: () => undefined })

  let receiver: Receiver | undefined
  const feed: Feed = {
    isUp: () => true,
    maxBytes: () => 1_000_000,
    sendTick: () => undefined,
    sendPage: () => undefined,
    follow: () => undefined,
    leave: () => undefined
  }
  const carrier: FeedCarrier["Service"] = {
    join: (_, given) =>
      Effect.sync(() => {
        receiver = given
        return feed
      })
  }
  const feeding = yield* Feeding.make(carrier, {
    tail: () => tail,
    followers,
    leases: new Leases({ name: "a", incarnation: "1" }, Duration.seconds(1)),
    pace: yield* Pace.make({ busy: 5, idle: undefined })
  })
  yield* feeding.opened(identity)

  const session = { hangs: false, hangsWithin: false, looks: 0, repairs: 0 }
  yield* Effect.gen(function* () {
    const next = yield* feeding.pause(Effect.sleep(1000), () => false)
    if (next === "rest") return
    if (next === "look") session.looks++
    else session.repairs++
    while (session.hangs) yield* Effect.sleep(10)
    const end = next === "look" ? table.take() : next
    for (const look of table.pages(tail.position, end, followers.channels, 3)) {
      followers.look(tail, look, 0)
      if (session.hangsWithin) yield* Effect.never
    }
  }).pipe(Effect.forever, Effect.forkScoped)

  const receive = (frames: ReadonlyArray<Frame>): void => {
    for (const { channel, text } of frames) {
      if (channel === undefined) receiver?.tick(text)
      else if (channel === "a") receiver?.page(text)
    }
  }
  /** Passes that time, and returns the longest lag in it. */
  const pass = (millis: number, each: () => void = () => undefined) =>
    Effect.gen(function* () {
      let most = 0
      for (let at = 0; at < millis; at += beat) {
        each()
        yield* turns(10)
        yield* TestClock.adjust(beat)
        most = Math.max(most, seconds() - present)
      }
      return most
    })
  const write = (channel: string): void => {
    const tx = table.begin()
    table.write(tx, channel, false)
    table.end(tx, true)
  }
  const reader = new Reader(table, "1.r", 1, 3)
  return {
    beats: () => receive(reader.look()),
    lag: () => seconds() - present,
    pass,
    reader,
    receive,
    session,
    table,
    tail,
    write
  }
})

const ticksOnly = (frames: ReadonlyArray<Frame>) =>
  frames.filter(({ channel }) => channel === undefined)

describe("The lag of a node that is fed", () => {
  it.effect("stays below a second while nothing is written, and the node reads nothing", () =>
    Effect.gen(function* () {
      const { beats, pass, session } = yield* fedNode
      beats()
      yield* pass(1000, beats)
      const { looks } = session
      expect(yield* pass(600_000, beats)).toBeLessThanOrEqual(beat / 1000)
      expect(session).toMatchObject({ looks, repairs: 0 })
    }).pipe(Effect.scoped)
  )

  it.effect("stays below a second under load, also where pages are lost", () =>
    Effect.gen(function* () {
      const { pass, reader, receive, session, write } = yield* fedNode
      let n = 0
      const most = yield* pass(60_000, () => {
        for (const channel of ["a", "b", "a", "a", "a"]) write(channel)
        const frames = reader.look()
        receive(n++ % 3 === 0 ? ticksOnly(frames) : frames)
      })
      expect(most).toBeLessThan(1)
      expect(session.repairs).toBeGreaterThan(10)
    }).pipe(Effect.scoped)
  )

  it.effect(
    "grows while the node can apply no tick, and is over when it has read what it missed",
    () =>
      Effect.gen(function* () {
        const { beats, lag, pass, reader, receive, session, write } = yield* fedNode
        yield* pass(1000, beats)
        session.hangs = true
        write("a")
        receive(ticksOnly(reader.look()))
        yield* pass(20_000, beats)
        expect(lag()).toBeGreaterThan(20)
        session.hangs = false
        yield* pass(beat, beats)
        expect(lag()).toBeLessThanOrEqual(beat / 1000)
      }).pipe(Effect.scoped)
  )

  it.effect("grows while neither the reader nor PostgreSQL says anything", () =>
    Effect.gen(function* () {
      const { beats, lag, pass, session } = yield* fedNode
      yield* pass(1000, beats)
      // The node reads for itself when no tick arrives.
      expect(yield* pass(10_000)).toBeLessThan(2.5)
      session.hangs = true
      yield* pass(20_000)
      expect(lag()).toBeGreaterThan(18)
      session.hangs = false
      yield* pass(beat)
      expect(lag()).toBeLessThanOrEqual(beat / 1000)
    }).pipe(Effect.scoped)
  )

  it.effect("does not end with a late tick, of which the node has heard a later one", () =>
    Effect.gen(function* () {
      const { beats, lag, pass, reader, receive, session } = yield* fedNode
      yield* pass(1000, beats)
      const [late, last] = [reader.look(), reader.look()]
      receive(last)
      session.hangs = true
      const { looks } = session
      yield* pass(10_000, () => {
        receive(late)
        receive(last)
      })
      expect(lag()).toBeGreaterThanOrEqual(10)
      // The node has not taken these for a reader that works, so it reads for itself.
      expect(session.looks).toBe(looks + 1)
      beats()
      expect(lag()).toBe(0)
    }).pipe(Effect.scoped)
  )

  it.effect("does not end with a tick that ends in the middle of a look", () =>
    Effect.gen(function* () {
      const { lag, pass, reader, receive, session, write } = yield* fedNode
      for (let n = 0; n < 5; n++) write("a")
      const frames = ticksOnly(reader.look())
      expect(frames.length).toBe(2)
      // The node reads all of it before it hears of it.
      yield* pass(3000)
      session.hangs = true
      yield* pass(10_000)
      const before = lag()
      expect(before).toBeGreaterThan(8)
      receive(frames.slice(0, 1))
      expect(lag()).toBe(before)
      receive(frames.slice(1))
      expect(lag()).toBe(0)
    }).pipe(Effect.scoped)
  )

  it.effect("does not end with a tick from before a look of the node that goes on", () =>
    Effect.gen(function* () {
      const { beats, lag, pass, reader, receive, session, write } = yield* fedNode
      yield* pass(1000, beats)
      const before = reader.look()
      for (let n = 0; n < 5; n++) write("a")
      session.hangsWithin = true
      yield* pass(10_000)
      const lagged = lag()
      expect(lagged).toBeGreaterThan(8)
      receive(before)
      expect(lag()).toBe(lagged)
    }).pipe(Effect.scoped)
  )

  it.effect("follows the next reader, and no tick of the one before", () =>
    Effect.gen(function* () {
      const { beats, lag, pass, reader, receive, session, table } = yield* fedNode
      yield* pass(1000, beats)
      session.hangs = true
      const next = new Reader(table, "2.r", 2, 3)
      expect(yield* pass(5000, () => receive(next.look()))).toBeLessThanOrEqual(beat / 1000)
      yield* pass(5000, () => receive(reader.look()))
      expect(lag()).toBeGreaterThanOrEqual(5)
    }).pipe(Effect.scoped)
  )
})
