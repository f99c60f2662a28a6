/**
 * Positions as a node stands at them, and the differences between them.
 *
 * A snapshot that was taken ends at a number that may not have reached the WAL: after a crash it is given
 * out again, and the snapshot would count somebody else's messages as seen. In memory, for as long as the
 * session lives that took it, it is right and cheap to read from. What leaves the process is its normal
 * form and the witness (see `Cursor`); a node that lost its session stands on that, too.
 *
 * In the middle of a difference (A, B] each of both has its own normal form, whatever was handed out: no
 * message lies between a snapshot and its normal form, so the rest of the difference is the same messages
 * in the same order. The witness is that of B, which was not below A's.
 */
import * as Cursor from "../../../internal/cursor.ts"

/**
 * One snapshot, as it was taken and in normal form. Both see the same messages. As it was taken it ends
 * higher, which is cheaper to read from; it holds for one era of the database, the other one for as long as
 * its witness is there. From a cursor both are the normal form.
 */
export interface Seen {
  readonly snapshot: Cursor.PgSnapshot
  readonly normal: Cursor.PgSnapshot
}

/** A position as this node stands at it. */
export interface NodePosition {
  readonly base: Seen
  /** In the middle of a difference: what `next` sees up to `id` was handed out too. */
  readonly next: Seen | undefined
  readonly id: bigint
  /** The witness of `next`, or of `base` without one. */
  readonly last: Cursor.Witness
}

/** A whole position. */
export interface Place extends Seen {
  readonly last: Cursor.Witness
}

/** A difference of positions that is read: from `at`, and `id` within it, to `to`. */
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

/** A snapshot, and the witness of what it sees. */
export const placeOf = (snapshot: Cursor.PgSnapshot, last: Cursor.Witness): Place => ({
  snapshot,
  normal: Cursor.normal(snapshot, last.tx),
  last
})

const rested = ({ normal }: Seen): Seen => ({ snapshot: normal, normal })

/** The position of which only the normal form is left: its era may be over. */
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

/** Where a cursor from outside stands, if its witness is there. */
export const positionOf = ({ position, witness }: Cursor.DurableCursor): NodePosition => {
  const { base, id, next } = position
  return {
    base: { snapshot: base, normal: base },
    next: next && { snapshot: next, normal: next },
    id,
    last: witness
  }
}

/** In the middle of a leg, after the message `id` of it. */
export const midway = ({ at, last, to }: Leg, id: bigint): NodePosition => ({
  base: at,
  next: to,
  id,
  last
})

/** After all of a leg. */
export const endOf = ({ last, to }: Leg): NodePosition => ({
  base: to,
  next: undefined,
  id: 0n,
  last
})

/** Nothing lies between equal snapshots, and no message between equal normal forms. */
export const isEmpty = ({ at, to }: Leg): boolean => Cursor.contains(at.normal, to.normal)

/** What is to be read to come from a position to a snapshot that contains it, in this order. */
export const legs = (from: NodePosition, { last, normal, snapshot }: Place): ReadonlyArray<Leg> => {
  const to = { normal, snapshot }
  return from.next === undefined
    ? [{ at: from.base, to, id: 0n, last }]
    : [
        // What was begun is finished first: its rest lies in the order of the same difference.
        { at: from.base, to: from.next, id: from.id, last: from.last },
        { at: from.next, to, id: 0n, last }
      ]
}
