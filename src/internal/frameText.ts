/**
 * Frames as text, for payloads that are JSON text already.
 *
 * In: payloads and events as JSON text. Out: the text of the frame around them, the same bytes as
 * `Frame.encode` gives. It also keeps the text that a client sent, when parsing it changed a number.
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

/** The field `view` of a frame; nothing without a filter. */
const viewField = (view: string | undefined): string =>
  view === undefined ? "" : `"view":"${view}",`

/** The text of an `events` frame around events that are text already. An empty cursor does not travel. */
export const encodeEvents = (
  channel: string,
  cursor: string,
  events: ReadonlyArray<string>,
  view?: string
): string =>
  `{"type":"events","channel":"${channel}",${viewField(view)}${cursor === "" ? "" : `"cursor":"${cursor}",`}"events":[${
    // Joining copies the text, also that of a single event.
    events.length === 1 ? events[0] : events.join(",")
  }]}`

/** The text of a `state` frame around rows, and keys of rows that do not match, that are text already. */
export const encodeState = (
  channel: string,
  view: string | undefined,
  cursor: string,
  rows: ReadonlyArray<string>,
  invalid: ReadonlyArray<string>,
  more: boolean
): string => {
  const named = invalid.length === 0 ? "" : `"invalid":[${invalid.join(",")}],`
  return `{"type":"state","channel":"${channel}",${viewField(view)}"cursor":"${cursor}","rows":[${rows.join(",")}],${named}"more":${more}}`
}

/** The text of a `history` frame around events that are text already. */
export const encodeHistory = (
  id: number,
  channel: string,
  events: ReadonlyArray<string>,
  more: boolean
): string =>
  `{"type":"history","id":${id},"channel":"${channel}","events":[${events.join(",")}],"more":${more}}`

/** The text of a `state` frame with the id of the request that it answers. */
export const answering = (state: string, id: number): string =>
  `{"type":"state","id":${id}${state.slice(`{"type":"state"`.length)}`

/** The reason of a malformed frame that nests too deep. */
export const tooDeep = (levels: number): string => `nested deeper than ${levels} levels`

/** The texts of frames in which a number became a string. */
const texts = /* @__PURE__ */ new WeakMap<object, string>()

/** Keeps the text of a frame in which a number became a string. */
export const keepText = (frame: object, text: string): void => void texts.set(frame, text)

/**
 * The text that a client sent for a frame in which a number became a string, else `undefined`. A codec
 * that may round the number finds there which strings were numbers.
 */
export const exactTextOf = (frame: object): string | undefined => texts.get(frame)
