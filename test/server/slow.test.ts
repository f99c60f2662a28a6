/**
 * The cost of a slow socket to the database: of the durable channels that it fell behind on, no
 * more is read than it accepts, and no event is missed, doubled or given up early.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { type Options, OutboxReader } from "../../src/server/OutboxReader.ts"
import { allowAll, type Limits } from "../../src/server/ServerOptions.ts"
import { refusals, TestDoor, visit, type Visitor } from "../support/sessions.ts"
import { layerInstalled, layerReaderOnly } from "./support/durable.ts"
import { layerSpied, type Page } from "./support/pool.ts"
import { until } from "../support/until.ts"

const Log = Channel.family("log_", Schema.String, Schema.String, { delivery: "durable" })

/** A server over a pool that counts its pages. */
const layerDoor = (
  read: (page: Page) => void,
  { fails, limits = {}, ...reader }: Options & { fails?: () => boolean; limits?: Limits } = {}
) =>
  Layer.effect(TestDoor, Door.make({ channels: [Log], authorize: allowAll, limits })).pipe(
    Layer.provide(Realtime.layer()),
    Layer.provide(MemorySource.layer),
    Layer.provideMerge(layerReaderOnly({ upkeep: false, ...reader })),
    Layer.provide(layerSpied(read, fails)),
    Layer.provideMerge(layerInstalled({ wake: "poll" }))
  )

/** A client that reads and is subscribed to channels, from now on or from a cursor. */
const subscriber = (names: ReadonlyArray<string>, cursor?: string) =>
  Effect.gen(function* () {
    const visitor = yield* visit({ hello: false })
    visitor.send({ type: "hello", version: 1 })
    for (const [id, channel] of names.entries()) {
      visitor.send({ type: "subscribe", id, channel, ...(cursor === undefined ? {} : { cursor }) })
    }
    yield* until(() => visitor.of("subscribed").length === names.length)
    return visitor
  })

/**
 * Publishes numbered events of `bytes` bytes on each channel in one transaction, from `first` on.
 */
const write = (names: ReadonlyArray<string>, first: number, count: number, bytes: number) =>
  PgClient.PgClient.use(
    (sql) => sql`
      select realtime.publish(name, to_json(lpad(n::text, ${bytes - 2}, '0'))::text)
      from unnest(${names}::text[]) name, generate_series(${first}::int, ${first + count - 1}::int) n`
  ).pipe(
    // Waits until the reader has delivered them.
    Effect.andThen(
      Effect.flatMap(OutboxReader, ({ position }) => Effect.andThen(position, position))
    )
  )

const received = (visitor: Visitor, name: string) =>
  visitor
    .of("events")
    .flatMap(({ channel, events }) =>
      channel === name ? events.map(({ data }) => Number(data)) : []
    )

const sum = (visitor: Visitor) =>
  visitor.of("events").reduce((total, { events }) => total + events.length, 0)

/** Reads a little at a time until the condition holds. */
const sipUntil = (visitor: Visitor, condition: () => boolean) =>
  Effect.repeat(
    Effect.delay(
      Effect.sync(() => {
        visitor.sip()
        return condition()
      }),
      "10 millis"
    ),
    { until: (met) => met }
  )

const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1)

describe("A slow client with many durable channels", () => {
  const names = upTo(20).map((n) => `log_${n}`)
  const [count, bytes] = [300, 1500]

  it.live(
    "a node reads at most 1.5 times what a slow client with 20 durable channels accepts",
    () => {
      let read = 0
      return Effect.gen(function* () {
        const visitor = yield* subscriber(names)
        visitor.reading = false
        yield* write(names, 1, count, bytes)
        yield* sipUntil(visitor, () => sum(visitor) === names.length * count)
        for (const name of names) expect(received(visitor, name)).toEqual(upTo(count))
        expect(visitor.of("gap")).toEqual([])
        const delivered = names.length * count * bytes
        // Most of it did not fit into the mailbox, so it was read again.
        expect(read).toBeGreaterThan(delivered / 2)
        expect(read).toBeLessThan(delivered * 1.5)
      }).pipe(Effect.scoped, Effect.provide(layerDoor(({ text }) => (read += text))))
    },
    60_000
  )

  it.live(
    "a node reads less than 2 MiB for a client that has stopped reading its socket",
    () => {
      const pages: Array<Page> = []
      return Effect.gen(function* () {
        const visitor = yield* subscriber(names)
        visitor.reading = false
        yield* write(names, 1, count, bytes)
        // The client reads the waiting frames and a little of those after them.
        yield* sipUntil(visitor, () => pages.length > 0)
        const { position } = yield* OutboxReader
        const stalled = () => pages.reduce((total, { text }) => total + text, 0)
        for (let n = 0; n < 5; n++) yield* Effect.andThen(position, Effect.sleep("5 millis"))
        // The mailbox is full again: at most its limit, and the page that crossed it.
        expect(stalled()).toBeLessThan(2 * 1024 * 1024)
      }).pipe(Effect.scoped, Effect.provide(layerDoor((page) => pages.push(page))))
    },
    60_000
  )

  /** Resumes the channels all at once, and does not read. */
  const resume = (some: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const from = yield* reader.position
      yield* write(some, 1, count, bytes)
      const visitor = yield* visit({ hello: false })
      visitor.reading = false
      visitor.send({ type: "hello", version: 1 })
      for (const [id, channel] of some.entries()) {
        visitor.send({ type: "subscribe", id, channel, cursor: from })
      }
      return visitor
    })

  it.live(
    "a slow client that resumes 10 channels makes the node read each at most twice",
    () => {
      const some = names.slice(0, 10)
      let read = 0
      return Effect.gen(function* () {
        const visitor = yield* resume(some)
        yield* sipUntil(visitor, () => sum(visitor) === some.length * count)
        expect(visitor.of("subscribed").map(({ state }) => state)).toEqual(
          some.map(() => "recovered")
        )
        for (const name of some) expect(received(visitor, name)).toEqual(upTo(count))
        expect(read).toBeLessThan(some.length * count * bytes * 2.1)
      }).pipe(Effect.scoped, Effect.provide(layerDoor(({ text }) => (read += text))))
    },
    60_000
  )

  it.live(
    "a slow client that resumes more channels than its rate allows is rejected before they are read",
    () => {
      const channels = new Set<string>()
      return Effect.gen(function* () {
        const visitor = yield* resume(names)
        yield* sipUntil(visitor, () => visitor.answer(19) !== undefined)
        // The first replay used up the burst of 20 subscribes.
        expect(visitor.of("subscribed").map(({ channel }) => channel)).toEqual(["log_1"])
        expect(visitor.errors).toEqual(names.slice(1).map(() => "rate/limited"))
        expect(visitor.answer(19)).toMatchObject({ retryAfter: expect.any(Number) as number })
        expect([...channels]).toEqual(["log_1"])
      }).pipe(
        Effect.scoped,
        Effect.provide(
          layerDoor(({ channel }) => channels.add(channel), {
            limits: { subscribeRate: { perSecond: 0.01, burst: 20 } }
          })
        )
      )
    }
  )
})

describe("A slow client of a durable channel", () => {
  const name = "log_1"

  it.live.each([
    ["events", { maxReplayEvents: 1000 }],
    ["bytes", { maxReplayBytes: 1_500_000 }]
  ] as const)("a client with more %s behind than a replay allows gets gap slow", ([, bounds]) =>
    Effect.gen(function* () {
      const visitor = yield* subscriber([name])
      visitor.reading = false
      // More than a replay allows, beyond what the mailbox holds and the first 256 events that fit.
      yield* write([name], 1, 3000, 1500)
      yield* sipUntil(visitor, () => visitor.of("gap").length > 0)
      visitor.read()
      const [gap] = visitor.of("gap")
      expect(gap?.reason).toBe("slow")
      const before = received(visitor, name)
      expect(before).toEqual(upTo(before.length))
      // The client received the events before it fell behind, and none that were over the bound.
      expect(before.length).toBeLessThan(1000)
      yield* write([name], 3001, 3, 10)
      yield* until(() => received(visitor, name).length === before.length + 3)
      expect(received(visitor, name).slice(-3)).toEqual([3001, 3002, 3003])
    }).pipe(Effect.scoped, Effect.provide(layerDoor(() => undefined, bounds)))
  )

  it.live("a replay that fails for a moment is retried, without a gap", () => {
    const failing = { left: 0, met: 0 }
    const fails = () => failing.left > 0 && (failing.met++, failing.left-- > 0)
    return Effect.gen(function* () {
      const visitor = yield* subscriber([name])
      visitor.reading = false
      yield* write([name], 1, 2000, 1500)
      failing.left = 3
      visitor.read()
      yield* until(() => sum(visitor) === 2000)
      expect(failing.met).toBe(3)
      expect(received(visitor, name)).toEqual(upTo(2000))
      expect(visitor.of("gap")).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(layerDoor(() => undefined, { fails })))
  })

  it.live("a replay that goes on failing sends gap source, and is counted and logged", () => {
    const failing = { left: 0 }
    const lines: Array<string> = []
    return Effect.gen(function* () {
      const before = yield* refusals("replay")
      const visitor = yield* subscriber([name])
      visitor.reading = false
      yield* write([name], 1, 2000, 1500)
      failing.left = Infinity
      visitor.read()
      yield* until(() => visitor.of("gap").length > 0)
      expect(visitor.of("gap").map(({ reason }) => reason)).toEqual(["source"])
      expect(yield* refusals("replay")).toBe(before + 1)
      expect(lines).toEqual([`a replay of "${name}" failed.`])
      yield* write([name], 2001, 1, 10)
      yield* until(() => received(visitor, name).at(-1) === 2001)
    }).pipe(
      Effect.scoped,
      Effect.provide(layerDoor(() => undefined, { fails: () => failing.left > 0 })),
      Effect.provide(
        Logger.layer([
          Logger.make(({ logLevel, message }) => {
            if (logLevel === "Error") lines.push(String([message].flat()[0]))
          })
        ])
      )
    )
  })
})
