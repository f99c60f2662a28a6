/**
 * Frames as text, where a frame need not be a value first.
 *
 * In: payloads and events that are JSON text already. Out: the text of the frame around them, the same
 * bytes as `Frame.encode` gives. It also keeps the text that a client sent, where reading it as JSON
 * changed a number.
 *
 * @since 0.1.0
 */

/** The text of a `publish` frame around a payload that is JSON text already. */
export const encodePublish = (id: number, channel: string, key: string, json: string): string =>
  `{"type":"publish","id":${id},"channel":"${channel}","key":${JSON.stringify(key)},"data":${json}}`

/** The text of one event around a payload that is JSON text already. */
export const encodeEvent = (id: string, at: string, json: string, tx?: string): string =>
  tx === undefined
    ? `{"id":"${id}","at":"${at}","data":${json}}`
    : `{"id":"${id}","at":"${at}","data":${json},"tx":"${tx}"}`

/** The text of an `events` frame around events that are text already. */
export const encodeEvents = (
  channel: string,
  cursor: string,
  events: ReadonlyArray<string>
): string =>
  `{"type":"events","channel":"${channel}","cursor":"${cursor}","events":[${
    // Joining copies the text, also of a single one.
    events.length === 1 ? events[0] : events.join(",")
  }]}`

/** Why a frame is malformed that nests too deep. */
export const tooDeep = (levels: number): string => `nested deeper than ${levels} levels`

/** The texts of frames in which a number became a string. */
const texts = /* @__PURE__ */ new WeakMap<object, string>()

/** Keeps the text that a client sent, of a frame with a number that became a string. */
export const keepText = (frame: object, text: string): void => void texts.set(frame, text)

/**
 * The text that a client sent, of a frame with a number that became a string: a codec that may round it
 * looks there for which strings were numbers. Of others `undefined`.
 */
export const exactTextOf = (frame: object): string | undefined => texts.get(frame)
