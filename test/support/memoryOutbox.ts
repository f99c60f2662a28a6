/**
 * The outbox as a list in memory, for tests of what is above it: every message is a tick of its own, and
 * a position is how many there were. Like a database it takes its time to answer, by the test's clock.
 */
import { Effect, Layer, Queue, Stream, SubscriptionRef } from "effect"
import { type DurableBatch, type Item, OutboxReader } from "../../src/server/OutboxReader.ts"

/** Takes cursors of this outbox only. */
const indexOf = (cursor: string): number =>
  /^list-\d+$/.test(cursor) ? Number(cursor.slice(5)) : Number.NaN

const cursorOf = (index: number) => `list-${index}`

/** `patience`: how many milliseconds the next join takes. */
export const layerMemoryOutbox = (patience: () => number) =>
  Layer.effect(
    OutboxReader,
    Effect.gen(function* () {
      const log: Array<{ readonly channel: string; readonly text: string }> = []
      const followers = new Map<string, Set<Queue.Queue<Item>>>()
      const state = yield* SubscriptionRef.make<"up" | "down">("up")

      const batchAt = (index: number, tick: number, from: number): DurableBatch => ({
        _tag: "Batch",
        channel: log[index]!.channel,
        from: cursorOf(from),
        cursor: cursorOf(index + 1),
        tick,
        events: [{ id: `${index + 1}`, tx: `${index + 1}`, at: 0, text: log[index]!.text }],
        cursorAt: () => cursorOf(index + 1)
      })

      return OutboxReader.of({
        follow: (channel) =>
          Effect.acquireRelease(
            Effect.gen(function* () {
              const queue = yield* Queue.unbounded<Item>()
              const theirs = followers.get(channel) ?? new Set()
              followers.set(channel, theirs.add(queue))
              return queue
            }),
            (queue) => Effect.sync(() => followers.get(channel)?.delete(queue))
          ),
        join: (channel, from, _, part) =>
          Effect.gen(function* () {
            yield* Effect.sleep(patience())
            const tick = log.length
            const nothing = { tick, replay: [], more: false, bytes: 0 }
            const present = { ...nothing, cursor: cursorOf(tick) }
            if (from === undefined) return { ...present, state: "fresh", reason: undefined }
            const start = indexOf(from)
            if (!(start <= tick)) return { ...present, state: "reset", reason: "malformed" }
            const replay: Array<DurableBatch> = []
            let [room, end] = [part?.room ?? Infinity, start]
            for (let index = start; index < tick && room > 0; index++) {
              if (log[index]!.channel !== channel) continue
              replay.push(batchAt(index, 0, end))
              end = index + 1
              room -= log[index]!.text.length
            }
            const more = log.slice(end).some((message) => message.channel === channel)
            return { ...nothing, state: "recovered", reason: undefined, cursor: from, replay, more }
          }),
        batches: () => Stream.never,
        publish: (channel, text) =>
          Effect.sync(() => {
            const tick = log.push({ channel, text })
            for (const queue of followers.get(channel) ?? []) {
              Queue.offerUnsafe(queue, batchAt(tick - 1, tick, tick - 1))
            }
          }),
        position: Effect.sync(() => cursorOf(log.length)),
        state
      })
    })
  )
