/**
 * Positions in a channel, as text. Opaque to applications; parsed and capped here, wherever they come from.
 *
 * A live cursor is `<epoch>:<seq>`: the epoch names one unbroken span of LISTEN on one node, the
 * sequence counts its events from 1. Cursors of different epochs cannot be compared: a lost link
 * begins a new epoch, which is how an old cursor is noticed.
 *
 * A durable cursor is `1.<identity>.<position>`: the identity names the database as it was when the
 * cursor was given (another one, a restored copy or one after a crash has another), the position is
 * what PostgreSQL calls a snapshot: which transactions were over. Its algebra is here because a
 * client needs it too, to drop the events that a state it loaded already contains.
 *
 * @since 0.1.0
 */

/**
 * A position in a live channel: everything up to and including event `seq` of `epoch` was seen.
 *
 * @category models
 * @since 0.1.0
 */
export interface LiveCursor {
  /** 1-32 characters of `[A-Za-z0-9_-]`. */
  readonly epoch: string
  /** From 0 (nothing seen) to 2^53-1. */
  readonly seq: number
}

/**
 * The largest cursor that is looked at, in bytes (8 KiB). A longer one is treated as one that does not parse.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxBytes = 8 * 1024

const live = /^([A-Za-z0-9_-]{1,32}):(0|[1-9][0-9]{0,15})$/

/**
 * @category encoding
 * @since 0.1.0
 */
export const formatLive = (epoch: string, seq: number): string => `${epoch}:${seq}`

/**
 * Reads a live cursor; `undefined` when the text is not one. Never throws.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseLive = (text: string): LiveCursor | undefined => {
  // 49 = 32 characters of epoch, a colon, 16 digits: longer text cannot be a live cursor.
  if (text.length > 49) return undefined
  const parts = live.exec(text)
  if (parts === null) return undefined
  const seq = Number(parts[2])
  return Number.isSafeInteger(seq) ? { epoch: parts[1]!, seq } : undefined
}

/**
 * Which transactions are seen: every one below `xmax` except those in `running`.
 *
 * Always canonical: `running` ascends and lies below `xmax`, and `xmax - 1` is not in it, so that one
 * set of transactions has one form. Transaction ids are 64 bits wide, hence bigint.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  readonly xmax: bigint
  /** The transactions that were in progress. */
  readonly running: ReadonlyArray<bigint>
}

/**
 * A position in the durable channels of a database: everything that `base` sees, and, in the middle
 * of a page, also what `next` sees up to the message `id`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Position {
  readonly base: Snapshot
  /** Sees everything that `base` sees; `undefined` for a whole position. */
  readonly next: Snapshot | undefined
  /** 0 for a whole position. */
  readonly id: bigint
}

/**
 * A durable cursor.
 *
 * @category models
 * @since 0.1.0
 */
export interface DurableCursor {
  /** 8 characters of `[A-Za-z0-9_-]`; positions of different identities cannot be compared. */
  readonly identity: string
  readonly position: Position
}

/** 2^63: PostgreSQL counts neither transactions nor messages beyond it. */
const limit = 9_223_372_036_854_775_808n

/** PostgreSQL skips the numbers whose lower half is 0 and does not take them as input either. */
const isTransaction = (x: bigint): boolean => x > 0n && x < limit && (x & 0xffff_ffffn) !== 0n

/** Whether an ascending list holds `x`. */
const holds = (list: ReadonlyArray<bigint>, x: bigint): boolean => {
  let low = 0
  let high = list.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (list[middle]! < x) low = middle + 1
    else high = middle
  }
  return list[low] === x
}

/** `running` must ascend. The highest transactions are dropped while they are in progress. */
const canonical = (xmax: bigint, running: ReadonlyArray<bigint>): Snapshot => {
  let top = xmax
  let length = running.length
  while (length > 0 && running[length - 1] === top - 1n) {
    length--
    top--
  }
  return { xmax: top, running: length === running.length ? running : running.slice(0, length) }
}

/**
 * Whether a snapshot sees a transaction.
 *
 * @category combinators
 * @since 0.1.0
 */
export const visible = (snapshot: Snapshot, tx: bigint): boolean =>
  tx < snapshot.xmax && !holds(snapshot.running, tx)

/**
 * Whether snapshot `a` sees everything that `b` sees.
 *
 * @category combinators
 * @since 0.1.0
 */
export const contains = (a: Snapshot, b: Snapshot): boolean => {
  // The highest transaction below a canonical xmax is one that it sees.
  if (b.xmax > a.xmax) return false
  for (const x of a.running) if (visible(b, x)) return false
  return true
}

/**
 * Whether a reader that stands at `snapshot` has everything that a position has.
 *
 * @category combinators
 * @since 0.1.0
 */
export const dominates = (snapshot: Snapshot, position: Position): boolean =>
  contains(snapshot, position.next ?? position.base)

/**
 * Whether a position has the message `id` of transaction `tx`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const seen = (position: Position, tx: bigint, id: bigint): boolean =>
  visible(position.base, tx) ||
  (position.next !== undefined && id <= position.id && visible(position.next, tx))

const digits = /^\d{1,19}$/

/**
 * Whether an event is already part of what was read at `cursor`, so that who loaded a state at that
 * cursor drops the event. `false` for an event without a transaction: a live one.
 *
 * @category combinators
 * @since 0.1.0
 */
export const seenEvent = (
  cursor: DurableCursor,
  event: { readonly id: string; readonly tx?: string | undefined }
): boolean =>
  event.tx !== undefined &&
  digits.test(event.tx) &&
  digits.test(event.id) &&
  seen(cursor.position, BigInt(event.tx), BigInt(event.id))

/**
 * @category constructors
 * @since 0.1.0
 */
export const whole = (snapshot: Snapshot): Position => ({ base: snapshot, next: undefined, id: 0n })

/**
 * @category constructors
 * @since 0.1.0
 */
export const midway = (base: Snapshot, next: Snapshot, id: bigint): Position => ({ base, next, id })

/**
 * The most transactions in progress that a snapshot may name (5,000). PostgreSQL has as many at most
 * as it has connections and prepared transactions.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxRunning = 5000

const pgSnapshot = /^(\d{1,19}):(\d{1,19}):((?:\d{1,19}(?:,\d{1,19})*)?)$/

/**
 * Reads the text of a `pg_snapshot`; `undefined` when it is not one. Never throws.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseSnapshot = (text: string): Snapshot | undefined => {
  const parts = pgSnapshot.exec(text)
  if (parts === null) return undefined
  const xmin = BigInt(parts[1]!)
  const xmax = BigInt(parts[2]!)
  const running = parts[3] === "" ? [] : parts[3]!.split(",").map(BigInt)
  if (!isTransaction(xmin) || !isTransaction(xmax) || xmin > xmax) return undefined
  if (running.length > maxRunning) return undefined
  let previous = xmin - 1n
  for (const x of running) {
    if (x <= previous || x >= xmax || !isTransaction(x)) return undefined
    previous = x
  }
  return canonical(xmax, running)
}

/**
 * The text of a `pg_snapshot`.
 *
 * @category encoding
 * @since 0.1.0
 */
export const formatSnapshot = ({ running, xmax }: Snapshot): string =>
  `${running[0] ?? xmax}:${xmax}:${running.join(",")}`

// -----------------------------------------------------------------------------------------------
// The token: base64url of varints. A snapshot is its xmax and the distances downwards between the
// transactions in progress; `next` is written as what changed since `base`.

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

const toBase64 = (bytes: ReadonlyArray<number>): string => {
  let text = ""
  for (let index = 0; index < bytes.length; index += 3) {
    const left = bytes.length - index
    const group = (bytes[index]! << 16) | ((bytes[index + 1] ?? 0) << 8) | (bytes[index + 2] ?? 0)
    text += alphabet[group >> 18]! + alphabet[(group >> 12) & 63]!
    if (left > 1) text += alphabet[(group >> 6) & 63]!
    if (left > 2) text += alphabet[group & 63]!
  }
  return text
}

/** The alphabet was checked by the caller; spare bits at the end are caught by encoding again. */
const fromBase64 = (text: string): ReadonlyArray<number> => {
  const bytes: Array<number> = []
  let buffer = 0
  let bits = 0
  for (const character of text) {
    buffer = ((buffer << 6) | alphabet.indexOf(character)) & 0xffff
    bits += 6
    if (bits >= 8) {
      bits -= 8
      bytes.push((buffer >> bits) & 255)
    }
  }
  return bytes
}

const writeVarint = (out: Array<number>, value: bigint): void => {
  let rest = value
  while (rest > 127n) {
    out.push(Number(rest & 127n) | 128)
    rest >>= 7n
  }
  out.push(Number(rest))
}

/** Distances downwards from `top` through an ascending list. */
const writeRunning = (out: Array<number>, top: bigint, running: ReadonlyArray<bigint>): void => {
  writeVarint(out, BigInt(running.length))
  let previous = top
  for (let index = running.length - 1; index >= 0; index--) {
    writeVarint(out, previous - running[index]! - 1n)
    previous = running[index]!
  }
}

/**
 * The text of a durable cursor. A position with very many transactions in progress may exceed
 * `maxBytes`; it is then answered `reset` when it comes back, and never shortened, which would repeat
 * events.
 *
 * @category encoding
 * @since 0.1.0
 */
export const formatDurable = ({ identity, position }: DurableCursor): string => {
  const { base, id, next } = position
  const out: Array<number> = []
  writeVarint(out, base.xmax)
  writeRunning(out, base.xmax, base.running)
  if (next !== undefined) {
    writeVarint(out, next.xmax - base.xmax)
    // One bit for each transaction of `base`: whether it is still in progress in `next`.
    for (let index = 0; index < base.running.length; index += 8) {
      let byte = 0
      for (let bit = 0; bit < 8; bit++) {
        const x = base.running[index + bit]
        if (x !== undefined && holds(next.running, x)) byte |= 1 << bit
      }
      out.push(byte)
    }
    const fresh = next.running.filter((x) => x >= base.xmax)
    writeRunning(out, next.xmax, fresh)
    writeVarint(out, id)
  }
  return `1.${identity}.${toBase64(out)}`
}

const durable = /^1\.([A-Za-z0-9_-]{8})\.([A-Za-z0-9_-]+)$/

/**
 * Reads a durable cursor; `undefined` when the text is not one, or is larger than `maxBytes`. Never
 * throws, and accepts exactly one spelling of each position.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseDurable = (text: string): DurableCursor | undefined => {
  // Every character that matches is one byte.
  const parts = text.length > maxBytes ? null : durable.exec(text)
  if (parts === null) return undefined
  const position = decodePosition(fromBase64(parts[2]!))
  if (position === undefined) return undefined
  const cursor = { identity: parts[1]!, position }
  return formatDurable(cursor) === text ? cursor : undefined
}

/** What is wrong in a spelling but harmless here is caught by encoding again. */
const decodePosition = (bytes: ReadonlyArray<number>): Position | undefined => {
  let offset = 0
  let broken = false
  const varint = (): bigint => {
    let value = 0n
    for (let shift = 0n; shift < 63n; shift += 7n) {
      const byte = bytes[offset++]
      if (byte === undefined) break
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return value
    }
    broken = true
    return 0n
  }
  const readRunning = (top: bigint): ReadonlyArray<bigint> => {
    const count = varint()
    const running: Array<bigint> = []
    let previous = top
    // Each takes a byte, so a count beyond what is left breaks off at the end of the bytes.
    for (let index = 0n; index < count && !broken; index++) {
      previous -= varint() + 1n
      if (!isTransaction(previous) || running.length === maxRunning) broken = true
      running.push(previous)
    }
    return running.toReversed()
  }
  const xmax = varint()
  const base = canonical(xmax, readRunning(xmax))
  let position = whole(base)
  if (offset < bytes.length) {
    const top = xmax + varint()
    const kept: Array<bigint> = []
    for (let index = 0; index < base.running.length; index += 8) {
      const byte = bytes[offset++] ?? 0
      for (let bit = 0; bit < 8; bit++) {
        const x = base.running[index + bit]
        if (x !== undefined && (byte >> bit) & 1) kept.push(x)
      }
    }
    const fresh = readRunning(top)
    if (fresh.length > 0 && fresh[0]! < xmax) broken = true
    const next = canonical(top, [...kept, ...fresh])
    position = midway(base, next, varint())
    if (!isTransaction(top) || !contains(next, base)) broken = true
  }
  return broken || !isTransaction(xmax) || offset !== bytes.length ? undefined : position
}
