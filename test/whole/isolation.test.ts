/**
 * A client never receives an event of a channel that it may not read. Random schedules of subscribes,
 * unsubscribes, fresh tokens, changed rights, reconnects and slow sockets, on live, durable and volatile
 * channels, by a seed.
 *
 * A server that sends nothing would pass too. So a client that may read a channel must receive every
 * event after `subscribed`, or a gap; on a volatile channel those that come while it reads.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { AuthRefused, type Authenticate } from "../../src/server/ServerOptions.ts"
import { long, random, seed } from "../server/support/random.ts"
import { layerDoor, settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"

/** An event names its channel, and a few of them fill a mailbox. */
const Note = Schema.Struct({ room: Schema.String, n: Schema.Int, fill: Schema.String })
const Live = Channel.family("live_", Schema.String, Note)
const Kept = Channel.family("kept_", Schema.String, Note, { delivery: "durable" })
const Gone = Channel.family("gone_", Schema.String, Note, { delivery: "volatile" })
type Note = typeof Note.Type
const People = ["ann", "bob", "eve", "joe"] as const
type Name = (typeof People)[number]
const rooms = [
  "live_a",
  "live_b",
  "live_d",
  "live_e",
  "kept_a",
  "kept_d",
  "kept_e",
  "gone_a",
  "gone_d",
  "gone_e"
] as const
type Room = (typeof rooms)[number]
const families = { live: Live, kept: Kept, gone: Gone }

interface Person {
  readonly name: Name
  /** A token may read only channels of its level or below. */
  readonly level: number
}

/** Long enough for the server to decide about every subscription of a session. */
const longEnough = 5000

/** A session may not read the events after `since` and up to `until` of a channel. */
interface Closed {
  readonly room: Room
  readonly since: number
  until: number
  /** The server answered requests with a smaller id before the session got the right. */
  asked: number
}

/** One session, and the events it may receive. */
interface Guest {
  readonly visitor: Visitor
  readonly name: Name
  level: number
  nextId: number
  /** Events that the session must receive, by channel: those since `subscribed`. */
  readonly due: Map<Room, Array<number>>
  readonly closed: Array<Closed>
  /** Number of checked frames. */
  noted: number
}

/** An outbox that answers with a delay, like a database. `patience` is in milliseconds. */
const layerSlowOutbox = (patience: () => number) =>
  Layer.effect(
    OutboxReader,
    Effect.map(OutboxReader, (reader) => ({
      ...reader,
      join: (...asked) =>
        Effect.suspend(() => Effect.sleep(patience())).pipe(Effect.andThen(reader.join(...asked)))
    }))
  ).pipe(Layer.provide(MemoryOutbox.layer()))

const none = {
  received: 0,
  ended: 0,
  forbidden: 0,
  recovered: 0,
  /** Events from a time without the right, replayed after the session got it. */
  afterwards: 0,
  gaps: 0,
  /** Number of times a session stopped reading, and of events due on durable channels. */
  slow: 0,
  owed: 0,
  /** Events due on volatile channels. */
  passing: 0
}
type Counts = typeof none

const run = (seed: number, steps: number) =>
  Effect.gen(function* () {
    const { chance, int, pick } = random(seed)
    const rights = new Map<Name, Set<Room>>(
      People.map((name) => [name, new Set(rooms.filter(() => chance(0.5)))])
    )
    // Only bob may ever read channels e, and channels d require level 2.
    const never = (name: Name, room: Room) => room.endsWith("e") && name !== "bob"
    const may = ({ level, name }: Person, room: Room) =>
      rights.get(name)!.has(room) && !never(name, room) && level >= (room.endsWith("d") ? 2 : 1)

    const authenticate: Authenticate<Person> = ({ token = "" }) => {
      const [name, level] = token.split(" ")
      const identity = { name: name as Name, level: Number(level) }
      return People.includes(identity.name)
        ? Effect.delay(Effect.succeed({ identity }), int(100))
        : Effect.fail(new AuthRefused({ code: "auth/invalid" }))
    }
    const counts: Counts = { ...none }

    /** The session received only events that it could read then, and all events due. */
    const check = ({ closed, due, name, visitor }: Guest) => {
      const seen = new Map<Room, Set<number>>(rooms.map((room) => [room, new Set()]))
      /** The last subscription of each channel. */
      const begun = new Map<
        string,
        { readonly id: number; readonly state: string; readonly events: Set<number> }
      >()
      for (const frame of visitor.frames) {
        if (frame.type === "gap") {
          // A slow session catches up on a durable channel, so only live channels have gaps.
          expect(frame.channel).toMatch(/^live_/)
          counts.gaps++
        } else if (frame.type === "subscribed") {
          begun.set(frame.channel, { ...frame, events: new Set() })
          if (frame.state === "recovered") counts.recovered++
        } else if (frame.type === "ended" || frame.type === "unsubscribed") {
          begun.delete(frame.channel)
          if (frame.type === "ended") counts.ended++
        }
        if (frame.type !== "events") continue
        const room = frame.channel as Room
        const subscription = begun.get(room)
        expect(never(name, room), `${name} read ${room}`).toBe(false)
        expect(subscription, `${name} read ${room}, which was not subscribed`).toBeDefined()
        for (const { data } of frame.events) {
          const note = data as Note
          expect(note.room, "an event of another room").toBe(room)
          expect(subscription!.events.has(note.n), `${note.n} of ${room} twice`).toBe(false)
          subscription!.events.add(note.n)
          seen.get(room)!.add(note.n)
          counts.received++
          for (const { asked, room: shut, since, until } of closed) {
            if (shut !== room || note.n <= since || note.n > until) continue
            // A session with the right may replay all retained events, if it subscribes after it got
            // the right. An earlier subscription never replays them.
            const { id, state } = subscription!
            const late = state === "recovered" && id >= asked
            expect(late, `${name} read ${note.n} of ${room}, forbidden to them`).toBe(true)
            counts.afterwards++
          }
        }
      }
      if (visitor.closeCode === undefined) {
        for (const [room, events] of due) {
          for (const n of events) expect(seen.get(room)!.has(n), `${n} of ${room}`).toBe(true)
          if (room.startsWith("kept")) counts.owed += events.length
          if (room.startsWith("gone")) counts.passing += events.length
        }
      }
      counts.forbidden += visitor.errors.filter((code) => code === "channel/forbidden").length
    }
    yield* Effect.gen(function* () {
      const door = yield* TestDoor
      const guests: Array<Guest> = []
      const present = () => guests.filter(({ visitor }) => visitor.closeCode === undefined)
      let n = 0

      const enter = Effect.gen(function* () {
        const name = pick(People)
        const level = 1 + int(2)
        const visitor = yield* visit({ token: `${name} ${level}` })
        yield* TestClock.adjust(100)
        const guest: Guest = {
          visitor,
          name,
          level,
          nextId: 1,
          due: new Map(),
          closed: [],
          noted: 0
        }
        guests.push(guest)
        noteRights(guest, 0)
      })

      /** The first unanswered request. */
      const undecided = ({ nextId, visitor }: Guest) => {
        let first = nextId
        for (let id = nextId - 1; id > 0; id--) if (visitor.answer(id) === undefined) first = id
        return first
      }

      /**
       * Call it when the server has decided about all subscriptions with the present rights. `asked` is
       * the first request that was unanswered before the rights changed.
       */
      const noteRights = (guest: Guest, asked: number) => {
        const { closed, due } = guest
        for (const room of rooms) {
          const span = closed.find((one) => one.room === room && one.until === Infinity)
          if (!may(guest, room)) {
            due.delete(room)
            if (span === undefined)
              closed.push({ room, since: n, until: Infinity, asked: Infinity })
          } else if (span !== undefined) {
            span.until = n
            span.asked = asked
          }
        }
      }

      const send = (guest: Guest, frame: object) => {
        guest.visitor.send({ id: guest.nextId++, ...frame })
      }

      const leaveRoom = (guest: Guest, channel: Room) => {
        guest.due.delete(channel)
        send(guest, { type: "unsubscribe", channel })
      }

      /** Records which channels each session receives from now on. */
      const noteFrames = () => {
        for (const guest of guests) {
          const { due, visitor } = guest
          for (const frame of visitor.frames.slice(guest.noted)) {
            if (frame.type === "subscribed") due.set(frame.channel as Room, [])
            else if (
              frame.type === "ended" ||
              frame.type === "unsubscribed" ||
              frame.type === "gap"
            ) {
              due.delete(frame.channel as Room)
            }
          }
          guest.noted = visitor.frames.length
        }
      }

      /** Grants or revokes a right, and calls reauthorize. */
      const change = Effect.fnUntraced(function* ({ name }: Guest, room: Room) {
        const theirs = rights.get(name)!
        const asked = new Map(guests.map((one) => [one, undecided(one)]))
        if (theirs.has(room)) theirs.delete(room)
        else theirs.add(room)
        const asking = yield* Effect.forkChild(door.reauthorize(name))
        yield* TestClock.adjust(longEnough)
        yield* Fiber.join(asking)
        // The server has decided again about pending requests too.
        yield* TestClock.adjust(longEnough)
        for (const one of guests) if (one.name === name) noteRights(one, asked.get(one)!)
      })

      const publish = Effect.gen(function* () {
        const room = pick(rooms)
        n++
        const note: Note = { room, n, fill: "x".repeat(int(400)) }
        const id = room.slice(5)
        const family = families[room.slice(0, 4) as keyof typeof families]
        yield* Realtime.publish(family(id), note)
        yield* settle
        for (const { due, visitor } of present()) {
          if (visitor.reading || !room.startsWith("gone")) due.get(room)?.push(n)
        }
      })

      for (let index = 0; index < 5; index++) yield* enter

      for (let step = 0; step < steps; step++) {
        const guest = pick(present())
        const { visitor } = guest
        // Mostly channels that the session may read, or it would receive few events.
        const theirs = rooms.filter((one) => may(guest, one))
        const room = chance(0.6) && theirs.length > 0 ? pick(theirs) : pick(rooms)
        const kind = int(13)
        let asked = 0
        if (kind <= 3) {
          // A session subscribes to any channel, also with the cursor of another session or channel.
          const frames = guests.flatMap((one) => one.visitor.of("events"))
          const near = frames.filter(
            ({ channel }) => chance(0.1) || channel.slice(0, 5) === room.slice(0, 5)
          )
          const cursor = chance(0.7) && near.length > 0 ? { cursor: pick(near).cursor } : {}
          if (!guest.due.has(room)) {
            send(guest, { type: "subscribe", channel: room, ...cursor })
            // Sometimes the next step happens before the server decides.
            if (chance(0.7)) yield* TestClock.adjust(longEnough)
            else if (chance(0.3)) yield* change(guest, room)
            if (chance(0.1)) leaveRoom(guest, room)
          }
        } else if (kind === 4) leaveRoom(guest, room)
        else if (kind === 5) {
          asked = undecided(guest)
          guest.level = 1 + int(2)
          send(guest, { type: "authenticate", token: `${guest.name} ${guest.level}` })
          yield* TestClock.adjust(longEnough)
        } else if (kind === 6) {
          const open = [...guest.due.keys()]
          yield* change(guest, chance(0.5) && open.length > 0 ? pick(open) : pick(rooms))
        } else if (kind === 7 && present().length < 8) yield* enter
        else if (kind === 8) {
          if (visitor.reading) counts.slow++
          visitor.reading = false
        } else if (kind === 9) {
          // One read, or all.
          if (chance(0.5)) visitor.sip()
          else visitor.read()
        } else for (let index = 1 + int(6); index > 0; index--) yield* publish
        yield* settle
        if (kind === 5) noteRights(guest, asked)
        noteFrames()
        for (const one of present()) one.visitor.send({ type: "pong" })
        // The server closes a session that does not read its answers. Another one replaces it.
        for (const one of guests) expect([undefined, 4001]).toContain(one.visitor.closeCode)
        while (present().length < 3) yield* enter
      }
      for (const { visitor } of present()) visitor.read()
      yield* TestClock.adjust(longEnough)
      noteFrames()

      for (const guest of guests) check(guest)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerDoor<Person>({
          channels: [Live, Kept, Gone],
          authenticate,
          authorize: ({ channel, identity }) =>
            // It decides now and answers later, so rights may change in between.
            Effect.suspend(() =>
              Effect.delay(Effect.succeed(may(identity, channel as Room)), int(100))
            ),
          identityKey: ({ name }) => name,
          limits: {
            subscribeRate: { perSecond: 1000, burst: 1000 },
            frameRate: { perSecond: 10_000, burst: 10_000 },
            authenticateRate: { perSecond: 1000, burst: 1000 },
            maxMailboxBytes: 2000,
            blockedTimeout: "1 hour"
          }
        }).pipe(Layer.provide(layerSlowOutbox(() => int(50))))
      )
    )
    return counts
  })

describe("a client never receives an event of a channel that it may not read", () => {
  const runs = long ? 500 : 30
  it.effect(
    `in ${runs} schedules (REALTIME_TEST_SEED=${seed})`,
    () =>
      Effect.gen(function* () {
        const sum: Counts = { ...none }
        for (let index = 0; index < runs; index++) {
          const counts = yield* run(seed + index, 250)
          for (const key of Object.keys(sum) as ReadonlyArray<keyof Counts>) {
            sum[key] += counts[key]
          }
        }
        // The schedules are meaningful only if each case occurs.
        expect(sum.received).toBeGreaterThan(runs * 10)
        expect(sum.ended).toBeGreaterThan(runs)
        expect(sum.forbidden).toBeGreaterThan(runs)
        for (const count of Object.values(sum)) expect(count).toBeGreaterThan(0)
      }),
    600_000
  )
})
