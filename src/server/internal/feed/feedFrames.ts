/**
 * What the elected reader sends to the other nodes, as text: ticks, and the pages of their channels.
 *
 * A tick says from which position to which it leads, and how many pages each channel has. A page has the
 * messages of one channel. Both carry the reader's name and the number of the tick: a page of another
 * reader, or of another tick, is never taken for one of this tick. Positions are cursors, so they are in
 * normal form, with the witness of the end and the identity of the database.
 *
 * Positions decide. The numbers only count what was lost.
 */
import * as Cursor from "../../../internal/cursorText.ts"
import { jsonRecord } from "../jsonRecord.ts"
import type { Message, Take } from "../outbox/outbox.ts"
import type { Look } from "../outbox/look.ts"
import { formatPosition } from "../outbox/position.ts"

export interface Tick {
  /** The reader, with its incarnation: no two processes have one name. */
  readonly reader: string
  /** The term of its lease. */
  readonly term: number
  /** The number of the tick, from 0, never used twice by one reader. */
  readonly n: number
  /** The position before it, as a cursor. */
  readonly from: string
  readonly to: Cursor.DurableCursor
  /** The end of the difference that it is a part of. */
  readonly end: Take
  /** The number of pages of each channel with messages; 0 where they are too large to travel. */
  readonly channels: ReadonlyMap<string, number>
  /** Whether the list of channels itself was too large: all are to be read. */
  readonly omitted: boolean
}

export interface FeedPage {
  readonly reader: string
  readonly n: number
  readonly channel: string
  /** The number of the page within its channel and tick, from 0. */
  readonly k: number
  readonly messages: ReadonlyArray<Message>
  /** Roughly its bytes. */
  readonly size: number
}

/** A tick and its pages as text, in the order in which to send them. */
export interface Frames {
  readonly tick: string
  readonly pages: ReadonlyArray<{ readonly channel: string; readonly text: string }>
}

/** The most bytes of a page, also where the carrier takes more. */
const maxPageBytes = 512 * 1024
/** What the names and numbers of a page may take. */
const headBytes = 512

/** The text of a page: a line with the numbers and lengths, then the payloads as they are. */
const encodePage = (
  reader: string,
  n: number,
  channel: string,
  k: number,
  messages: ReadonlyArray<Message>
): string => {
  const rows = messages.map(({ at, id, match, text, trace, tx }) => [
    tx,
    id,
    at,
    text.length,
    match?.length ?? -1,
    ...(trace === undefined ? [] : [trace])
  ])
  return `${JSON.stringify({ r: reader, n, c: channel, k, rows })}\n${messages
    .map(({ match, text }) => text + (match ?? ""))
    .join("")}`
}

/** What a message takes in a page, in bytes. */
const bytesOf = ({ match, text }: Message): number =>
  Buffer.byteLength(text) + (match === undefined ? 0 : Buffer.byteLength(match)) + 160

/** The frames of a look of a reader that reads every channel. `maxBytes`: the largest frame. */
export const feedFramesOf = (
  { end, from, messages, to }: Look,
  {
    identity,
    reader,
    term
  }: { readonly identity: string; readonly reader: string; readonly term: number },
  n: number,
  maxBytes: number
): Frames => {
  const most = Math.min(maxPageBytes, maxBytes - headBytes)
  const byChannel = new Map<
    string,
    { pages: Array<Array<Message>>; bytes: number; fits: boolean }
  >()
  for (const message of messages) {
    let of = byChannel.get(message.channel)
    if (of === undefined) byChannel.set(message.channel, (of = { pages: [], bytes: 0, fits: true }))
    const bytes = bytesOf(message)
    if (bytes > most) of.fits = false
    if (of.pages.length === 0 || of.bytes + bytes > most) {
      of.pages.push([])
      of.bytes = 0
    }
    of.pages.at(-1)!.push(message)
    of.bytes += bytes
  }
  const pages: Array<{ channel: string; text: string }> = []
  // Pairs, because a channel may have the name `__proto__`.
  const counts: Array<readonly [string, number]> = []
  for (const [channel, { fits, pages: parts }] of byChannel) {
    counts.push([channel, fits ? parts.length : 0])
    if (!fits) continue
    for (const [k, part] of parts.entries()) {
      pages.push({ channel, text: encodePage(reader, n, channel, k, part) })
    }
  }
  const head = {
    r: reader,
    t: term,
    n,
    a: formatPosition(identity, from),
    b: formatPosition(identity, to),
    e: end.era,
    pair: [String(end.next), String(end.drawn)]
  }
  const tick = JSON.stringify({ ...head, ch: counts })
  return Buffer.byteLength(tick) <= maxBytes
    ? { tick, pages }
    : { tick: JSON.stringify({ ...head, ch: null }), pages: [] }
}

const digits = /^\d{1,19}$/

const isCount = (value: unknown): boolean =>
  Array.isArray(value) && typeof value[0] === "string" && typeof value[1] === "number"

/** Reads a tick; `undefined` for any other text. */
export const parseTick = (text: string): Tick | undefined => {
  const frame = jsonRecord(text)
  if (frame === undefined) return undefined
  const { a, b, ch, e, n, r, t } = frame
  const pair = frame["pair"]
  if (
    typeof a !== "string" ||
    typeof b !== "string" ||
    typeof e !== "string" ||
    typeof r !== "string" ||
    typeof n !== "number" ||
    typeof t !== "number" ||
    !(ch === null || (Array.isArray(ch) && ch.every(isCount))) ||
    !Array.isArray(pair) ||
    !pair.every((x) => typeof x === "string" && digits.test(x))
  ) {
    return undefined
  }
  const to = Cursor.parseDurable(b)
  if (to === undefined) return undefined
  const normal = to.position.next ?? to.position.base
  return {
    reader: r,
    term: t,
    n,
    from: a,
    to,
    end: {
      snapshot: normal,
      normal,
      last: to.witness,
      next: BigInt(String(pair[0])),
      drawn: BigInt(String(pair[1])),
      era: e,
      written: "0/0"
    },
    channels: new Map((ch ?? []) as ReadonlyArray<readonly [string, number]>),
    omitted: ch === null
  }
}

/** Reads a page; `undefined` for any other text. */
export const parsePageFrame = (text: string): FeedPage | undefined => {
  const line = text.indexOf("\n")
  const frame = line < 0 ? undefined : jsonRecord(text.slice(0, line))
  if (frame === undefined) return undefined
  const { c, k, n, r, rows } = frame
  if (
    typeof c !== "string" ||
    typeof r !== "string" ||
    typeof n !== "number" ||
    typeof k !== "number" ||
    !Array.isArray(rows)
  ) {
    return undefined
  }
  const messages: Array<Message> = []
  let at = line + 1
  for (const row of rows as ReadonlyArray<ReadonlyArray<unknown>>) {
    const [tx, id, time, length, matchLength, trace] = row
    if (typeof tx !== "string" || typeof id !== "string" || !digits.test(id)) return undefined
    const end = at + Number(length)
    const next = end + Math.max(0, Number(matchLength))
    messages.push({
      tx,
      id,
      channel: c,
      at: Number(time),
      text: text.slice(at, end),
      match: Number(matchLength) < 0 ? undefined : text.slice(end, next),
      ...(typeof trace === "string" ? { trace } : {})
    })
    at = next
  }
  // Of another length it was cut, or is of another form.
  return at === text.length
    ? { reader: r, n, channel: c, k, messages, size: text.length }
    : undefined
}
