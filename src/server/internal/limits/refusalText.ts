/**
 * The words in which a request is refused, and what a client may know of an error.
 */
import type { FrameOf, ServerFrame } from "../../../Frame.ts"
import { type ErrorCode, errorCodes } from "../../../Protocol.ts"
import type { SourceError } from "../../NotificationSource.ts"
import type { TooManyChannels } from "../hub/errors.ts"
import type { ReplaysOverloaded } from "../outbox/replayAdmission.ts"
import type { ResolvedLimits } from "./limits.ts"
import type { PublishRefused } from "../outbox/outboxPublish.ts"
import { isDataFault } from "../link/sqlState.ts"

/** A request that was rejected: the code, and a sentence that is safe to show to anybody. */
export interface Refusal {
  readonly code: ErrorCode
  readonly message: string
  /** Milliseconds until it may succeed. */
  readonly retryAfter?: number
  /** The limit that was crossed, or that what was missed could not be read. */
  readonly limit?: LimitName | "replay"
  /** What that limit is, where only who refused knows it. */
  readonly most?: number
}

/** Of a door, of the channels of its node, or of the outbox that it reads. */
export type LimitName = keyof ResolvedLimits | "maxChannels" | "maxReplays" | "maxReplayQueue"

/** With the sentence of the code, unless there is one that says more. */
export const refusal = (code: ErrorCode, message: string = errorCodes[code].sentence): Refusal => ({
  code,
  message
})

/** A limit was crossed; with a rate, so many milliseconds until it is not. */
export const overLimit = (
  limit: LimitName,
  code: ErrorCode,
  message: string,
  retryAfter?: number
): Refusal =>
  retryAfter === undefined
    ? { code, message, limit }
    : { code, message, limit, retryAfter: Math.max(1, retryAfter) }

/** Those who are refused together come back over so many milliseconds, not at once. */
const spreadMillis = 1000

/** The node has more to do for all together than it may: nothing is wrong with the request. */
export const busy = (limit: LimitName, wait = spreadMillis): Refusal =>
  overLimit(
    limit,
    "server/overloaded",
    errorCodes["server/overloaded"].sentence,
    Math.ceil(wait + Math.random() * spreadMillis)
  )

/** What takes longer than the source may. */
export const sourceDown = overLimit(
  "sourceTimeout",
  "source/down",
  errorCodes["source/down"].sentence
)

const down = refusal("source/down")

/** The source may be well; the database did not give what was missed. */
const unread: Refusal = {
  ...refusal("source/down", "The server could not read what the client missed: try again later."),
  limit: "replay"
}

/** Why the database never takes a publish. */
const publishRefused = {
  table: refusal("publish/forbidden", "Clients do not publish to this channel."),
  key: refusal("publish/invalid", "The key was used with other data."),
  value: refusal("publish/invalid", "The database cannot store this payload or key.")
}

/** What a client is told of a refusal. */
export const errorFrame = (
  { code, message, retryAfter }: Refusal,
  id: number | undefined
): FrameOf<ServerFrame, "error"> => ({
  type: "error",
  ...(id === undefined ? {} : { id }),
  code,
  message,
  retry: errorCodes[code].retry,
  ...(retryAfter === undefined ? {} : { retryAfter })
})

/** A refusal as an error on the way. */
export class RequestRefused {
  readonly _tag = "RequestRefused"
  readonly refusal: Refusal

  constructor(refusal: Refusal) {
    this.refusal = refusal
  }
}

/** What a typed error is; empty for everything else. */
export const tagOf = (error: unknown): unknown =>
  typeof error === "object" && error !== null && "_tag" in error ? error._tag : ""

/** Why no outbox can be read, which lasts: the reader names the cure in the log, once. */
export const isToldByReader = (error: unknown): boolean =>
  ["NotInstalled", "OutdatedInstall", "NotPrimary", "OtherOutbox"].includes(String(tagOf(error)))

/** What a client may know of an error of the hub. */
export const refusalOf = (error: unknown): Refusal => {
  if (error === sourceDown) return sourceDown
  if (error instanceof RequestRefused) return error.refusal
  // For a client it is a source that is down.
  if (isToldByReader(error)) return down
  switch (tagOf(error)) {
    case "InvalidPayload":
      return refusal("publish/invalid")
    case "PayloadTooLarge":
      return refusal("publish/too-large")
    case "PublishRefused":
      return publishRefused[(error as PublishRefused).reason]
    case "ReplaysOverloaded":
      return { ...busy("maxReplayQueue"), most: (error as ReplaysOverloaded).limit }
    case "TooManyChannels":
      return {
        ...busy("maxChannels"),
        message: "The server listens to as many channels as it may. Try again later.",
        most: (error as TooManyChannels).limit
      }
    case "SourceError":
      // A database in another encoding than UTF-8 lacks characters of a live payload.
      return isDataFault((error as SourceError).cause) ? publishRefused.value : down
    case "ReplayError":
      return unread
    default:
      return refusal("server/internal")
  }
}
