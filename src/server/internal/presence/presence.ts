/**
 * Presence on one node: the seats of its own sessions and programs, and the rooms in which all seats meet.
 *
 * In: sessions that show a state, leave, or lose their socket, and the seats of other nodes. Out: rooms, and
 * messages of a `Replica` to the other nodes. Every time is monotonic, so a clock that is set back or forward
 * changes nothing. One fiber does everything that is due later: the end of a grace, a state that waits for its
 * turn, the frames of a room, and messages.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Schema from "effect/Schema"
import type * as SubscriptionRef from "effect/SubscriptionRef"
import type { BusState, Node, Part, Send } from "../../NodeBus.ts"
import { Names, type SeatHolder } from "./names.ts"
import { Replica } from "./replica.ts"
import { Room } from "./room.ts"
import { fromJson, seatKey, type Seat, toJson } from "./seat.ts"

export interface PresenceOptions {
  /** Milliseconds that a member stays after its socket closed. */
  readonly grace: number
  /** The most members of a channel that are sent by name. */
  readonly named: number
  /** The most changes of a seat in a second that others receive. */
  readonly rate: number
}

/** The largest state of a member, in bytes of UTF-8. */
export const maxMemberBytes = 2048

/** What presence tells its metrics. */
export interface PresenceMeter {
  readonly message: () => void
  readonly whole: () => void
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
  /** Whether the newest state waits until it may be sent. */
  waits = false
  /** Whether no other node and no client knows of it yet, because its session left just before. */
  hidden = false
  left = false

  constructor(key: string, channel: string, holder: SeatHolder, seat: Seat) {
    this.key = key
    this.channel = channel
    this.holder = holder
    this.seat = seat
    this.state = seat.state
  }

  /** Whether it needs no other seat: its socket is open. */
  get isHere(): boolean {
    return !this.left && this.isOpen
  }

  get isOpen(): boolean {
    return this.seat.away === undefined
  }
}

/** How long a node that starts waits for the others before it says what it knows, in milliseconds. */
const leastWait = 1200
const mostWait = 3000

const restOf = (channel: string, { session }: SeatHolder) => `${channel} ${session}`

const idOf = ({ incarnation, name }: Node, key: string) => `${name} ${incarnation} ${key}`

export class Presence {
  readonly #options: PresenceOptions
  readonly #now: () => number
  readonly #meter: PresenceMeter
  readonly #self: Node
  #named: Names | undefined
  readonly #rooms = new Map<string, Room>()
  /** Rooms that have something to send. */
  readonly #touched = new Set<Room>()
  /** Own seats by id. */
  readonly #own = new Map<string, OwnSeat>()
  /**
   * Own seats with a time, which is in order: those that changed, until when the next change waits, and those
   * whose socket is closed, until when they stay.
   */
  readonly #paced = new Map<OwnSeat, number>()
  readonly #leaving = new Map<OwnSeat, number>()
  /** Sessions that left, by channel, and own seats that are hidden, until when they wait; each in order. */
  readonly #resting = new Map<string, number>()
  readonly #hidden = new Map<OwnSeat, number>()
  /** Seats in their grace whose node said goodbye. */
  readonly #orphans = new Map<Seat, number>()
  #replica: Replica<Seat> | undefined
  /** Whether messages of other nodes arrive; `undefined` on a node that is alone. */
  link: SubscriptionRef.SubscriptionRef<BusState> | undefined
  readonly #ready = Latch.makeUnsafe(false)
  /** When the node began to hear the others; `undefined` when it is ready. */
  #since: number | undefined
  #seats = 0
  #stamp = 0
  /** Until when the fiber sleeps, and what wakes it. */
  #sleepsUntil = -Infinity
  #wake: (() => void) | undefined

  /** Without `self` the node is alone. */
  constructor(
    options: PresenceOptions,
    now: () => number,
    meter: PresenceMeter,
    self: Node | undefined
  ) {
    this.#options = options
    this.#now = now
    this.#meter = meter
    this.#self = self ?? { name: "", incarnation: "" }
  }

  /** Takes the secret from which the names of members are made: no seat is taken before. */
  name(secret: string): void {
    this.#named = new Names(secret)
    this.#becomeOpen()
  }

  #becomeOpen(): void {
    if (this.#named !== undefined && this.#since === undefined) this.#ready.openUnsafe()
  }

  /** In use when the node is ready. */
  get #names(): Names {
    return this.#named!
  }

  /**
   * Completes when the node has the secret of the names, and knows the members of the others or has waited for
   * them long enough.
   */
  get ready(): Effect.Effect<void> {
    return this.#ready.await
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

  /** The number of own seats. */
  get seats(): number {
    return this.#own.size
  }

  // --- own seats -----------------------------------------------------------------------------------

  /** Makes a member, or adds to one, with a state as JSON text. */
  sit(channel: string, holder: SeatHolder, state: string): OwnSeat {
    const key = seatKey(channel, ++this.#seats)
    const hidden = (this.#resting.get(restOf(channel, holder)) ?? -Infinity) > this.#now()
    const vacant = hidden ? undefined : this.#vacant(channel, holder, state)
    const member = vacant ?? this.#names.member(channel, holder)
    const id = idOf(this.#self, key)
    const seat: Seat = { channel, member, stamp: ++this.#stamp, id, state, away: undefined }
    const own = new OwnSeat(key, channel, holder, seat)
    this.#own.set(id, own)
    if (hidden) {
      own.waits = own.hidden = true
      this.#later(this.#hidden, own, this.#rest)
      return own
    }
    this.#pace(own)
    this.#change(own, undefined, seat)
    this.#leaveTaken(own)
    return own
  }

  /** Shows another state. Others receive the newest one, as often as the rate allows. */
  show(own: OwnSeat, state: string): void {
    if (own.left) return
    // Also a state that has not changed becomes the newest of its member.
    const isShown = this.room(own.channel).shown(own.seat.member) === own.seat
    if (state === own.state && (isShown || own.waits)) return
    own.state = state
    if (own.waits) return
    const until = this.#paced.get(own)
    if (until === undefined || until <= this.#now()) return this.#renew(own)
    own.waits = true
    this.#await(until)
  }

  /** Leaves at once. */
  leave(own: OwnSeat): void {
    if (own.left) return
    own.left = true
    this.#paced.delete(own)
    this.#leaving.delete(own)
    this.#hidden.delete(own)
    this.#own.delete(own.seat.id)
    if (own.hidden) return
    // A session that is still here may join again.
    if (own.isOpen) this.#later(this.#resting, restOf(own.channel, own.holder), this.#rest)
    this.#change(own, own.seat, undefined)
  }

  /** Leaves after the grace: the socket is closed, and the client may return. */
  away(own: OwnSeat): void {
    if (own.left || this.#leaving.has(own)) return
    const { grace } = this.#options
    if (grace <= 0 || own.hidden) return this.leave(own)
    if (own.waits) this.#renew(own)
    this.#replace(own, { ...own.seat, away: this.#names.proof(own.channel, own.holder) })
    const at = this.#now() + grace
    this.#leaving.set(own, at)
    this.#await(at)
  }

  /** The member that a device is again after its socket closed. */
  #vacant(channel: string, holder: SeatHolder, state: string): string | undefined {
    const proof = this.#names.proof(channel, holder)
    return proof === "" ? undefined : this.#rooms.get(channel)?.vacant(proof, state)?.member
  }

  /** The seats of this node that a new one takes over leave in the same step, so the member stays. */
  #leaveTaken({ holder, seat }: OwnSeat): void {
    if (holder.counts !== "devices") return
    // A copy, because seats leave meanwhile.
    for (const { away, id } of this.room(seat.channel).seatsOf(seat.member).slice()) {
      const own = away === undefined ? undefined : this.#own.get(id)
      if (own !== undefined) this.leave(own)
    }
  }

  /** Sends the newest state of a seat. */
  #renew(own: OwnSeat): void {
    own.waits = false
    this.#pace(own)
    const before = own.hidden ? undefined : own.seat
    own.hidden = false
    own.seat = { ...own.seat, stamp: ++this.#stamp, state: own.state }
    this.#change(own, before, own.seat)
  }

  /** Milliseconds for a join and the leave after it: two changes. */
  get #rest(): number {
    return 2000 / this.#options.rate
  }

  #later<Key>(times: Map<Key, number>, key: Key, millis: number): void {
    const at = this.#now() + millis
    times.delete(key)
    times.set(key, at)
    this.#await(at)
  }

  #pace(own: OwnSeat): void {
    this.#paced.delete(own)
    this.#paced.set(own, this.#now() + 1000 / this.#options.rate)
  }

  #replace(own: OwnSeat, seat: Seat): void {
    const before = own.seat
    own.seat = seat
    this.#change(own, before, seat)
  }

  #change(own: OwnSeat, before: Seat | undefined, after: Seat | undefined): void {
    this.#move(before, after)
    if (this.#replica === undefined) return
    if (after === undefined) this.#replica.delete(own.key)
    else this.#replica.set(own.key, toJson(after))
    this.#await(this.#replica.due)
  }

  /** Takes a change of any seat into its room. */
  #move(before: Seat | undefined, after: Seat | undefined): void {
    const room = this.room((before ?? after)!.channel)
    room.change(before, after)
    this.#touched.add(room)
    this.#await(room.due ?? Infinity)
  }

  // --- the other nodes -----------------------------------------------------------------------------

  /** Connects the node to the others. Call `greet` when `send` is in force. */
  connect(send: Send): Part {
    const replica = new Replica<Seat>({
      send,
      read: (owner, key, json) => fromJson(idOf(owner, key), key, json),
      changed: (before, after, gone) => this.#moveOther(before, after, gone),
      greeting: () => [this.#stamp],
      greeted: (greeting) => this.#greeted(greeting),
      counted: (what) => this.#meter[what]()
    })
    this.#replica = replica
    this.#since = this.#now()
    const then = (): void => this.#await(replica.due)
    return {
      receive: (content, from) => {
        replica.receive(content, from, this.#now())
        then()
      },
      beat: () => replica.beat(),
      heard: (content, from) => {
        replica.heard(content, from, this.#now())
        then()
      },
      changed: (change) => {
        replica.changed(change, this.#now())
        then()
      }
    }
  }

  greet(): void {
    this.#replica?.greet()
    this.#await(this.#now() + leastWait)
  }

  /** Sends what has changed. */
  flush(): void {
    this.#replica?.tick(this.#now())
  }

  #greeted(greeting: Schema.Json): void {
    if (!Array.isArray(greeting)) return
    const [stamp] = greeting as ReadonlyArray<Schema.Json>
    // The newest state of a person counts, whichever node heard it.
    if (typeof stamp === "number") this.#stamp = Math.max(this.#stamp, stamp)
  }

  #moveOther(before: Seat | undefined, after: Seat | undefined, gone: boolean): void {
    if (after !== undefined) this.#stamp = Math.max(this.#stamp, after.stamp)
    if (gone && before !== undefined && before.away !== undefined) {
      // Its node said goodbye after its socket closed: the client may return to another node.
      const at = this.#now() + this.#options.grace
      this.#orphans.set(before, at)
      return this.#await(at)
    }
    this.#move(before, after)
    if (after !== undefined && after.away === undefined) this.#part(after)
  }

  /** Two devices that took over one seat on two nodes at once are two members: one of them is another. */
  #part(other: Seat): void {
    for (const { id } of this.room(other.channel).seatsOf(other.member).slice()) {
      const own = this.#own.get(id)
      if (own === undefined || !own.isHere || own.holder.counts !== "devices" || id < other.id) {
        continue
      }
      const member = this.#names.member(own.channel, own.holder)
      if (member !== own.seat.member) this.#replace(own, { ...own.seat, member })
    }
  }

  // --- what is due later ---------------------------------------------------------------------------

  /** Does what is due, for ever. */
  get run(): Effect.Effect<never> {
    return Effect.gen({ self: this }, function* () {
      while (true) {
        yield* this.#sleep
        // Joins the changes of one turn of the loop.
        yield* Effect.yieldNow
        this.#sleepsUntil = -Infinity
        this.#doWhatIsDue(this.#now())
      }
    })
  }

  #doWhatIsDue(now: number): void {
    for (const [own, at] of this.#leaving) {
      if (at > now) break
      this.leave(own)
    }
    for (const [own, at] of this.#paced) {
      if (at > now) break
      this.#paced.delete(own)
      if (own.waits) this.#renew(own)
    }
    for (const [own, at] of this.#hidden) {
      if (at > now) break
      this.#hidden.delete(own)
      this.#renew(own)
    }
    for (const [session, at] of this.#resting) {
      if (at > now) break
      this.#resting.delete(session)
    }
    for (const [seat, at] of this.#orphans) {
      if (at > now) break
      this.#orphans.delete(seat)
      this.#move(seat, undefined)
    }
    this.#replica?.tick(now)
    if (this.#since !== undefined) this.#becomeReady(now - this.#since)
    for (const room of this.#touched) {
      room.deliver(now)
      if (room.due === undefined) this.#touched.delete(room)
      this.leaveRoom(room)
    }
  }

  #becomeReady(waited: number): void {
    if (waited < leastWait || (waited < mostWait && this.#replica?.exact === false)) return
    this.#since = undefined
    this.#becomeOpen()
  }

  /** When something is due next. */
  get #due(): number {
    let due = this.#replica?.due ?? Infinity
    for (const times of [this.#leaving, this.#paced, this.#hidden, this.#resting, this.#orphans]) {
      for (const at of times.values()) {
        due = Math.min(due, at)
        break
      }
    }
    for (const room of this.#touched) due = Math.min(due, room.due ?? Infinity)
    if (this.#since === undefined) return due
    const next = this.#replica?.exact === false ? mostWait : leastWait
    return Math.min(due, Math.max(this.#since + next, this.#now() + 1))
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
