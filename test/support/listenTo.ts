import { Effect, Queue } from "effect"
import type { Heard, NotificationSource } from "../../src/server/NotificationSource.ts"

/** Listens until the scope closes, into a queue of its own. */
export const listenTo = (source: NotificationSource["Service"], channel: string) =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<Heard>()
    yield* source.listen(channel, (heard) => Queue.offerUnsafe(queue, heard))
    return queue as Queue.Dequeue<Heard>
  })
