/**
 * Positions in a channel, as text. Every cursor that a program reads is parsed and its size is checked
 * here.
 *
 * A live cursor is `<epoch>:<seq>`: the epoch names one unbroken span of LISTEN on one node, and the
 * sequence counts its events from 1. A lost link begins a new epoch, and cursors of different epochs
 * cannot be compared. So the server notices an old cursor.
 *
 * A durable cursor is `2.<identity>.<position>`: the identity names the database, and the position is
 * what PostgreSQL calls a snapshot, the set of finished transactions. The client also needs its algebra,
 * to drop the events that a loaded state already contains.
 *
 * A snapshot also counts transactions that wrote no message, and after a crash PostgreSQL may reuse their
 * numbers. So a cursor holds the normal form of a snapshot. It ends at the highest transaction T that
 * wrote a message and that the snapshot sees. No message lies above, so the same messages are seen, and
 * while T exists PostgreSQL does not reuse a number up to T. The cursor also has the last message of T as
 * its witness, which the server looks up for each cursor that it receives.
 *
 * @since 0.1.0
 */

/** A position in a live channel: the reader has every event up to and including `seq` of `epoch`. */
export interface LiveCursor {
  /** 1-32 characters of `[A-Za-z0-9_-]`. */
  readonly epoch: string
  /** From 0 (nothing seen) to 2^53-1. */
  readonly seq: number
}

/**
 * The largest accepted cursor in bytes (8 KiB). A longer one counts as text that is not a cursor.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxBytes = 8 * 1024

const live = /^([A-Za-z0-9_-]{1,32}):(0|[1-9][0-9]{0,15})$/

export const formatLive = (epoch: string, seq: number): string => `${epoch}:${seq}`

/** Reads a live cursor, or gives `undefined` when the text is not one. Never throws. */
export const parseLive = (text: string): LiveCursor | undefined => {
  // 49 = 32 characters of epoch, a colon, 16 digits: a longer text is not a live cursor.
  if (text.length > 49) return undefined
  const parts = live.exec(text)
  if (parts === null) return undefined
  const seq = Number(parts[2])
  return Number.isSafeInteger(seq) ? { epoch: parts[1]!, seq } : undefined
}

/**
 * Which transactions are seen: every one below `xmax` except those in `running`.
 *
 * Always canonical, so that one set of transactions has one form: `running` ascends and lies below
 * `xmax`, and `xmax - 1` is not in it. Transaction ids have 64 bits, so they are bigints.
 */
export interface PgSnapshot {
  readonly xmax: bigint
  /** The transactions that were in progress. */
  readonly running: ReadonlyArray<bigint>
}

/**
 * A position in the durable channels of a database. It has every message that `base` sees. In the middle
 * of a page it also has what `next` sees, up to the message `id`.
 */
export interface Position {
  readonly base: PgSnapshot
  /** Sees everything that `base` sees; `undefined` unless the position is in the middle of a page. */
  readonly next: PgSnapshot | undefined
  /** 0 unless the position is in the middle of a page. */
  readonly id: bigint
}

/** The last message of the highest transaction that a snapshot sees. */
export interface Witness {
  /** 0 when no message is seen. `id` and `at` are then 0, too. */
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
  /** The witness of the position's last snapshot. */
  readonly witness: Witness
}

/** 2^63: PostgreSQL counts neither transactions nor messages beyond it. */
const limit = 9_223_372_036_854_775_808n

/** PostgreSQL skips the numbers whose lower half is 0, and rejects them as input. */
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
 * `running` must ascend. Drops the highest numbers while they are in progress, or are not a
 * transaction's: PostgreSQL may skip T + 1, and then its own snapshot ends one higher.
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
  // A canonical snapshot sees the highest transaction below its xmax.
  if (b.xmax > a.xmax) return false
  for (const x of a.running) if (visible(b, x)) return false
  return true
}

/** The normal form of a snapshot. `tx` is the highest transaction with a message that it sees, or 0. */
export const normal = ({ running }: PgSnapshot, tx: bigint): PgSnapshot => ({
  xmax: tx + 1n,
  running: running.filter((x) => x < tx)
})

/** Whether a reader at `snapshot` has everything that a position has. */
export const dominates = (snapshot: PgSnapshot, position: Position): boolean =>
  contains(snapshot, position.next ?? position.base)

/** Whether a position has the message `id` of transaction `tx`. */
export const seen = (position: Position, tx: bigint, id: bigint): boolean =>
  visible(position.base, tx) ||
  (position.next !== undefined && id <= position.id && visible(position.next, tx))

const numbers = /^\d{1,19} \d{1,19}$/

/**
 * Which events are already part of what was read at a cursor. Gives `false` for an event without a
 * transaction (a live one), and for every event when there is no cursor.
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
 * The most transactions in progress that a snapshot may name (5,000). PostgreSQL has at most as many as
 * connections and prepared transactions.
 */
const maxRunning = 5000

const pgSnapshot = /^(\d{1,19}):(\d{1,19}):((?:\d{1,19}(?:,\d{1,19})*)?)$/

/** Reads the text of a `pg_snapshot`, or gives `undefined` when it is not one. Never throws. */
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
  // One higher means the same, and PostgreSQL accepts it as input.
  const end = isTransaction(xmax) ? xmax : xmax + 1n
  return `${running[0] ?? end}:${end}:${running.join(",")}`
}

// -----------------------------------------------------------------------------------------------
// The token: base64url of varints, each byte one character of a string. The witness is first, as its id
// and its time; its transaction is where the position ends. A snapshot is its xmax and the downward
// distances between the transactions in progress. `next` is written as the change since `base`.

const varint = (value: bigint): string =>
  value < 128n
    ? String.fromCharCode(Number(value))
    : String.fromCharCode(Number(value & 127n) | 128) + varint(value >> 7n)

/** Downward distances from `top` through an ascending list. */
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
 * The text of a durable cursor. With very many transactions in progress it may exceed `maxBytes`. A
 * server then answers it `reset`. It is never shortened, because a shorter cursor would repeat events.
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

// No base64 text has a length of 4n + 1. With a filter its digest follows, which says nothing of the position.
const durable = /^2\.([\w-]{8})\.((?:[\w-]{4})*[\w-]{2,4})(?:\.[\w-]+)?$/

/**
 * Reads a durable cursor that a server wrote, or gives `undefined` when the text is not one. Never
 * throws. A forged text may give a position that no database has, so use the result only to compare
 * events in a browser. A server uses `parseDurable`.
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
    // Beyond the end it is NaN, which ends the varint; the check below finds it.
    for (let byte = 128, shift = 0n; byte > 127 && shift < 63n; shift += 7n) {
      byte = bytes.charCodeAt(offset++)
      value |= BigInt(byte & 127) << shift
    }
    return value
  }
  const distances = (top: bigint): ReadonlyArray<bigint> => {
    const running: Array<bigint> = []
    // Each takes a byte, so a count beyond the rest stops at the end of the bytes.
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

/**
 * Whether a cursor is in the middle of a tick of the server, and so perhaps of a transaction. One that ends the
 * tick follows, with events or in a `cursor` frame.
 */
export const isMidway = (cursor: string): boolean =>
  readDurable(cursor)?.position.next !== undefined

/** Stands for the position before everything that a durable channel still keeps, where a client subscribes. */
export const oldest = "oldest"

/**
 * Whether everything that is behind cursor `b` is behind `a`. `undefined` where that cannot be known: they
 * are of live channels, or of two databases. In the middle of a page it may be `false` although it is so.
 */
export const covers = (a: string, b: string): boolean | undefined => {
  if (a === b) return true
  const [one, other] = [readDurable(a), readDurable(b)]
  if (a === oldest || b === oldest) return (one ?? other) && b === oldest
  return one && one.identity === other?.identity
    ? dominates(one.position.base, other.position)
    : undefined
}

/** Whether a snapshot is in normal form: it ends after a transaction that it sees, or sees nothing. */
const isNormal = ({ running, xmax }: PgSnapshot): boolean =>
  (xmax === 1n || isTransaction(xmax - 1n)) &&
  xmax < limit &&
  running.length <= maxRunning &&
  running.at(-1) !== xmax - 1n &&
  running.every(isTransaction)

/**
 * Reads a durable cursor, or gives `undefined` when the text is not one or is larger than `maxBytes`.
 * Never throws. Accepts exactly one spelling of each position.
 */
export const parseDurable = (text: string): DurableCursor | undefined => {
  // Every character that the pattern accepts is one byte.
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
  // Encoding again finds every other spelling of the position.
  return sound && formatDurable(cursor) === text ? cursor : undefined
}
