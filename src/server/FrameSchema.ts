/**
 * The frames of the wire as Schemas, for servers, tools and documentation.
 *
 * They are the same frames as in `Frame`: a property test checks that both accept, reject and drop the
 * same. Browsers use the hand-written decoders of `Frame` and never import this module.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { joinStates, retries, sourceStates } from "../Protocol.ts"

/** An integer from 0 to 2^53-1: an id, or a duration in milliseconds. */
const Count = Schema.Int.check(
  Schema.isGreaterThanOrEqualTo(0),
  Schema.isLessThanOrEqualTo(Number.MAX_SAFE_INTEGER)
)
const Retry = Schema.Literals(retries)
/** 1-64 characters that every database stores unchanged. */
const Key = Schema.String.check(
  Schema.isMinLength(1),
  Schema.isMaxLength(64),
  Schema.makeFilter((key) => !key.includes("\0") && key.isWellFormed(), {
    expected: "a string without NUL and without half of a surrogate pair"
  })
)
/** Any value that `JSON.parse` gives, and it must be there. The channel's codec checks it. */
const Data = Schema.Unknown
/** The text of a filtered subscription; absent on others. */
const View = Schema.optionalKey(Schema.String)
const Events = Schema.Array(
  Schema.Struct({
    id: Schema.String,
    at: Schema.String,
    data: Data,
    tx: Schema.optionalKey(Schema.String)
  })
)
const Scalar = Schema.Union([Schema.String, Schema.Finite, Schema.Boolean])
const Where = Schema.Record(
  Schema.String,
  Schema.Union([Scalar, Schema.Array(Scalar), Schema.Null])
)

/**
 * Every frame a client may send.
 *
 * @category schemas
 * @since 0.1.0
 */
export const ClientFrame = Schema.Union([
  Schema.Struct({
    type: Schema.Literal("hello"),
    version: Count,
    token: Schema.optionalKey(Schema.String),
    client: Schema.optionalKey(Schema.Struct({ name: Schema.String, version: Schema.String }))
  }),
  Schema.Struct({
    type: Schema.Literal("subscribe"),
    id: Count,
    channel: Schema.String,
    cursor: Schema.optionalKey(Schema.String),
    state: Schema.optionalKey(Schema.Boolean),
    where: Schema.optionalKey(Where)
  }),
  Schema.Struct({ type: Schema.Literal("state"), id: Count, channel: Schema.String, view: View }),
  Schema.Struct({
    type: Schema.Literal("history"),
    id: Count,
    channel: Schema.String,
    before: Schema.optionalKey(Schema.String),
    limit: Count
  }),
  Schema.Struct({
    type: Schema.Literal("unsubscribe"),
    id: Count,
    channel: Schema.String,
    view: View
  }),
  Schema.Struct({
    type: Schema.Literal("publish"),
    id: Count,
    channel: Schema.String,
    within: Schema.optionalKey(Count),
    key: Schema.optionalKey(Key),
    trace: Schema.optionalKey(Schema.String),
    data: Data
  }),
  Schema.Struct({
    type: Schema.Literal("present"),
    id: Count,
    channel: Schema.String,
    member: Data
  }),
  Schema.Struct({ type: Schema.Literal("absent"), id: Count, channel: Schema.String }),
  Schema.Struct({ type: Schema.Literal("authenticate"), id: Count, token: Schema.String }),
  Schema.Struct({ type: Schema.Literal("ping") }),
  Schema.Struct({ type: Schema.Literal("pong") })
])

/**
 * Every frame a server may send.
 *
 * @category schemas
 * @since 0.1.0
 */
export const ServerFrame = Schema.Union([
  Schema.Struct({
    type: Schema.Literal("welcome"),
    version: Count,
    session: Schema.String,
    ping: Count,
    slack: Count,
    expires: Schema.optionalKey(Count),
    limits: Schema.Struct({
      subscriptions: Count,
      frameBytes: Count,
      publishPerSecond: Count,
      volatilePerSecond: Count
    })
  }),
  Schema.Struct({
    type: Schema.Literal("subscribed"),
    id: Count,
    channel: Schema.String,
    state: Schema.Literals(joinStates),
    cursor: Schema.optionalKey(Schema.String),
    view: View
  }),
  Schema.Struct({ type: Schema.Literal("unsubscribed"), id: Count, channel: Schema.String }),
  Schema.Struct({ type: Schema.Literal("published"), id: Count }),
  Schema.Struct({
    type: Schema.Literal("history"),
    id: Count,
    channel: Schema.String,
    events: Events,
    more: Schema.Boolean
  }),
  Schema.Struct({ type: Schema.Literal("present"), id: Count, member: Schema.String }),
  Schema.Struct({ type: Schema.Literal("absent"), id: Count }),
  Schema.Struct({
    type: Schema.Literal("authenticated"),
    id: Count,
    expires: Schema.optionalKey(Count)
  }),
  Schema.Struct({
    type: Schema.Literal("events"),
    channel: Schema.String,
    view: View,
    cursor: Schema.optionalKey(Schema.String),
    events: Events
  }),
  Schema.Struct({
    type: Schema.Literal("state"),
    id: Schema.optionalKey(Count),
    channel: Schema.String,
    view: View,
    cursor: Schema.String,
    rows: Schema.Array(Data),
    invalid: Schema.optionalKey(Schema.Array(Data)),
    more: Schema.Boolean
  }),
  Schema.Struct({
    type: Schema.Literal("members"),
    channel: Schema.String,
    count: Count,
    set: Schema.optionalKey(Schema.Record(Schema.String, Data)),
    gone: Schema.optionalKey(Schema.Array(Schema.String)),
    whole: Schema.optionalKey(Schema.Boolean)
  }),
  Schema.Struct({
    type: Schema.Literal("cursor"),
    channel: Schema.String,
    view: View,
    cursor: Schema.String
  }),
  Schema.Struct({
    type: Schema.Literal("gap"),
    channel: Schema.String,
    view: View,
    reason: Schema.String,
    cursor: Schema.String,
    now: Schema.optionalKey(Schema.String),
    change: Schema.optionalKey(
      Schema.Struct({
        id: Schema.String,
        tx: Schema.String,
        operation: Schema.Literals(["INSERT", "UPDATE", "DELETE"]),
        key: Schema.Record(Schema.String, Data)
      })
    )
  }),
  Schema.Struct({
    type: Schema.Literal("ended"),
    channel: Schema.String,
    view: View,
    code: Schema.String,
    message: Schema.String,
    retry: Retry
  }),
  Schema.Struct({
    type: Schema.Literal("error"),
    id: Schema.optionalKey(Count),
    code: Schema.String,
    message: Schema.String,
    retry: Retry,
    retryAfter: Schema.optionalKey(Count)
  }),
  Schema.Struct({ type: Schema.Literal("status"), source: Schema.Literals(sourceStates) }),
  Schema.Struct({ type: Schema.Literal("ping") }),
  Schema.Struct({ type: Schema.Literal("pong") }),
  Schema.Struct({ type: Schema.Literal("bye"), reconnectAfter: Count })
])
