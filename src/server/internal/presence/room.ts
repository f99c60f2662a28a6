/**
 * The members of one presence channel as a node knows them, and what it says of them to its subscribers.
 *
 * In: seats of all nodes that come, change and go. Out: frames, each made once for all subscribers: the
 * differences since the last one, or every member, or only how many there are. It uses no time of its own:
 * `due` says when `deliver` has something to say.
 */
import { Line, type Outgoing } from "../hub/outgoing.ts"
import { isNewer, type Seat } from "./seat.ts"

/** Milliseconds between two frames of a busy channel, and between two counts. */
const frameEvery = 50
const countEvery = 1000

/** What follows a channel: a socket, or a Stream. */
export interface Watcher {
  /** Its own member, if it is one. */
  readonly member: string | undefined
  readonly offer: (frame: Outgoing) => void
}

/** The members that were sent last. */
export interface RoomList {
  /** States as JSON text; empty while only the count is sent. */
  readonly members: ReadonlyMap<string, string>
  readonly count: number
}

export interface RoomLimits {
  /** The most members that are sent by name. */
  readonly named: number
}

export class Room {
  readonly name: string
  readonly #limits: RoomLimits
  readonly #members = new Map<string, Array<Seat>>()
  readonly #watchers = new Set<Watcher>()
  /** Watchers that are members, by the member. */
  readonly #own = new Map<string, Set<Watcher>>()
  /** Seats whose sockets are closed, by what takes them over; the one that closed first is the first. */
  readonly #away = new Map<string, Set<Seat>>()
  /** Members that may differ from what was sent. */
  readonly #changed = new Set<string>()
  /** What was sent last: states by member, and their number. */
  #sent = new Map<string, string>()
  #count = 0
  /** Whether only the count is sent. */
  #counting = false
  #deliveredAt = -Infinity
  #countedAt = -Infinity
  #whole: Outgoing | undefined

  constructor(name: string, limits: RoomLimits) {
    this.name = name
    this.#limits = limits
  }

  /** Whether nothing needs the room any more. */
  get isEmpty(): boolean {
    return this.#members.size === 0 && this.#watchers.size === 0
  }

  get list(): RoomList {
    return { members: this.#sent, count: this.#count }
  }

  /** The seats of a member. */
  seatsOf(member: string): ReadonlyArray<Seat> {
    return this.#members.get(member) ?? []
  }

  /** A seat that a session with this proof takes over: best one with its state, or else the first that closed. */
  vacant(proof: string, state: string): Seat | undefined {
    let first: Seat | undefined
    for (const seat of this.#away.get(proof) ?? []) {
      // Another session has taken it over already.
      if (this.seatsOf(seat.member).some(({ away }) => away === undefined)) continue
      if (seat.state === state) return seat
      first ??= seat
    }
    return first
  }

  /** The seat whose state a member shows. */
  shown(member: string): Seat | undefined {
    let newest: Seat | undefined
    for (const seat of this.seatsOf(member)) {
      if (newest === undefined || isNewer(seat, newest)) newest = seat
    }
    return newest
  }

  /** Takes a change of a seat. */
  change(before: Seat | undefined, after: Seat | undefined): void {
    if (before !== undefined) {
      const seats = this.#members.get(before.member)
      const index = seats?.indexOf(before) ?? -1
      if (index >= 0) seats!.splice(index, 1)
      this.#noteAway(before, false)
      if (seats?.length === 0) this.#members.delete(before.member)
      this.#changed.add(before.member)
    }
    if (after !== undefined) {
      const seats = this.#members.get(after.member)
      if (seats === undefined) this.#members.set(after.member, [after])
      else seats.push(after)
      this.#noteAway(after, true)
      this.#changed.add(after.member)
    }
  }

  #noteAway(seat: Seat, is: boolean): void {
    const { away } = seat
    if (away === undefined || away === "") return
    const seats = this.#away.get(away)
    if (!is) {
      seats?.delete(seat)
      if (seats?.size === 0) this.#away.delete(away)
    } else if (seats === undefined) this.#away.set(away, new Set([seat]))
    else seats.add(seat)
  }

  /** Sends everything to a watcher from now on, the members first. */
  watch(watcher: Watcher): void {
    this.#watchers.add(watcher)
    this.tellAll(watcher)
  }

  unwatch(watcher: Watcher): void {
    this.#watchers.delete(watcher)
  }

  /** Makes a watcher a member, or with `undefined` no member any more. Call before its `member` changes. */
  own(watcher: Watcher, member: string | undefined): void {
    const { member: before } = watcher
    if (before === member) return
    if (before !== undefined) {
      const others = this.#own.get(before)
      others?.delete(watcher)
      if (others?.size === 0) this.#own.delete(before)
    }
    if (member === undefined) return
    const others = this.#own.get(member)
    if (others === undefined) this.#own.set(member, new Set([watcher]))
    else others.add(watcher)
    this.#changed.add(member)
  }

  /** Sends a watcher everything that was sent so far. */
  tellAll(watcher: Watcher): void {
    watcher.offer((this.#whole ??= new Line(this.#frame(this.#all, undefined, true))))
    if (this.#counting && watcher.member !== undefined) this.#tellOwn(watcher.member, [watcher])
  }

  /** When `deliver` has something to send, in milliseconds; `undefined` if it has nothing. */
  get due(): number | undefined {
    let due: number | undefined
    if (this.#changed.size > 0) due = this.#deliveredAt + frameEvery
    if (!this.#counting || this.#members.size === this.#count) return due
    return Math.min(due ?? Infinity, this.#countedAt + countEvery)
  }

  /** Sends what has changed, if it is due at `now`. */
  deliver(now: number): void {
    if (this.#changed.size > 0 && now >= this.#deliveredAt + frameEvery) {
      this.#deliveredAt = now
      const size = this.#members.size
      if (!this.#counting && size > this.#limits.named) this.#begin(true, now)
      else if (this.#counting && size < this.#limits.named * 0.9) this.#begin(false, now)
      else if (this.#counting) this.#tellOwners()
      else this.#tellChanges()
      this.#changed.clear()
    }
    if (this.#counting && this.#members.size !== this.#count) {
      if (now < this.#countedAt + countEvery) return
      this.#countedAt = now
      this.#count = this.#members.size
      this.#tell(this.#frame(undefined, undefined, false))
    }
  }

  /** Begins to send only the count, or again the members by name. */
  #begin(counting: boolean, now: number): void {
    this.#counting = counting
    this.#countedAt = now
    this.#count = this.#members.size
    this.#sent = new Map()
    if (!counting) {
      for (const member of this.#members.keys()) this.#sent.set(member, this.shown(member)!.state)
    }
    this.#whole = undefined
    for (const watcher of this.#watchers) this.tellAll(watcher)
  }

  #tellChanges(): void {
    const set: Array<[string, string]> = []
    const gone: Array<string> = []
    for (const member of this.#changed) {
      const state = this.shown(member)?.state
      if (state === this.#sent.get(member)) continue
      if (state === undefined) {
        this.#sent.delete(member)
        gone.push(member)
      } else {
        this.#sent.set(member, state)
        set.push([member, state])
      }
    }
    this.#count = this.#members.size
    if (set.length + gone.length > 0) this.#tell(this.#frame(set, gone, false))
  }

  /** While only the count is sent, a member's own sessions receive its state. */
  #tellOwners(): void {
    for (const member of this.#changed) {
      const owners = this.#own.get(member)
      if (owners !== undefined) this.#tellOwn(member, owners)
    }
  }

  #tellOwn(member: string, owners: Iterable<Watcher>): void {
    const state = this.shown(member)?.state
    const frame = new Line(
      state === undefined
        ? this.#frame(undefined, [member], false)
        : this.#frame([[member, state]], undefined, false)
    )
    for (const watcher of owners) watcher.offer(frame)
  }

  #tell(text: string): void {
    this.#whole = undefined
    if (this.#watchers.size === 0) return
    const frame = new Line(text)
    for (const watcher of this.#watchers) watcher.offer(frame)
  }

  /** Every member by name; `undefined` while only the count is sent. */
  get #all(): Iterable<readonly [string, string]> | undefined {
    return this.#counting ? undefined : this.#sent
  }

  #frame(
    set: Iterable<readonly [string, string]> | undefined,
    gone: ReadonlyArray<string> | undefined,
    whole: boolean
  ): string {
    const states: Array<string> = []
    for (const [member, state] of set ?? []) states.push(`${JSON.stringify(member)}:${state}`)
    const named = set !== undefined && (whole || states.length > 0)
    return (
      `{"type":"members","channel":${JSON.stringify(this.name)},"count":${this.#count}` +
      (named ? `,"set":{${states.join(",")}}` : "") +
      (gone !== undefined && gone.length > 0 ? `,"gone":${JSON.stringify(gone)}` : "") +
      (whole ? `,"whole":true}` : "}")
    )
  }
}
