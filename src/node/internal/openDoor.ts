/**
 * The door of the class, made from its options.
 *
 * In: the options, and what closes the sockets of the pool. Out: a door over the sources of its channels with
 * its control, with callbacks that return values, Promises or Effects.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Definition } from "../../Channel.ts"
import { server as Defaults } from "../../internal/defaults.ts"
import { eventually } from "../../server/internal/auth/eventually.ts"
import * as Control from "../../server/internal/control/control.ts"
import * as Door from "../../server/internal/door/door.ts"
import { requireSources } from "../../server/internal/door/requireSources.ts"
import { NotificationSource } from "../../server/NotificationSource.ts"
import { OutboxReader } from "../../server/OutboxReader.ts"
import type { RuleMaker } from "../../server/Rule.ts"
import {
  allowAll,
  AuthRefused,
  type DoorOptions,
  type Request
} from "../../server/ServerOptions.ts"
import type { Options } from "../Options.ts"

/** What the class gives to its door. */
type Served<I> = Omit<DoorOptions, "channels"> &
  Pick<Options<I>, "authenticate" | "authorize" | "identityKey" | "rules"> & {
    readonly channels: ReadonlyArray<Definition>
  }

/** `cut` ends the sessions of the pool: it runs last, and when the source is down. */
export const openDoor = <I>(
  { authenticate, authorize, identityKey, rules, ...options }: Served<I>,
  cut: Effect.Effect<void>
) =>
  Effect.gen(function* () {
    // The last finalizer, before the pool closes its sessions at a database that may not answer.
    yield* Effect.addFinalizer(() => cut)
    yield* requireSources(options.channels)
    const reader = Option.getOrUndefined(yield* Effect.serviceOption(OutboxReader))
    const link = Option.getOrUndefined(yield* Effect.serviceOption(NotificationSource))
    // When the link is lost, the pool's connections are lost too.
    yield* SubscriptionRef.changes((link ?? reader)!.state).pipe(
      Stream.runForEach((state) => (state === "down" ? cut : Effect.void)),
      Effect.forkScoped
    )
    if (authorize === undefined && rules === undefined) {
      yield* Effect.logWarning(
        "effect-realtime serves every client that connects, because there is neither authorize nor rules. It will refuse to start in production."
      )
    }
    const decide = (request: Request<I>) =>
      authorize === undefined
        ? allowAll(request)
        : Effect.orDie(eventually(() => authorize(request), AuthRefused))
    // Without `authenticate` the only identity is `undefined`, which is I's default.
    const decides =
      rules === undefined
        ? { authorize: (request: Request<unknown>) => decide(request as Request<I>) }
        : { rules: (make: RuleMaker<unknown>) => rules(make as RuleMaker<I>) }
    const served = { ...options, ...decides }
    const prepared = yield* Control.prepare(options.control ?? Defaults.control)
    const door = yield* Door.make<I, never>(
      authenticate === undefined
        ? served
        : {
            ...served,
            authenticate: (credentials) => eventually(() => authenticate(credentials), AuthRefused),
            identityKey
          },
      prepared.door
    )
    return { door, control: yield* prepared.over(door) }
  })
