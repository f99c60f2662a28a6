import { Effect, Layer } from "effect"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import { suite } from "./NotificationSourceSuite.ts"

/** The control stays beside the source, so that the suite sees the contract only. */
let control: MemorySource.MemorySource["Service"]

const layer = Layer.effectContext(
  Effect.gen(function* () {
    control = yield* MemorySource.MemorySource
    return yield* Effect.context<NotificationSource>()
  })
).pipe(Layer.provide(MemorySource.layer))

suite(
  "in memory",
  layer,
  Effect.map(NotificationSource, (source) => ({
    send: (channel, payload) => Effect.orDie(source.notify(channel, payload)),
    cut: Effect.suspend(() => control.lose),
    heal: Effect.suspend(() => control.restore)
  }))
)
