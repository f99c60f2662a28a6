/**
 * Publishes for a client: checks the payload, and sends it once however often the client retries. It sends
 * nothing after the client has given the publish up.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Channel from "../../../Channel.ts"
import type { Codec } from "../../../ChannelBase.ts"
import type { ClientFrame, FrameOf } from "../../../Frame.ts"
import { exactTextOf } from "../../../internal/frameText.ts"
import { InvalidPayload } from "../../../RealtimeError.ts"
import { decode } from "../reading/reading.ts"
import { digestOf } from "./publishKeys.ts"
import type { Match } from "./registry.ts"
import {
  RequestRefused,
  type Refusal,
  refusal,
  refusalOf,
  sourceDown
} from "../limits/refusalText.ts"
import type { SessionContext } from "./sessionContext.ts"

const expired = refusal("publish/expired")

const conflict = refusal("publish/invalid", "The key was used with other data.")

/**
 * The refusal of a publish; `undefined` if it was sent. Completes within the limit `sourceTimeout`. From
 * `due` on, a time of the session's clock, the session does not begin it.
 */
export const publishOnce = (
  context: SessionContext,
  identity: string,
  frame: FrameOf<ClientFrame, "publish">,
  match: Match,
  due: number
): Effect.Effect<Refusal | undefined> =>
  Effect.suspend(() => {
    const { channel: name, key } = frame
    // The registry has no payload type for the channel. `decode` establishes it.
    const channel = match.channel as Channel.Channel<unknown>
    const payload = payloadOf(channel, frame)
    if (Result.isFailure(payload)) return Effect.succeed(refusalOf(payload.failure))
    const json = Channel.toJson(channel, payload.success)
    if (Result.isFailure(json)) return Effect.succeed(refusalOf(json.failure))
    const { clock, limits, publishKeys } = context
    const digest = digestOf(json.success)
    const now = clock()
    let outcome = publishKeys.find(identity, name, key, digest, now)
    if (outcome === "conflict") return Effect.succeed(conflict)
    if (outcome === undefined) {
      if (now >= due) return Effect.succeed(expired)
      outcome = Deferred.makeUnsafe<Refusal | undefined>()
      const crossed = publishKeys.remember(identity, name, key, digest, now, outcome)
      if (crossed !== undefined) context.refused(crossed)
      // Not on the session's fiber: a client that loses its socket meanwhile retries with the same key,
      // and must find an outcome.
      context.run(
        send(context, match, json.success, outcome, `${digestOf(identity)} ${key}`, due - now, () =>
          publishKeys.forget(identity, name, key)
        )
      )
    }
    return Effect.timeoutOrElse(Deferred.await(outcome), {
      duration: limits.sourceTimeout,
      orElse: () => Effect.succeed(sourceDown)
    })
  })

/** Decodes like payloads of the database: a number is rounded only where the schema takes a double. */
const payloadOf = (
  channel: Channel.Channel<unknown>,
  frame: FrameOf<ClientFrame, "publish">
): Result.Result<unknown, InvalidPayload> => {
  const { name } = channel
  const codec = channel.codec as Codec<unknown>
  if (codec.published !== undefined) return codec.published(frame.data, name)
  const text = exactTextOf(frame)
  if (text === undefined) return channel.decode(frame.data)
  const source = { text, path: ["data"], options: undefined }
  return Result.mapError(
    decode(codec, name, frame.data, source),
    ({ expected, path }) =>
      new InvalidPayload({ channel: name, direction: "decode", issue: `${expected} at ${path}` })
  )
}

const send = (
  { failed, limits, sourceIsUp }: SessionContext,
  { channel, delivery }: Match,
  json: string,
  outcome: Deferred.Deferred<Refusal | undefined>,
  key: string,
  left: number,
  forget: () => void
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const publishing = delivery.publish(channel.name, json, key)
    // Interrupts a statement that hangs: no client waits for it any more, and thousands may follow it.
    const patience = delivery.resumes ? limits.sourceTimeout : Infinity
    return Math.min(left, patience) < Infinity
      ? Effect.timeoutOrElse(publishing, {
          duration: Math.min(left, patience),
          orElse: () => Effect.fail(left < patience ? new RequestRefused(expired) : sourceDown)
        })
      : publishing
  }).pipe(
    Effect.matchCauseEffect({
      onFailure: (cause) => {
        // A retry sends it again.
        forget()
        const refused = refusalOf(Cause.squash(cause))
        const told = Deferred.succeed(outcome, refused)
        // The client receives its own faults, and the loss of the source is logged already.
        return refused.code.startsWith("publish/") || !sourceIsUp()
          ? told
          : Effect.andThen(failed("a publish failed", cause), told)
      },
      onSuccess: () => Deferred.succeed(outcome, undefined)
    }),
    Effect.asVoid
  )
