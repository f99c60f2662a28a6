/**
 * Holds one socket to a presence channel: sends the members, and is itself one if the client asks for it.
 *
 * A socket that is full receives no differences, and everything again when it takes bytes.
 */
import * as Effect from "effect/Effect"
import { nowhere } from "../hub/batch.ts"
import type { Outgoing } from "../hub/outgoing.ts"
import type { View, ViewJoin } from "../hub/view.ts"
import type { SeatHolder } from "../presence/names.ts"
import type { OwnSeat, Presence } from "../presence/presence.ts"
import type { Room, Watcher } from "../presence/room.ts"
import type { Port, SeatedMember } from "./port.ts"
import type { Sent } from "./publishing.ts"

export class PresenceSubscriber<E = never> implements Watcher, SeatedMember {
  readonly #view: View<E>
  readonly #port: Port
  readonly #presence: Presence
  readonly #counts: SeatHolder["counts"]
  #room: Room | undefined
  #seat: OwnSeat | undefined
  #left = false
  /** Whether differences were dropped, so that everything follows. */
  #behind = false
  /** What the client sent last of itself. */
  sent: Sent | undefined

  constructor(view: View<E>, port: Port, presence: Presence, counts: SeatHolder["counts"]) {
    this.#view = view
    this.#port = port
    this.#presence = presence
    this.#counts = counts
  }

  get member(): string | undefined {
    return this.#seat?.seat.member
  }

  join(): Effect.Effect<ViewJoin, E> {
    return this.#view.join(undefined)
  }

  /** Sends the members, and from then on their changes. */
  go(): Effect.Effect<void> {
    const begin = Effect.sync(() => {
      if (this.#left || this.#room !== undefined) return
      this.#room = this.#presence.room(this.#view.name)
      this.#room.watch(this)
    })
    return Effect.andThen(this.#presence.ready, begin)
  }

  offer(frame: Outgoing): void {
    if (this.#left || this.#behind) return
    const { mailbox } = this.#port
    if (mailbox.blocked) this.fallBehind()
    else mailbox.control(frame)
  }

  hold(): void {}

  fallBehind(): void {
    this.#behind = true
    this.#port.mailbox.fallBehind(this.#view.key, nowhere)
  }

  catchUp(): Effect.Effect<void> {
    return Effect.sync(() => {
      this.#behind = false
      if (!this.#left) this.#room?.tellAll(this)
    })
  }

  /** Joins, or changes the own state: JSON text. Returns the member; `undefined` if the client has left. */
  present(sent: Sent, state: string): string | undefined {
    if (this.#left || this.#room === undefined) return undefined
    this.sent = sent
    if (this.#seat !== undefined) this.#presence.show(this.#seat, state)
    else {
      const { principal, session } = this.#port
      const identity = principal.key === "" ? undefined : principal.key
      const seat = this.#presence.sit(
        this.#view.name,
        { session, identity, counts: this.#counts },
        state
      )
      this.#seat = seat
      this.#port.seat(this)
      this.#room.joined(this)
    }
    return this.member
  }

  /** Leaves, and stays subscribed. */
  absent(): void {
    const seat = this.#stand()
    if (seat !== undefined) this.#presence.leave(seat)
  }

  /** Ends the subscription. After the socket closed the member stays for the grace. */
  leave(): void {
    if (this.#left) return
    this.#left = true
    this.#port.mailbox.forget(this.#view.key)
    const room = this.#room
    room?.unwatch(this)
    const seat = this.#stand()
    if (seat !== undefined) {
      if (this.#port.ended) this.#presence.away(seat)
      else this.#presence.leave(seat)
    }
    if (room !== undefined) this.#presence.leaveRoom(room)
  }

  /** Begins the grace, which is for a client that may return. */
  away(): void {
    if (this.#seat !== undefined) this.#presence.away(this.#seat)
  }

  #stand(): OwnSeat | undefined {
    const seat = this.#seat
    this.#port.stand(this)
    this.#seat = undefined
    this.sent = undefined
    return seat
  }
}
