/**
 * What all sessions of a door share, and the words in which a request is refused.
 */
import type * as Deferred from "effect/Deferred"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { ErrorCode } from "../../Protocol.ts"
import type { Realtime } from "../Realtime.ts"
import type { AuthRefused, Credentials, Request, ResolvedLimits } from "../ServerOptions.ts"
import type { PublishKeys } from "./publishKeys.ts"
import type { Registry } from "./registry.ts"

/** A request that was refused: the code, and a sentence that is safe to show to anybody. */
export interface Refusal {
  readonly code: ErrorCode
  readonly message: string
  /** Milliseconds until it may succeed. */
  readonly retryAfter?: number
}

export const refusal = (code: ErrorCode, message: string, retryAfter?: number): Refusal =>
  retryAfter === undefined ? { code, message } : { code, message, retryAfter }

/** Who a session is. */
export interface Principal {
  readonly identity: unknown
  /** The same text for the same person, on every session. */
  readonly key: string
  /** When the proof ends, in milliseconds since 1970; Infinity when it does not. */
  readonly expiresAt: number
}

export interface SessionContext {
  readonly realtime: Realtime["Service"]
  readonly registry: Registry
  readonly limits: ResolvedLimits
  readonly slowConsumer: "gap" | "disconnect"
  /** `undefined` on a door that everybody enters without a name. */
  readonly authenticate:
    | ((credentials: Credentials) => Effect.Effect<Principal, AuthRefused>)
    | undefined
  readonly authorize: (request: Request<unknown>) => Effect.Effect<boolean>
  /** Publishes of the last minutes; the outcome is `undefined` when it was published. */
  readonly publishKeys: PublishKeys<Deferred.Deferred<Refusal | undefined>>
  /** Runs an effect with the door's services; its failures are logged, never thrown. */
  readonly run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Milliseconds since 1970. */
  readonly clock: () => number
  /** The same, as of the door's last tick: free, so it may be asked on every write. */
  readonly coarseClock: () => number
  readonly sourceIsUp: () => boolean
}

/** What a client may know of an error of the hub. */
export const refusalOf = (error: unknown): Refusal => {
  const tag = typeof error === "object" && error !== null && "_tag" in error ? error._tag : ""
  switch (tag) {
    case "InvalidPayload":
      return refusal("publish/invalid", "The payload does not match the channel's schema.")
    case "PayloadTooLarge":
      return refusal("publish/too-large", "The payload is larger than this channel carries.")
    case "TooManyChannels":
      return refusal("server/overloaded", "The server listens to as many channels as it may.")
    case "SourceError":
      return refusal("source/down", "The source of this channel is down. Try again later.")
    default:
      return refusal("server/internal", "The server failed. Try again later.")
  }
}
