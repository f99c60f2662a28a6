/**
 * Nobody ever receives an event of a channel that they may not read: random people, channels and
 * schedules of subscribing, leaving, refreshed tokens, changed rights and reconnects, by a seed.
 *
 * And, so that the promise is not kept by a server that sends nothing: who may read, and was told
 * `subscribed`, receives everything from then on.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import { Realtime } from "../../src/server/Realtime.ts"
import { AuthRefused, type Authenticate } from "../../src/server/ServerOptions.ts"
import { long, random, seed } from "../server/support/random.ts"
import { layerDoor, settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"

const Note = Schema.Struct({ n: Schema.Int })
const Room = Channel.family("room_", Schema.String, Note)
const People = ["ann", "bob", "eve", "joe"] as const
type Name = (typeof People)[number]
const rooms = ["a", "b", "c", "d", "e"] as const
type Room = (typeof rooms)[number]

interface Person {
  readonly name: Name
  /** Rooms of a higher level are closed to a token of a lower one. */
  readonly level: number
}

const roomOf = (channel: string) => channel.slice(5) as Room

/** Long enough for every decision about every subscription of a session. */
const longEnough = 5000

/** What one session may have received: everything, except between these events. */
interface Guest {
  readonly visitor: Visitor
  readonly name: Name
  level: number
  nextId: number
  /** Events that must have arrived, by room: those since `subscribed` was seen. */
  readonly due: Map<Room, Array<number>>
}

const run = (seed: number, steps: number) =>
  Effect.gen(function* () {
    const { chance, int, pick } = random(seed)
    const rights = new Map<Name, Set<Room>>(
      People.map((name) => [name, new Set(rooms.filter(() => chance(0.5)))])
    )
    // Whatever happens: only bob may ever read room e, and room d needs level 2.
    const never = (name: Name, room: Room) => room === "e" && name !== "bob"
    const levelOf = (room: Room) => (room === "d" ? 2 : 1)
    const may = ({ level, name }: Person, room: Room) =>
      rights.get(name)!.has(room) && !never(name, room) && level >= levelOf(room)

    const authenticate: Authenticate<Person> = ({ token = "" }) => {
      const [name, level] = token.split(" ")
      const identity = { name: name as Name, level: Number(level) }
      return People.includes(identity.name)
        ? Effect.delay(Effect.succeed({ identity }), int(100))
        : Effect.fail(new AuthRefused({ code: "auth/invalid" }))
    }
    const counts = { received: 0, ended: 0, forbidden: 0, published: 0, recovered: 0 }

    yield* Effect.gen(function* () {
      const door = yield* TestDoor
      /** The rooms that a session surely may not read now, and since which event. */
      const closed = new Map<Guest, Map<Room, number>>()
      /** What may not arrive: rooms with the first and the last forbidden event. */
      const forbidden = new Map<Guest, Array<readonly [Room, number, number]>>()
      const guests: Array<Guest> = []
      let n = 0

      const enter = Effect.gen(function* () {
        const name = pick(People)
        const level = 1 + int(2)
        const visitor = yield* visit({ token: `${name} ${level}` })
        yield* TestClock.adjust(100)
        const guest: Guest = { visitor, name, level, nextId: 1, due: new Map() }
        guests.push(guest)
        closed.set(guest, new Map())
        forbidden.set(guest, [])
        noteRights(guest)
        return guest
      })

      /** To be called once all decisions of a session are surely made with its present rights. */
      const noteRights = (guest: Guest) => {
        const shut = closed.get(guest)!
        for (const room of rooms) {
          const open = may(guest, room)
          const since = shut.get(room)
          if (!open && since === undefined) shut.set(room, n)
          if (open && since !== undefined) {
            forbidden.get(guest)!.push([room, since, n])
            shut.delete(room)
          }
          if (!open) guest.due.delete(room)
        }
      }

      const send = (guest: Guest, frame: object) => {
        guest.visitor.send({ id: guest.nextId++, ...frame })
      }

      const leaveRoom = (guest: Guest, room: Room) => {
        guest.due.delete(room)
        send(guest, { type: "unsubscribe", channel: `room_${room}` })
      }

      /** What the sessions have been told that they will receive from now on. */
      const noteSubscribed = () => {
        for (const { due, visitor } of guests) {
          const noted = notedFrames.get(visitor) ?? 0
          notedFrames.set(visitor, visitor.frames.length)
          for (const frame of visitor.frames.slice(noted)) {
            if (frame.type === "subscribed") {
              due.set(roomOf(frame.channel), [])
              if (frame.state === "recovered") counts.recovered++
            } else if (frame.type === "ended" || frame.type === "unsubscribed") {
              due.delete(roomOf(frame.channel))
              if (frame.type === "ended") counts.ended++
            }
          }
        }
      }
      const notedFrames = new Map<Visitor, number>()

      for (let index = 0; index < 5; index++) yield* enter

      for (let step = 0; step < steps; step++) {
        const guest = pick(guests)
        const room = pick(rooms)
        const kind = int(10)
        if (kind <= 3) {
          // Anybody tries anything, also with somebody else's cursor.
          const cursors = guests
            .flatMap(({ visitor }) => visitor.of("events"))
            .map(({ cursor }) => cursor)
          const cursor = chance(0.3) && cursors.length > 0 ? { cursor: pick(cursors) } : {}
          if (!guest.due.has(room)) {
            send(guest, { type: "subscribe", channel: `room_${room}`, ...cursor })
            // Sometimes what follows happens before the decision.
            if (chance(0.7)) yield* TestClock.adjust(longEnough)
            if (chance(0.2)) leaveRoom(guest, room)
          }
        } else if (kind === 4) leaveRoom(guest, room)
        else if (kind === 5) {
          guest.level = 1 + int(2)
          send(guest, { type: "authenticate", token: `${guest.name} ${guest.level}` })
          yield* TestClock.adjust(longEnough)
        } else if (kind === 6) {
          const theirs = rights.get(guest.name)!
          if (theirs.has(room)) theirs.delete(room)
          else theirs.add(room)
          const asking = yield* Effect.forkChild(door.reauthorize(guest.name))
          yield* TestClock.adjust(longEnough)
          yield* Fiber.join(asking)
          // Those on their way were asked about again, and have had the time.
          yield* TestClock.adjust(longEnough)
          for (const one of guests) if (one.name === guest.name) noteRights(one)
        } else if (kind === 7 && guests.length < 8) yield* enter
        else {
          n++
          counts.published++
          yield* Realtime.publish(Room(room), { n })
          yield* settle
          for (const one of guests) one.due.get(room)?.push(n)
        }
        yield* settle
        if (kind === 5) noteRights(guest)
        noteSubscribed()
        for (const one of guests) one.visitor.send({ type: "pong" })
        if (guest.visitor.closeCode !== undefined)
          throw new Error(`closed ${guest.visitor.closeCode}`)
      }
      yield* TestClock.adjust(longEnough)

      for (const guest of guests) {
        const spans = forbidden.get(guest)!
        for (const [room, since] of closed.get(guest)!) spans.push([room, since, Infinity])
        const seen = new Map<Room, Set<number>>()
        for (const { channel, events } of guest.visitor.of("events")) {
          const room = roomOf(channel)
          for (const { data } of events) {
            const event = (data as { readonly n: number }).n
            counts.received++
            seen.set(room, (seen.get(room) ?? new Set()).add(event))
            expect(never(guest.name, room), `${guest.name} read room ${room}`).toBe(false)
            const span = spans.find(
              ([of, since, until]) => of === room && event > since && event <= until
            )
            // A replay after rights came back may hold what was published while they were gone: who may
            // subscribe may read all that is retained.
            const replayed = guest.visitor
              .of("subscribed")
              .some(({ state }) => state === "recovered")
            if (!replayed)
              expect(span, `${guest.name} read ${event} of room ${room}`).toBeUndefined()
          }
        }
        for (const [room, due] of guest.due) {
          for (const event of due) expect(seen.get(room)?.has(event)).toBe(true)
        }
        counts.forbidden += guest.visitor.errors.filter(
          (code) => code === "channel/forbidden"
        ).length
      }
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerDoor<Person>({
          channels: [Room],
          authenticate,
          authorize: ({ channel, identity }) =>
            // Decided now, told later: rights may change in between.
            Effect.suspend(() =>
              Effect.delay(Effect.succeed(may(identity, roomOf(channel))), int(100))
            ),
          identityKey: ({ name }) => name,
          limits: {
            subscribes: { perSecond: 1000, burst: 1000 },
            frames: { perSecond: 10_000, burst: 10_000 },
            authentications: { perSecond: 1000, burst: 1000 }
          }
        })
      )
    )
    return counts
  })

describe("nobody receives an event of a channel that they may not read", () => {
  const runs = long ? 500 : 30
  it.effect(
    `in ${runs} schedules (REALTIME_TEST_SEED=${seed})`,
    () =>
      Effect.gen(function* () {
        const sum = { received: 0, ended: 0, forbidden: 0, published: 0, recovered: 0 }
        for (let index = 0; index < runs; index++) {
          const counts = yield* run(seed + index, 120)
          for (const key of Object.keys(sum) as ReadonlyArray<keyof typeof sum>) {
            sum[key] += counts[key]
          }
        }
        // The schedules are worth something.
        expect(sum.received).toBeGreaterThan(runs * 10)
        expect(sum.ended).toBeGreaterThan(runs)
        expect(sum.forbidden).toBeGreaterThan(runs)
        expect(sum.recovered).toBeGreaterThan(0)
      }),
    600_000
  )
})
