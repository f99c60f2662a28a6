/**
 * Starts presence on a node: alone, or with the other nodes of its bus.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import { NodeBus, type Send, type TopicTaken } from "../../NodeBus.ts"
import { Defects } from "../notices.ts"
import * as metrics from "../metrics.ts"
import { tally } from "../tally.ts"
import { Presence, type PresenceOptions } from "./presence.ts"

/** Milliseconds until presence goes on after a defect. */
const afterDefect = 1000

export const make = (options: PresenceOptions): Effect.Effect<Presence, TopicTaken, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const bus = Option.getOrUndefined(yield* Effect.serviceOption(NodeBus))
    const services = yield* Effect.context<never>()
    const presence = new Presence(
      options,
      () => Number(clock.monotonicTimeNanosUnsafe() / 1000n) / 1000,
      {
        message: () => metrics.presenceMessages.updateUnsafe(1, services),
        whole: () => metrics.presenceWholeLists.updateUnsafe(1, services)
      },
      bus?.self
    )
    yield* (yield* tally).show("presenceSeats", () => presence.seats)
    if (bus === undefined) presence.name(randomBytes(18).toString("base64url"))
    else {
      let send: Send = () => undefined
      const part = presence.connect((content, to) => send(content, to))
      send = yield* bus.join("presence", part)
      presence.link = bus.state
      presence.greet()
      yield* bus.secret.pipe(
        Effect.map((secret) => presence.name(Redacted.value(secret))),
        Effect.forkScoped
      )
      // The last changes leave before the goodbye of the bus, so that members whose sockets closed may return.
      yield* Effect.addFinalizer(() => Effect.sync(() => presence.flush()))
    }
    const defects = new Defects()
    yield* presence.run.pipe(
      Effect.catchDefect((defect) =>
        Effect.andThen(defects.logged("Presence", defect), Effect.sleep(afterDefect))
      ),
      Effect.forever,
      Effect.forkScoped
    )
    return presence
  })
