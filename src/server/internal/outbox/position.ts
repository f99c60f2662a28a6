/**
 * Positions of a node, and the differences between them.
 *
 * A snapshot as taken ends at a number that may not have reached the WAL. After a crash the database gives
 * that number out again, and the snapshot would count the messages of the new transaction as seen. In
 * memory it is correct while the session that took it lives, and cheap to read from. A cursor outside the
 * process has its normal form and the witness (see `Cursor`), as does a node that lost its session.
 *
 * In the middle of a difference (A, B] A and B may each be replaced by their normal forms, whatever was
 * handed out: no message lies between a snapshot and its normal form, so the rest of the difference has the
 * same messages in the same order. The witness is that of B, which is not below A's.
 */
import * as Cursor from "../../../internal/cursorText.ts"

/**
 * One snapshot, as taken and in normal form. Both see the same messages. The snapshot as taken ends higher,
 * which is cheaper to read from, and holds for one era of the database. The normal form holds while its
 * witness is there. From a cursor both are the normal form.
 */
export interface Seen {
  readonly snapshot: Cursor.PgSnapshot
  readonly normal: Cursor.PgSnapshot
}

/** A position of this node's reader. */
export interface NodePosition {
  readonly base: Seen
  /** In the middle of a difference: messages that `next` sees up to `id` were handed out too. */
  readonly next: Seen | undefined
  readonly id: bigint
  /** The witness of `next`, or of `base` without `next`. */
  readonly last: Cursor.Witness
}

/** A position that is not in the middle of a difference. */
export interface Place extends Seen {
  readonly last: Cursor.Witness
}

/** A difference to read: from `at`, after `id` within it, to `to`. */
export interface Leg {
  readonly at: Seen
  readonly to: Seen
  readonly id: bigint
  /** The witness of `to`. */
  readonly last: Cursor.Witness
}

export const whole = ({ last, normal, snapshot }: Place): NodePosition => ({
  base: { normal, snapshot },
  next: undefined,
  id: 0n,
  last
})

/** A snapshot with its witness. */
export const placeOf = (snapshot: Cursor.PgSnapshot, last: Cursor.Witness): Place => ({
  snapshot,
  normal: Cursor.normal(snapshot, last.tx),
  last
})

const rested = ({ normal }: Seen): Seen => ({ snapshot: normal, normal })

/** The position in normal form only: its era may be over. */
export const atRest = ({ base, id, last, next }: NodePosition): NodePosition => ({
  base: rested(base),
  next: next && rested(next),
  id,
  last
})

export const formatPosition = (identity: string, { base, id, last, next }: NodePosition): string =>
  Cursor.formatDurable({
    identity,
    position: { base: base.normal, next: next?.normal, id },
    witness: last
  })

/** The position of a cursor, valid while its witness is there. */
export const positionOf = ({ position, witness }: Cursor.DurableCursor): NodePosition => {
  const { base, id, next } = position
  return {
    base: { snapshot: base, normal: base },
    next: next && { snapshot: next, normal: next },
    id,
    last: witness
  }
}

/** The position in the middle of a leg, after its message `id`. */
export const midway = ({ at, last, to }: Leg, id: bigint): NodePosition => ({
  base: at,
  next: to,
  id,
  last
})

/** The position at the end of a leg. */
export const endOf = ({ last, to }: Leg): NodePosition => ({
  base: to,
  next: undefined,
  id: 0n,
  last
})

/** Nothing lies between equal snapshots, and no message between equal normal forms. */
export const isEmpty = ({ at, to }: Leg): boolean => Cursor.contains(at.normal, to.normal)

/** The legs from a position to a snapshot that contains it, in the order to read them. */
export const legs = (from: NodePosition, { last, normal, snapshot }: Place): ReadonlyArray<Leg> => {
  const to = { normal, snapshot }
  return from.next === undefined
    ? [{ at: from.base, to, id: 0n, last }]
    : [
        // The difference that was begun is finished first, in its own order.
        { at: from.base, to: from.next, id: from.id, last: from.last },
        { at: from.next, to, id: 0n, last }
      ]
}
