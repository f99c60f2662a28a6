/**
 * Presence on one node: the seats of its own sessions and programs, and the rooms in which all seats meet.
 *
 * In: sessions that show a state, leave, or lose their socket, and the seats of other nodes. Out: rooms. Every
 * time is monotonic, so a clock that is set back or forward changes nothing. One fiber does everything that
 * is due later: the end of a grace, a state that waited for its turn, and the frames of a room.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createHmac, randomBytes } from "node:crypto"
import { Room } from "./room.ts"
import { keyOf, type Seat } from "./seat.ts"

export interface PresenceOptions {
  /** Milliseconds that a member stays after its socket closed. */
  readonly grace: number
  /** The most members of a channel that are sent by name. */
  readonly named: number
  /** The most changes of a seat in a second that others receive. */
  readonly rate: number
}

/** The session of a seat, with the key of its identity if it has one. */
export interface SeatHolder {
  readonly session: string
  readonly identity: string | undefined
  /** What the channel counts. */
  readonly counts: "persons" | "devices"
}

/** A seat of this node. */
export class OwnSeat {
  readonly key: string
  readonly channel: string
  readonly holder: SeatHolder
  /** What other nodes and the room know of it. */
  seat: Seat
  /** The newest state, as JSON text. */
  state: string
  /** From when on the next change may be sent. */
  freeAt = -Infinity
  left = false

  constructor(key: string, channel: string, holder: SeatHolder, seat: Seat) {
    this.key = key
    this.channel = channel
    this.holder = holder
    this.seat = seat
    this.state = seat.state
  }
}

export class Presence {
  readonly #options: PresenceOptions
  readonly #now: () => number
  readonly #rooms = new Map<string, Room>()
  /** Rooms that have something to send. */
  readonly #touched = new Set<Room>()
  readonly #own = new Map<string, OwnSeat>()
  /** Own seats whose newest state waits, and those whose socket is closed, with their times in order. */
  readonly #waiting = new Map<OwnSeat, number>()
  readonly #leaving = new Map<OwnSeat, number>()
  /** Names are made with it, so that they reveal neither a session nor an identity. */
  readonly #salt = randomBytes(16).toString("base64url")
  #seats = 0
  #stamp = 0
  /** Until when the fiber sleeps, and what wakes it. */
  #sleepsUntil = -Infinity
  #wake: (() => void) | undefined

  constructor(options: PresenceOptions, now: () => number) {
    this.#options = options
    this.#now = now
  }

  /** The number of seats of this node. */
  get size(): number {
    return this.#own.size
  }

  /** The room of a channel. It is forgotten when it is empty, so do not keep it without watching it. */
  room(channel: string): Room {
    let room = this.#rooms.get(channel)
    if (room === undefined) {
      room = new Room(channel, this.#options)
      this.#rooms.set(channel, room)
    }
    return room
  }

  /** Forgets a room that nothing needs. */
  leaveRoom(room: Room): void {
    if (room.isEmpty && this.#rooms.get(room.name) === room) this.#rooms.delete(room.name)
  }

  /** Makes a member, or adds to one, with a state as JSON text. */
  sit(channel: string, holder: SeatHolder, state: string): OwnSeat {
    const key = keyOf(channel, ++this.#seats)
    const taken = this.#takeOver(channel, holder, state)
    const member = taken ?? this.#nameOf(channel, holder)
    const stamp = ++this.#stamp
    const seat: Seat = { channel, member, stamp, id: `own ${key}`, state, away: undefined }
    const own = new OwnSeat(key, channel, holder, seat)
    own.freeAt = this.#now() + 1000 / this.#options.rate
    this.#own.set(key, own)
    this.#change(own, undefined, seat)
    return own
  }

  /** Shows another state. Others receive the newest one, as often as the rate allows. */
  show(own: OwnSeat, state: string): void {
    if (own.left) return
    const shown = this.room(own.channel).shown(own.seat.member)
    // Also a state that has not changed counts as the newest of its member.
    if (state === own.state && (shown === own.seat || this.#waiting.has(own))) return
    own.state = state
    if (this.#waiting.has(own)) return
    if (this.#now() >= own.freeAt) return this.#renew(own)
    this.#waiting.set(own, own.freeAt)
    this.#await(own.freeAt)
  }

  /** Leaves at once. */
  leave(own: OwnSeat): void {
    if (own.left) return
    own.left = true
    this.#waiting.delete(own)
    this.#leaving.delete(own)
    this.#own.delete(own.key)
    this.#change(own, own.seat, undefined)
  }

  /** Leaves after the grace: the socket is closed, and the client may return. */
  away(own: OwnSeat): void {
    if (own.left || this.#leaving.has(own)) return
    const { grace } = this.#options
    if (grace <= 0) return this.leave(own)
    if (this.#waiting.delete(own)) this.#renew(own)
    const away = this.#proofOf(own.channel, own.holder)
    const before = own.seat
    own.seat = { ...before, away }
    this.#change(own, before, own.seat)
    const at = this.#now() + grace
    this.#leaving.set(own, at)
    this.#await(at)
  }

  /** Has the fiber look at a room. */
  touch(room: Room): void {
    const { due } = room
    if (due === undefined) return
    this.#touched.add(room)
    this.#await(due)
  }

  /** Does what is due, for ever. */
  get run(): Effect.Effect<never> {
    return Effect.gen({ self: this }, function* () {
      while (true) {
        yield* this.#sleep
        // Joins the changes of one turn of the loop.
        yield* Effect.yieldNow
        this.#sleepsUntil = -Infinity
        this.#doWhatIsDue()
      }
    })
  }

  /** The name of a member: the same on every node, and for every session of a person. */
  #nameOf(channel: string, { counts, identity, session }: SeatHolder): string {
    return counts === "persons" && identity !== undefined
      ? this.#hash("person", channel, identity)
      : this.#hash("device", channel, session)
  }

  /** What another session must prove to take over a seat; empty where none can. */
  #proofOf(channel: string, { counts, identity }: SeatHolder): string {
    return counts === "devices" && identity !== undefined
      ? this.#hash("proof", channel, identity)
      : ""
  }

  #hash(...parts: ReadonlyArray<string>): string {
    const hash = createHmac("sha256", this.#salt).update(parts.join("\0"))
    return hash.digest("base64url").slice(0, 16)
  }

  /** The member that a device is again after its socket closed. */
  #takeOver(channel: string, holder: SeatHolder, state: string): string | undefined {
    const proof = this.#proofOf(channel, holder)
    if (proof === "") return undefined
    const vacant = this.#rooms.get(channel)?.vacant(proof, state)
    if (vacant === undefined) return undefined
    for (const own of this.#leaving.keys()) {
      if (own.seat !== vacant) continue
      // In this step the new seat takes its place, so no subscriber sees it leave.
      this.leave(own)
      break
    }
    return vacant.member
  }

  /** Sends the newest state of a seat. */
  #renew(own: OwnSeat): void {
    const before = own.seat
    own.seat = { ...before, stamp: ++this.#stamp, state: own.state }
    own.freeAt = this.#now() + 1000 / this.#options.rate
    this.#change(own, before, own.seat)
  }

  #change(own: OwnSeat, before: Seat | undefined, after: Seat | undefined): void {
    const room = this.room(own.channel)
    room.change(before, after)
    this.touch(room)
  }

  #doWhatIsDue(): void {
    const now = this.#now()
    for (const [own, at] of this.#leaving) {
      if (at > now) break
      this.leave(own)
    }
    for (const [own, at] of this.#waiting) {
      if (at > now) break
      this.#waiting.delete(own)
      this.#renew(own)
    }
    for (const room of this.#touched) {
      room.deliver(now)
      if (room.due === undefined) this.#touched.delete(room)
      this.leaveRoom(room)
    }
  }

  /** When something is due next. */
  get #due(): number {
    let due = Infinity
    for (const times of [this.#leaving, this.#waiting]) {
      for (const at of times.values()) {
        due = Math.min(due, at)
        break
      }
    }
    for (const room of this.#touched) due = Math.min(due, room.due ?? Infinity)
    return due
  }

  /** Wakes the fiber if it would sleep beyond this time. */
  #await(at: number): void {
    if (at >= this.#sleepsUntil) return
    this.#sleepsUntil = -Infinity
    this.#wake?.()
  }

  /** Sleeps until something is due. */
  get #sleep(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const due = this.#due
      const wait = due - this.#now()
      if (wait <= 0) return Effect.void
      this.#sleepsUntil = due
      const woken = Effect.callback<void>((resume) => {
        // It may have been called before this step.
        if (this.#sleepsUntil !== due) return resume(Effect.void)
        this.#wake = () => resume(Effect.void)
        return Effect.sync(() => {
          this.#wake = undefined
        })
      })
      return wait === Infinity ? woken : Effect.raceFirst(woken, Effect.sleep(Math.ceil(wait)))
    })
  }
}

export const make = (options: PresenceOptions): Effect.Effect<Presence, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const presence = new Presence(
      options,
      () => Number(clock.monotonicTimeNanosUnsafe() / 1000n) / 1000
    )
    yield* Effect.forkScoped(presence.run)
    return presence
  })
