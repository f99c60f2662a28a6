/**
 * The rules of the wire, version 1: its names, limits and words, and its error codes and close codes with
 * the policy and the sentence of each. The frames are in `Frame`. `PROTOCOL.md` is for authors of clients
 * in other languages.
 *
 * @since 0.1.0
 */

/**
 * The version that `hello` must name.
 *
 * @category constants
 * @since 0.1.0
 */
export const version = 1

/**
 * The WebSocket subprotocol.
 *
 * @category constants
 * @since 0.1.0
 */
export const subprotocol = "effect-realtime.v1"

/**
 * What is wrong with a channel name, or `undefined` when it is valid.
 *
 * A name has at most 63 bytes, because PostgreSQL truncates a longer one in LISTEN and rejects it in
 * NOTIFY. `realtime` is the wake-up channel of the outbox.
 *
 * @category names
 * @since 0.1.0
 */
export const channelNameFault = (name: string): string | undefined =>
  /^realtime(:|$)/.test(name)
    ? "is reserved"
    : name === ""
      ? "is empty"
      : /[^\w.:-]/.test(name)
        ? "contains a character that is not allowed"
        : name.length > 63
          ? `is ${name.length} bytes long`
          : undefined

/**
 * What a client does about an error: nothing, retry later, or get a fresh token first.
 *
 * @category words
 * @since 0.1.0
 */
export const retries = ["never", "later", "refresh"] as const

/**
 * One of `retries`.
 *
 * @category words
 * @since 0.1.0
 */
export type Retry = (typeof retries)[number]

/**
 * How a subscription begins: at the present, at the cursor that the client gave, or at the present
 * because the server could not resume from that cursor.
 *
 * @category words
 * @since 0.1.0
 */
export const joinStates = ["fresh", "recovered", "reset"] as const

/**
 * One of `joinStates`.
 *
 * @category words
 * @since 0.1.0
 */
export type JoinState = (typeof joinStates)[number]

/**
 * Whether events flow from the database to the server.
 *
 * @category words
 * @since 0.1.0
 */
export const sourceStates = ["up", "down"] as const

/**
 * One of `sourceStates`.
 *
 * @category words
 * @since 0.1.0
 */
export type SourceState = (typeof sourceStates)[number]

/**
 * Every error code of the wire: what a client does about it, and one sentence that is safe to show. The
 * server sends this sentence, or a more specific one.
 *
 * @category errors
 * @since 0.1.0
 */
export const errorCodes = {
  "auth/required": { retry: "never", sentence: "The server requires a token." },
  "auth/invalid": { retry: "never", sentence: "The token is not valid." },
  "auth/expired": { retry: "refresh", sentence: "The token has expired: get a fresh one." },
  "channel/unknown": { retry: "never", sentence: "The server has no channel of this name." },
  "channel/invalid-name": { retry: "never", sentence: "The channel name is not valid." },
  "channel/forbidden": {
    retry: "never",
    sentence: "The client may not subscribe to this channel."
  },
  "subscribe/duplicate": {
    retry: "never",
    sentence: "The session is subscribed to this channel already."
  },
  "subscribe/invalid-where": {
    retry: "never",
    sentence: "The filter does not fit this channel."
  },
  "state/too-large": {
    retry: "never",
    sentence: "The state has more rows or bytes than a socket takes."
  },
  "state/none": { retry: "never", sentence: "The server has no state of this channel." },
  "subscribe/limit": {
    retry: "later",
    sentence: "The session has as many subscriptions as it may have: leave one first."
  },
  "rate/limited": { retry: "later", sentence: "The client asks too often: slow down." },
  "server/overloaded": {
    retry: "later",
    sentence: "The server has too much to do: try again later."
  },
  "server/internal": { retry: "later", sentence: "The server failed: try again later." },
  "source/down": {
    retry: "later",
    sentence: "The source of this channel is down: try again later."
  },
  "publish/forbidden": {
    retry: "never",
    sentence: "The client may not publish to this channel."
  },
  "publish/invalid": {
    retry: "never",
    sentence: "The payload does not match the schema of this channel."
  },
  "publish/too-large": {
    retry: "never",
    sentence: "The payload is larger than this channel carries."
  },
  "publish/expired": {
    retry: "never",
    sentence: "The publish came later than the client gave it time."
  },
  "frame/malformed": { retry: "never", sentence: "The frame is not valid." },
  "frame/unknown": { retry: "never", sentence: "The server does not know this type of frame." }
} as const satisfies Readonly<Record<string, { readonly retry: Retry; readonly sentence: string }>>

/**
 * One of the names in `errorCodes`, e.g. `channel/forbidden`.
 *
 * @category errors
 * @since 0.1.0
 */
export type ErrorCode = keyof typeof errorCodes

/**
 * What a client does after a close: reconnects with backoff, gets a fresh token and reconnects, or stops
 * and reports it.
 *
 * @category close codes
 * @since 0.1.0
 */
export const closePolicies = ["reconnect", "refresh", "stop"] as const

/**
 * One of `closePolicies`.
 *
 * @category close codes
 * @since 0.1.0
 */
export type ClosePolicy = (typeof closePolicies)[number]

/**
 * Every close code that a server sends, by its name: what a client does after it, and one sentence.
 *
 * The sentence travels as the reason of the close frame (`closeReason`). So a browser bundle has none of
 * them, and can show the sentence of a newer code. Where WebSocket defines the code (1002, 1007, 1008,
 * 1009) the close frame has no reason.
 *
 * @category close codes
 * @since 0.1.0
 */
export const closeCodes = {
  draining: { code: 4000, policy: "reconnect", sentence: "The server is closing." },
  slowConsumer: { code: 4001, policy: "reconnect", sentence: "The client reads too slowly." },
  nothingHeard: {
    code: 4002,
    policy: "reconnect",
    sentence: "The server heard nothing from the client."
  },
  flooding: {
    code: 4003,
    policy: "reconnect",
    sentence: "The client sends too much, or the server has too much to do."
  },
  tooManySessions: {
    code: 4004,
    policy: "reconnect",
    sentence: "The identity has too many sessions."
  },
  noHello: { code: 4005, policy: "reconnect", sentence: "The client did not say hello in time." },
  tokenExpired: { code: 4100, policy: "refresh", sentence: "The token has expired." },
  revoked: {
    code: 4101,
    policy: "refresh",
    sentence: "The server revoked the sessions of this identity."
  },
  protocolViolation: { code: 4200, policy: "stop", sentence: "The client broke the protocol." },
  versionNotSupported: {
    code: 4201,
    policy: "stop",
    sentence: "The server speaks another version of the protocol."
  },
  forbidden: { code: 4202, policy: "stop", sentence: "The server does not let the client in." },
  removed: { code: 4205, policy: "stop", sentence: "The operator removed the session." },
  invalidMessage: {
    code: 1002,
    policy: "reconnect",
    sentence: "The client sent what is not WebSocket."
  },
  invalidText: {
    code: 1007,
    policy: "reconnect",
    sentence: "The client sent text that is not UTF-8."
  },
  tooManyPieces: {
    code: 1008,
    policy: "reconnect",
    sentence: "The client sent a message in too many pieces."
  },
  messageTooLarge: {
    code: 1009,
    policy: "stop",
    sentence: "The client sent a message that is larger than limits.frameBytes of its welcome."
  },
  serverFailed: { code: 1011, policy: "reconnect", sentence: "The server failed." }
} as const satisfies Readonly<
  Record<string, { readonly code: number; readonly policy: ClosePolicy; readonly sentence: string }>
>

/**
 * One of the names in `closeCodes`, e.g. `slowConsumer`.
 *
 * @category close codes
 * @since 0.1.0
 */
export type CloseName = keyof typeof closeCodes

/**
 * The reason of a close frame: the sentence of its code and the details of this close, without the full
 * stop, because clients show it inside sentences. At most 123 bytes, as WebSocket requires.
 *
 * @category close codes
 * @since 0.1.0
 */
export const closeReason = (name: CloseName, detail?: string): string => {
  const reason = closeCodes[name].sentence.slice(0, -1)
  return detail === undefined ? reason : `${reason}: ${detail}`
}

/**
 * What a client does after a close code. The range gives the policy, so new codes need no new clients.
 *
 * @category close codes
 * @since 0.1.0
 */
export const closePolicy = (code: number): ClosePolicy => {
  const range = Math.floor(code / 100)
  // 1009 is the one code of WebSocket itself after which a retry cannot help.
  return range === 42 || code === 1009 ? "stop" : range === 41 ? "refresh" : "reconnect"
}

/**
 * How deep a client's frame may nest, in levels. The frame itself is level 1.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxDepth = 64

/**
 * Names that no object on the wire may have: they could reach a prototype when a program copies the
 * object carelessly.
 *
 * @category constants
 * @since 0.1.0
 */
export const refusedNames: ReadonlySet<string> = /* @__PURE__ */ new Set([
  "__proto__",
  "constructor",
  "prototype"
])
