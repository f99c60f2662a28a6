/** The subject of the bus, over plain objects. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Scheduler, SubscriptionRef } from "effect"
import type { Connection } from "../../../src/nats/internal/connection.ts"
import * as NatsCarrier from "../../../src/nats/internal/natsCarrier.ts"

describe("The carrier of the bus over NATS", () => {
  it.effect("subscribes once where the bus begins to hear and to send at once", () =>
    Effect.gen(function* () {
      const subscribed: Array<string> = []
      const connection: Connection = {
        root: "root",
        state: yield* SubscriptionRef.make<"up" | "down">("up"),
        maxPayload: () => 65_536,
        publish: () => true,
        subscribe: (subject) =>
          Effect.asVoid(
            Effect.acquireRelease(
              Effect.sync(() => subscribed.push(subject)),
              () => Effect.sync(() => subscribed.splice(subscribed.indexOf(subject), 1))
            )
          ),
        flush: () => Effect.succeed(true),
        renew: Effect.void,
        prove: () => Effect.void
      }
      let identity = "one"
      const carrier = NatsCarrier.make(connection, "realtime", () => identity)
      const together = Effect.provideService(Scheduler.MaxOpsBeforeYield, 3)
      yield* Effect.all(
        [carrier.receive(() => undefined), carrier.send("beat"), carrier.send("batch")],
        { concurrency: "unbounded" }
      ).pipe(together)
      const subjectOf = (identity: string) => NatsCarrier.busSubject("root", identity, "realtime")
      expect(subscribed).toEqual([subjectOf("one")])
      // The objects of the database are installed anew.
      identity = "two"
      yield* Effect.all([carrier.send("beat"), carrier.send("batch")], {
        concurrency: "unbounded"
      }).pipe(together)
      expect(subscribed).toEqual([subjectOf("two")])
    }).pipe(Effect.scoped)
  )
})
