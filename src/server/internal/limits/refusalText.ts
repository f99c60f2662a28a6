/**
 * The sentences with which requests are rejected, and what a client receives of an error.
 */
import type { FrameOf, ServerFrame } from "../../../Frame.ts"
import { type ErrorCode, errorCodes } from "../../../Protocol.ts"
import type { SourceError } from "../../NotificationSource.ts"
import type { NoHistory, TooManyChannels, TooManyFilters } from "../hub/errors.ts"
import type { StateTooLarge } from "../outbox/state.ts"
import type { ReplaysOverloaded } from "../outbox/replayAdmission.ts"
import type { ResolvedLimits } from "./limits.ts"
import type { PublishRefused } from "../outbox/outboxPublish.ts"
import { isDataFault } from "../link/sqlState.ts"

/** A rejected request: the code, and a sentence that is safe for any client. */
export interface Refusal {
  readonly code: ErrorCode
  readonly message: string
  /** Milliseconds until a retry may succeed. */
  readonly retryAfter?: number
  /** The limit that was exceeded; `replay` if missed events could not be read. */
  readonly limit?: LimitName | "replay"
  /** The value of that limit, if only the error carries it. */
  readonly most?: number
  /** Why, for the log only. */
  readonly why?: string
}

/** The name of a limit of a door, of the channels of its node, or of its outbox. */
export type LimitName =
  | keyof ResolvedLimits
  | "maxChannels"
  | "maxFilters"
  | "maxReplays"
  | "maxReplayQueue"

/** A refusal with the sentence of its code, or a sentence that says more. */
export const refusal = (code: ErrorCode, message: string = errorCodes[code].sentence): Refusal => ({
  code,
  message
})

/** The refusal at a limit. `retryAfter`: milliseconds until a rate allows it again. */
export const overLimit = (
  limit: LimitName,
  code: ErrorCode,
  message: string,
  retryAfter?: number
): Refusal =>
  retryAfter === undefined
    ? { code, message, limit }
    : { code, message, limit, retryAfter: Math.max(1, retryAfter) }

/** Clients that are rejected together retry spread over so many milliseconds. */
const spreadMillis = 1000

/** The refusal at a limit of the node: the request itself is in order. */
export const busy = (limit: LimitName, wait = spreadMillis): Refusal =>
  overLimit(
    limit,
    "server/overloaded",
    errorCodes["server/overloaded"].sentence,
    Math.ceil(wait + Math.random() * spreadMillis)
  )

/** The refusal of a request that waited for the source longer than `sourceTimeout`. */
export const sourceDown = overLimit(
  "sourceTimeout",
  "source/down",
  errorCodes["source/down"].sentence
)

const down = refusal("source/down")

/** The source may be up, but the database did not return the missed events. */
const unread: Refusal = {
  ...refusal("source/down", "The server could not read what the client missed: try again later."),
  limit: "replay"
}

/** Without the column, which may be one that only `authorize` filters by. */
const unfit = refusal(
  "subscribe/invalid-where",
  "The filter has a value that its column cannot have, or that the database writes differently."
)

/** The channel of a route that no row can have. */
const noRoute = refusal(
  "channel/invalid-name",
  "The channel name has a value that its column cannot have, or that the database writes differently."
)

/** The refusals of pages of history. */
const noHistory = {
  volatile: refusal(
    "frame/malformed",
    "The frame is not valid: a volatile channel has no history."
  ),
  before: refusal(
    "frame/malformed",
    "The frame is not valid: before is not the id of an event of this channel."
  ),
  reader: refusal("server/internal")
}

const eventless = refusal(
  "frame/malformed",
  "The frame is not valid: the channel is a presence channel, so it has no events."
)

/** The refusals of publishes that the database will never accept. */
const publishRefused = {
  table: refusal("publish/forbidden", "Clients do not publish to this channel."),
  key: refusal("publish/invalid", "The key was used with other data."),
  value: refusal("publish/invalid", "The database cannot store this payload or key.")
}

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

/** A refusal as the error of an effect. */
export class RequestRefused {
  readonly _tag = "RequestRefused"
  readonly refusal: Refusal

  constructor(refusal: Refusal) {
    this.refusal = refusal
  }
}

/** The tag of a typed error; empty for any other value. */
export const tagOf = (error: unknown): unknown =>
  typeof error === "object" && error !== null && "_tag" in error ? error._tag : ""

/** Whether the outbox cannot be read until the operator acts. The reader logs the cure, once. */
export const isToldByReader = (error: unknown): boolean =>
  ["NotInstalled", "OutdatedInstall", "NotPrimary", "OtherOutbox"].includes(String(tagOf(error)))

/** The refusal for an error of the hub. */
export const refusalOf = (error: unknown): Refusal => {
  if (error === sourceDown) return sourceDown
  if (error instanceof RequestRefused) return error.refusal
  // A client receives it as a source that is down.
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
        message: "The server has opened as many channels as it may. Try again later.",
        most: (error as TooManyChannels).limit
      }
    case "TooManyFilters":
      return {
        ...busy("maxFilters"),
        message:
          "The server has as many different filters of this channel as it may. Try again later.",
        most: (error as TooManyFilters).limit
      }
    case "SourceError":
      // A database in another encoding than UTF-8 lacks characters of a live payload.
      return isDataFault((error as SourceError).cause) ? publishRefused.value : down
    case "StateTooLarge":
      return refusal("state/too-large", (error as StateTooLarge).message)
    case "InvalidFilter":
      return unfit
    case "InvalidChannelName":
      return noRoute
    case "NoState":
      return refusal("state/none")
    case "NoEvents":
      return eventless
    case "NoHistory":
      return noHistory[(error as NoHistory).reason]
    case "ReplayError":
      return unread
    default:
      return refusal("server/internal")
  }
}
