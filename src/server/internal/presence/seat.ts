/**
 * A seat: what one session, or one program, shows of itself on a presence channel. A member is one seat, or
 * all seats of a person.
 *
 * In: what a node says of its seats, as JSON. Out: seats that can be compared on every node alike.
 */
import type * as Schema from "effect/Schema"

/** A seat as the nodes know it. */
export interface Seat {
  readonly channel: string
  /** Names the member on every node, and to clients. */
  readonly member: string
  /** Grows with each change on any node, so that the newest state of a member is the same everywhere. */
  readonly stamp: number
  /** The node, its incarnation and the seat: makes the order of equal stamps the same everywhere. */
  readonly id: string
  /** The state, as JSON text. */
  readonly state: string
  /**
   * While the socket is closed: what another session of the same identity shows to take the seat over, or an
   * empty text where none may. `undefined` while the socket is open.
   */
  readonly away: string | undefined
}

/** What travels of a seat: the member, the stamp, the state, and `away` where the socket is closed. */
export type SeatJson = ReadonlyArray<Schema.Json>

export const toJson = ({ away, member, stamp, state }: Omit<Seat, "channel" | "id">): SeatJson => {
  const json = JSON.parse(state) as Schema.Json
  return away === undefined ? [member, stamp, json] : [member, stamp, json, away]
}

/** The key of a seat among those of its node. A channel's name contains no space. */
export const seatKey = (channel: string, seat: number): string => `${channel} ${seat}`

/** Reads what another node says; `undefined` for what this version does not know. */
export const fromJson = (id: string, key: string, json: Schema.Json): Seat | undefined => {
  if (!Array.isArray(json)) return undefined
  const [member, stamp, state, away] = json as SeatJson
  if (typeof member !== "string" || typeof stamp !== "number" || state === undefined) {
    return undefined
  }
  return {
    channel: key.slice(0, key.indexOf(" ")),
    member,
    stamp,
    id,
    state: JSON.stringify(state),
    away: typeof away === "string" ? away : undefined
  }
}

/** Whether the state of the first seat is newer than that of the second. */
export const isNewer = (one: Seat, other: Seat): boolean =>
  one.stamp > other.stamp || (one.stamp === other.stamp && one.id > other.id)
