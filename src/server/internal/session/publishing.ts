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
import { inSpan, linksTo } from "../tracing.ts"
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

/** What a client sent, by its Schema: the payload, and its JSON. */
export class Sent {
  readonly payload: unknown
  readonly json: string
  #digest: string | undefined

  constructor(payload: unknown, json: string) {
    this.payload = payload
    this.json = json
  }

  /** By which it is known under its key. */
  get digest(): string {
    return (this.#digest ??= digestOf(this.json))
  }
}

export type PublishFrame = FrameOf<ClientFrame, "publish">

export const readPublish = (frame: PublishFrame, match: Match): Result.Result<Sent, Refusal> =>
  readSent(match, frame, "data", frame.data)

/** Reads what a client sent in a field of a frame, by the Schema of its channel. */
export const readSent = (
  match: Match,
  frame: object,
  field: string,
  data: unknown
): Result.Result<Sent, Refusal> => {
  // The registry has no payload type for the channel. `decode` establishes it.
  const channel = match.channel as Channel.Channel<unknown>
  return Result.mapError(
    Result.flatMap(payloadOf(channel, frame, field, data), (payload) =>
      Result.map(Channel.toJson(channel, payload), (json) => new Sent(payload, json))
    ),
    refusalOf
  )
}

/**
 * The refusal of a publish on a channel that remembers nothing; `undefined` if it was sent. From `due` on
 * it is not sent. `ruled`: the JSON that a rule made of what the client sent.
 */
export const publishVolatile = (
  { clock }: SessionContext,
  session: string,
  frame: PublishFrame,
  match: Match,
  due: number,
  ruled: string | undefined
): Effect.Effect<Refusal | undefined> =>
  Effect.suspend(() => {
    const sent = ruled === undefined ? readPublish(frame, match) : Result.succeed({ json: ruled })
    if (Result.isFailure(sent)) return Effect.succeed(sent.failure)
    if (clock() >= due) return Effect.succeed(expired)
    const publishing = match.delivery.publish(
      frame.channel,
      sent.success.json,
      session,
      undefined,
      match.channel.latestBy
    )
    return Effect.match(publishing, { onFailure: refusalOf, onSuccess: () => undefined })
  })

/** The key of a publish in the database. */
const keyOf = (identity: string, key: string): string => `${digestOf(identity)} ${key}`

/**
 * The outcome of a publish that the client has sent before under this key, or that is too late;
 * `undefined` for a new one. Completes within the limit `sourceTimeout`.
 */
export const outcomeBefore = (
  context: SessionContext,
  identity: string,
  name: string,
  key: string,
  { delivery }: Match,
  { digest, json }: Sent,
  due: number
): Effect.Effect<{ readonly refused: Refusal | undefined } | undefined> =>
  Effect.suspend(() => {
    const now = context.clock()
    const known = context.publishKeys.find(identity, name, key, digest, now)
    if (known === "conflict") return Effect.succeed({ refused: conflict })
    if (known !== undefined) {
      return Effect.map(awaited(context, known), (refused) => ({ refused }))
    }
    const stored =
      delivery.published?.(name, json, keyOf(identity, key), digest) ?? Effect.undefined
    return stored.pipe(
      Effect.timeoutOrElse({
        duration: context.limits.sourceTimeout,
        orElse: () => Effect.fail(sourceDown)
      }),
      Effect.map((same) =>
        same === undefined
          ? context.clock() < due
            ? undefined
            : { refused: expired }
          : { refused: same ? undefined : conflict }
      ),
      Effect.catchCause((cause) =>
        Effect.map(refusedBy(context, cause), (refused) => ({ refused }))
      )
    )
  })

const awaited = (
  { limits }: SessionContext,
  outcome: Deferred.Deferred<Refusal | undefined>
): Effect.Effect<Refusal | undefined> =>
  Effect.timeoutOrElse(Deferred.await(outcome), {
    duration: limits.sourceTimeout,
    orElse: () => Effect.succeed(sourceDown)
  })

/**
 * The refusal of a publish; `undefined` if it was sent. Completes within the limit `sourceTimeout`. From
 * `due` on, a time of the session's clock, the session does not begin it. `ruled`: the JSON that a rule
 * made of what the client sent.
 */
export const publishOnce = (
  context: SessionContext,
  identity: string,
  frame: PublishFrame,
  key: string,
  match: Match,
  due: number,
  ruled: { readonly sent: Sent; readonly json: string } | undefined
): Effect.Effect<Refusal | undefined> =>
  Effect.suspend(() => {
    const { channel: name } = frame
    const sent = ruled === undefined ? readPublish(frame, match) : Result.succeed(ruled.sent)
    if (Result.isFailure(sent)) return Effect.succeed(sent.failure)
    const { clock, publishKeys } = context
    const { digest, json } = sent.success
    const now = clock()
    let outcome = publishKeys.find(identity, name, key, digest, now)
    if (outcome === "conflict") return Effect.succeed(conflict)
    if (outcome === undefined) {
      if (now >= due) return Effect.succeed(expired)
      const made = (outcome = Deferred.makeUnsafe<Refusal | undefined>())
      const crossed = publishKeys.remember(identity, name, key, digest, now, made)
      if (crossed !== undefined) context.refused(crossed)
      const { delivery } = match
      const publishing = delivery.publish(
        name,
        ruled?.json ?? json,
        keyOf(identity, key),
        ruled === undefined ? undefined : digest
      )
      // Not on the session's fiber: a client that loses its socket meanwhile retries with the same key,
      // and must find an outcome.
      context.run(
        send(context, delivery, inTrace(frame, publishing), made, due - now, () =>
          publishKeys.forget(identity, name, key, made)
        )
      )
    }
    return awaited(context, outcome)
  })

/**
 * Publishes in a span with a trace of its own, which has a link to that of the client: a client must not
 * decide what this server records, except that an unsampled trace stays unsampled.
 */
const inTrace = <A, E>({ channel, trace }: PublishFrame, publishing: Effect.Effect<A, E>) =>
  inSpan("realtime.publish", () => {
    const links = linksTo([trace])
    return {
      root: true,
      kind: "server",
      links,
      ...(links[0]?.span.sampled === false ? { sampled: false } : {}),
      attributes: { "realtime.channel": channel }
    }
  })(publishing)

/** Decodes like payloads of the database: a number is rounded only where the schema takes a double. */
const payloadOf = (
  channel: Channel.Channel<unknown>,
  frame: object,
  field: string,
  data: unknown
): Result.Result<unknown, InvalidPayload> => {
  const { name } = channel
  const codec = channel.codec as Codec<unknown>
  if (codec.published !== undefined) return codec.published(data, name)
  const text = exactTextOf(frame)
  if (text === undefined) return channel.decode(data)
  const source = { text, path: [field], options: undefined }
  return Result.mapError(
    decode(codec, name, data, source),
    ({ expected, path }) =>
      new InvalidPayload({ channel: name, direction: "decode", issue: `${expected} at ${path}` })
  )
}

const send = (
  context: SessionContext,
  { resumes }: Match["delivery"],
  publishing: Effect.Effect<void, unknown>,
  outcome: Deferred.Deferred<Refusal | undefined>,
  left: number,
  forget: () => void
): Effect.Effect<void> => {
  // Interrupts a statement that hangs: no client waits for it any more, and thousands may follow it.
  const patience = resumes ? context.limits.sourceTimeout : Infinity
  const inTime =
    Math.min(left, patience) < Infinity
      ? Effect.timeoutOrElse(publishing, {
          duration: Math.min(left, patience),
          orElse: () => Effect.fail(left < patience ? new RequestRefused(expired) : sourceDown)
        })
      : publishing
  return inTime.pipe(
    Effect.matchCauseEffect({
      onFailure: (cause) => {
        // A retry sends it again.
        forget()
        return Effect.flatMap(refusedBy(context, cause), (refused) =>
          Deferred.succeed(outcome, refused)
        )
      },
      onSuccess: () => Deferred.succeed(outcome, undefined)
    }),
    Effect.asVoid
  )
}

/** The refusal for a failure. Logs it, unless the client receives its own fault or the source is down. */
const refusedBy = (
  { failed, sourceIsUp }: SessionContext,
  cause: Cause.Cause<unknown>
): Effect.Effect<Refusal> => {
  const refused = refusalOf(Cause.squash(cause))
  return refused.code.startsWith("publish/") || !sourceIsUp()
    ? Effect.succeed(refused)
    : Effect.as(failed("a publish failed", cause), refused)
}
