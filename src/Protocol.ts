/**
 * The rules of the wire, version 1: its names, its limits, its error codes and its close codes with
 * the policy each carries. What travels is in `Frame`.
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
 * What is wrong with a channel name, or `undefined` when it is fine.
 *
 * PostgreSQL truncates a longer name in LISTEN and refuses it in NOTIFY, so the two would never
 * meet; `realtime` is the wake-up channel of the durable side.
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
 * What a client should do about an error: nothing, try later, or get a fresh token first.
 *
 * @category errors
 * @since 0.1.0
 */
export type Retry = "never" | "later" | "refresh"

/**
 * Every error code of the wire with what a client should do about it.
 *
 * @category errors
 * @since 0.1.0
 */
export const errorRetry = {
  "auth/required": "never",
  "auth/invalid": "never",
  "auth/expired": "refresh",
  "channel/unknown": "never",
  "channel/invalid-name": "never",
  "channel/forbidden": "never",
  "subscribe/duplicate": "never",
  "subscribe/limit": "later",
  "rate/limited": "later",
  "server/overloaded": "later",
  "server/internal": "later",
  "source/down": "later",
  "publish/forbidden": "never",
  "publish/invalid": "never",
  "publish/too-large": "never",
  "frame/malformed": "never",
  "frame/unknown": "never"
} as const satisfies Record<string, Retry>

/**
 * @category errors
 * @since 0.1.0
 */
export type ErrorCode = keyof typeof errorRetry

/**
 * Every close code of the wire.
 *
 * @category close codes
 * @since 0.1.0
 */
export const CloseCode = {
  draining: 4000,
  slowConsumer: 4001,
  nothingHeard: 4002,
  flooding: 4003,
  tooManySessions: 4004,
  noHello: 4005,
  tokenExpired: 4100,
  revoked: 4101,
  protocolViolation: 4200,
  versionNotSupported: 4201,
  forbidden: 4202,
  removed: 4205,
  messageTooLarge: 1009
} as const

/**
 * What a client does after a close code. The range is the policy, so that new codes need no new clients.
 *
 * @category close codes
 * @since 0.1.0
 */
export const closePolicy = (code: number): "reconnect" | "refresh" | "stop" => {
  const range = Math.floor(code / 100)
  // 1009 is the one code of the WebSocket protocol that says that trying again would not help.
  return range === 42 || code === 1009 ? "stop" : range === 41 ? "refresh" : "reconnect"
}

/**
 * How deep a client's frame may nest, the frame itself being depth 1.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxDepth = 64

/**
 * Names that no object on the wire may have: they could reach a prototype where they are copied carelessly.
 *
 * @category constants
 * @since 0.1.0
 */
export const refusedNames: ReadonlySet<string> = /* @__PURE__ */ new Set([
  "__proto__",
  "constructor",
  "prototype"
])
