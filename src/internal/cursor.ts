/**
 * Positions in a channel, as text. Parsed and capped here, wherever they come from.
 *
 * A live cursor is `<epoch>:<seq>`: the epoch names one unbroken span of LISTEN on one node, the
 * sequence counts its events from 1. Cursors of different epochs cannot be compared: a lost link
 * begins a new epoch, which is how an old cursor is noticed.
 *
 * A durable cursor is `2.<identity>.<position>`: the identity names the database, the position is what
 * PostgreSQL calls a snapshot: which transactions were over. Its algebra is here because a client
 * needs it too, to drop the events that a state it loaded already contains.
 *
 * A snapshot also counts transactions that came to nothing, and after a crash PostgreSQL may give their
 * numbers out again. Hence a cursor holds the normal form of a snapshot, which ends at the highest
 * transaction T that wrote a message and that the snapshot sees: no message lies above, so the same
 * messages are seen, and as long as T is there no number up to T is given out again. The last message of
 * T goes with the cursor as its witness: it is looked up wherever a cursor comes from outside.
 *
 * @since 0.1.0
 */

/** A position in a live channel: everything up to and including event `seq` of `epoch` was seen. */
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

export const formatLive = (epoch: string, seq: number): string => `${epoch}:${seq}`

/** Reads a live cursor; `undefined` when the text is not one. Never throws. */
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
 */
export interface PgSnapshot {
  readonly xmax: bigint
  /** The transactions that were in progress. */
  readonly running: ReadonlyArray<bigint>
}

/**
 * A position in the durable channels of a database: everything that `base` sees, and, in the middle
 * of a page, also what `next` sees up to the message `id`.
 */
export interface Position {
  readonly base: PgSnapshot
  /** Sees everything that `base` sees; `undefined` for a whole position. */
  readonly next: PgSnapshot | undefined
  /** 0 for a whole position. */
  readonly id: bigint
}

/** The last message of the highest transaction that a snapshot sees. */
export interface Witness {
  /** 0 where no message is seen; `id` and `at` are 0 then. */
  readonly tx: bigint
  readonly id: bigint
  /** When it was written, in microseconds since 1970. */
  readonly at: bigint
}

/** A durable cursor. */
export interface DurableCursor {
  /** 8 characters of `[A-Za-z0-9_-]`; positions of different identities cannot be compared. */
  readonly identity: string
  /** In normal form. */
  readonly position: Position
  /** Of the position's last snapshot. */
  readonly witness: Witness
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

/**
 * `running` must ascend. The highest numbers are dropped while they are in progress, or no transaction's:
 * T + 1 may be one that PostgreSQL skips, where a snapshot of its own ends one higher.
 */
const canonical = (xmax: bigint, running: ReadonlyArray<bigint>): PgSnapshot => {
  let top = xmax
  let length = running.length
  while (true) {
    if (length > 0 && running[length - 1] === top - 1n) length--
    else if (top === 1n || isTransaction(top - 1n)) break
    top--
  }
  return { xmax: top, running: length === running.length ? running : running.slice(0, length) }
}

/** Whether a snapshot sees a transaction. */
export const visible = (snapshot: PgSnapshot, tx: bigint): boolean =>
  tx < snapshot.xmax && !holds(snapshot.running, tx)

/** Whether snapshot `a` sees everything that `b` sees. */
export const contains = (a: PgSnapshot, b: PgSnapshot): boolean => {
  // The highest transaction below a canonical xmax is one that it sees.
  if (b.xmax > a.xmax) return false
  for (const x of a.running) if (visible(b, x)) return false
  return true
}

/** The normal form of a snapshot, given the highest transaction with a message that it sees, or 0. */
export const normal = ({ running }: PgSnapshot, tx: bigint): PgSnapshot => ({
  xmax: tx + 1n,
  running: running.filter((x) => x < tx)
})

/** Whether a reader that stands at `snapshot` has everything that a position has. */
export const dominates = (snapshot: PgSnapshot, position: Position): boolean =>
  contains(snapshot, position.next ?? position.base)

/** Whether a position has the message `id` of transaction `tx`. */
export const seen = (position: Position, tx: bigint, id: bigint): boolean =>
  visible(position.base, tx) ||
  (position.next !== undefined && id <= position.id && visible(position.next, tx))

const numbers = /^\d{1,19} \d{1,19}$/

/**
 * Tells which events are already part of what was read at a cursor, so that a reader of the state drops
 * them. `false` for an event without a transaction, a live one, and of no cursor.
 */
export const seenEvent =
  (cursor: Pick<DurableCursor, "position"> | undefined) =>
  ({ id, tx }: { readonly id: string; readonly tx?: string | undefined }): boolean =>
    cursor !== undefined &&
    numbers.test(`${tx} ${id}`) &&
    seen(cursor.position, BigInt(tx as string), BigInt(id))

export const whole = (snapshot: PgSnapshot): Position => ({
  base: snapshot,
  next: undefined,
  id: 0n
})

export const midway = (base: PgSnapshot, next: PgSnapshot, id: bigint): Position => ({
  base,
  next,
  id
})

/**
 * The most transactions in progress that a snapshot may name (5,000). PostgreSQL has as many at most
 * as it has connections and prepared transactions.
 */
const maxRunning = 5000

const pgSnapshot = /^(\d{1,19}):(\d{1,19}):((?:\d{1,19}(?:,\d{1,19})*)?)$/

/** Reads the text of a `pg_snapshot`; `undefined` when it is not one. Never throws. */
export const parseSnapshot = (text: string): PgSnapshot | undefined => {
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

/** The text of a `pg_snapshot`. */
export const formatSnapshot = ({ running, xmax }: PgSnapshot): string => {
  // One higher means the same, and PostgreSQL takes it as input.
  const end = isTransaction(xmax) ? xmax : xmax + 1n
  return `${running[0] ?? end}:${end}:${running.join(",")}`
}

// -----------------------------------------------------------------------------------------------
// The token: base64url of varints, each byte one character of a string. First the witness: its id and
// its time, for its transaction is where the position ends. A snapshot is its xmax and the distances
// downwards between the transactions in progress; `next` is written as what changed since `base`.

const varint = (value: bigint): string =>
  value < 128n
    ? String.fromCharCode(Number(value))
    : String.fromCharCode(Number(value & 127n) | 128) + varint(value >> 7n)

/** Distances downwards from `top` through an ascending list. */
const distances = (top: bigint, running: ReadonlyArray<bigint>): string => {
  let bytes = varint(BigInt(running.length))
  let previous = top
  for (const x of running.toReversed()) {
    bytes += varint(previous - x - 1n)
    previous = x
  }
  return bytes
}

/**
 * The text of a durable cursor. A position with very many transactions in progress may exceed
 * `maxBytes`; it is then answered `reset` when it comes back, and never shortened, which would repeat
 * events.
 */
export const formatDurable = ({ identity, position, witness }: DurableCursor): string => {
  const { base, id, next } = position
  let bytes =
    varint(witness.id) + varint(witness.at) + varint(base.xmax) + distances(base.xmax, base.running)
  if (next !== undefined) {
    bytes += varint(next.xmax - base.xmax)
    // One bit for each transaction of `base`: whether it is still in progress in `next`.
    for (let index = 0; index < base.running.length; index += 8) {
      let byte = 0
      for (let bit = 0; bit < 8; bit++) {
        const x = base.running[index + bit]
        if (x !== undefined && holds(next.running, x)) byte |= 1 << bit
      }
      bytes += String.fromCharCode(byte)
    }
    const fresh = next.running.filter((x) => x >= base.xmax)
    bytes += distances(next.xmax, fresh) + varint(id)
  }
  const text = btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")
  return `2.${identity}.${text}`
}

// No text of base64 has a length of 4n + 1.
const durable = /^2\.([\w-]{8})\.((?:[\w-]{4})*[\w-]{2,4})$/

/**
 * Reads a durable cursor that a server wrote; `undefined` when the text is not one. Never throws. Of
 * an invented text it may make a position that no database has, so it is for comparing events with,
 * in a browser. A server uses `parseDurable`.
 */
export const readDurable = (
  text: string
): (Omit<DurableCursor, "witness"> & { readonly witness: Omit<Witness, "tx"> }) | undefined => {
  const parts = durable.exec(text)
  if (parts === null) return undefined
  const bytes = atob(parts[2]!.replaceAll("-", "+").replaceAll("_", "/"))
  let offset = 0
  const varint = (): bigint => {
    let value = 0n
    // Beyond the end it is NaN, which ends the varint and is noticed below.
    for (let byte = 128, shift = 0n; byte > 127 && shift < 63n; shift += 7n) {
      byte = bytes.charCodeAt(offset++)
      value |= BigInt(byte & 127) << shift
    }
    return value
  }
  const distances = (top: bigint): ReadonlyArray<bigint> => {
    const running: Array<bigint> = []
    // Each takes a byte, so a count beyond what is left breaks off at the end of the bytes.
    for (let count = varint(); count > 0n && offset < bytes.length; count--) {
      top -= varint() + 1n
      running.push(top)
    }
    return running.toReversed()
  }
  const witness = { id: varint(), at: varint() }
  const xmax = varint()
  const base = { xmax, running: distances(xmax) }
  let next: PgSnapshot | undefined
  let id = 0n
  if (offset < bytes.length) {
    const xmax = base.xmax + varint()
    const kept = base.running.filter(
      (_, index) => (bytes.charCodeAt(offset + (index >> 3)) >> (index & 7)) & 1
    )
    offset += (base.running.length + 7) >> 3
    next = { xmax, running: [...kept, ...distances(xmax)] }
    id = varint()
  }
  return offset === bytes.length
    ? { identity: parts[1]!, position: { base, next, id }, witness }
    : undefined
}

/** Whether a snapshot is in normal form: it ends behind a transaction that it sees, or sees nothing. */
const isNormal = ({ running, xmax }: PgSnapshot): boolean =>
  (xmax === 1n || isTransaction(xmax - 1n)) &&
  xmax < limit &&
  running.length <= maxRunning &&
  running.at(-1) !== xmax - 1n &&
  running.every(isTransaction)

/**
 * Reads a durable cursor; `undefined` when the text is not one, or is larger than `maxBytes`. Never
 * throws, and accepts exactly one spelling of each position.
 */
export const parseDurable = (text: string): DurableCursor | undefined => {
  // Every character that matches is one byte.
  const read = text.length > maxBytes ? undefined : readDurable(text)
  if (read === undefined) return undefined
  const { base, next } = read.position
  const tx = (next ?? base).xmax - 1n
  const { at, id } = read.witness
  const cursor = { ...read, witness: { tx, id, at } }
  const sound =
    isNormal(base) &&
    (next === undefined || (isNormal(next) && contains(next, base))) &&
    (tx > 0n || (id === 0n && at === 0n))
  // What is wrong in a spelling but harmless above is caught by encoding again.
  return sound && formatDurable(cursor) === text ? cursor : undefined
}
