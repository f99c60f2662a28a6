import { Effect, Queue } from "effect"
import type { Notification, NotificationSource } from "../../src/server/NotificationSource.ts"

/** Listens until the scope closes; what one channel is told comes out of a queue of its own. */
export const listenTo = (source: NotificationSource["Service"], channel: string) =>
  Effect.gen(function* () {
    const told = yield* Queue.unbounded<Notification>()
    const payloads = yield* Queue.unbounded<Notification["payload"]>()
    yield* source.listen(channel, told)
    yield* Queue.take(told).pipe(
      Effect.flatMap(({ payload }) => Queue.offer(payloads, payload)),
      Effect.forever,
      Effect.forkScoped
    )
    return payloads as Queue.Dequeue<Notification["payload"]>
  })
