/** The members of a presence channel in a client: what it asks, what it shows, and what it shares. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Channel } from "effect-realtime"
import { type Members, PlainClient } from "effect-realtime/client"
import type { ClientFrame, FrameOf, ServerFrame } from "../../src/Frame.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const Guest = Schema.Struct({ name: Schema.String })
type Guest = typeof Guest.Type
const channel = "in_room_1"
const InRoom = Channel.presence("in_room_", Schema.String, Guest)
const Room = InRoom("1")

const members = (
  count: number,
  rest: Partial<FrameOf<ServerFrame, "members">> = {}
): ServerFrame => ({ type: "members", channel, count, ...rest })
const whole = (...names: ReadonlyArray<string>) =>
  members(names.length, {
    set: Object.fromEntries(names.map((name) => [`m-${name}`, { name }])),
    whole: true
  })

/** The server rejects a state for now. */
const later = (id: number, retryAfter: number): ServerFrame => ({
  type: "error",
  id,
  code: "publish/rate",
  message: "later",
  retry: "later",
  retryAfter
})

/** A client of a server that names the member of each state `m-` and its name. */
const make = Effect.gen(function* () {
  const server = FakeSocket.make({ auto: true })
  const client = yield* Client.make(server, { linger: 50 })
  /** What the server has when a client subscribes. */
  let here: ReadonlyArray<string> = []
  server.heard = (socket, frame) => {
    server.answer(socket, frame)
    if (frame.type === "subscribe") socket.say(whole(...here))
    if (frame.type === "absent") socket.say({ type: "absent", id: frame.id })
    if (frame.type === "present") {
      const { name } = frame.member as Guest
      socket.say({ type: "present", id: frame.id, member: `m-${name}` })
    }
  }
  const plain = PlainClient.fromClient(client)
  const watch = (of: Channel.Presence<Guest> = Room) => {
    const ended: Array<unknown> = []
    const shown: Array<Members.Members<Guest>> = []
    const stop = of.keeper.follow(
      client.sync.host,
      of,
      (members) => shown.push(members as never),
      (error) => ended.push(error)
    )
    const self = {
      ended,
      shown,
      stop,
      get now() {
        return shown.at(-1)!
      },
      get names() {
        return self.now.members.map(({ isMe, state }) => state.name + (isMe ? "!" : ""))
      }
    }
    return self
  }
  const say = (...frames: ReadonlyArray<ServerFrame>) => server.last.say(...frames)
  const sent = () => server.sent.map(({ type }) => type).filter((type) => type !== "hello")
  const of = <Type extends ClientFrame["type"]>(type: Type) => server.last.of(type)
  const is = (...names: ReadonlyArray<string>) => {
    here = names
  }
  return { server, client, plain, watch, say, sent, of, is }
})

describe("the members of a presence channel", () => {
  it.effect("are those of the wire, each the same object until it changes", () =>
    Effect.gen(function* () {
      const { is, say, sent, watch } = yield* make
      is("ann", "bob")
      const room = watch()
      assert.deepInclude(room.now, { status: "loading", count: 0, members: [], me: undefined })
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(sent(), ["subscribe"])
      assert.deepInclude(room.now, { status: "live", count: 2, named: true })
      assert.deepStrictEqual(room.names, ["ann", "bob"])
      const [ann, bob] = room.now.members
      say(members(3, { set: { "m-bob": { name: "Bob" }, "m-cat": { name: "cat" } } }))
      assert.deepStrictEqual(room.names, ["ann", "Bob", "cat"])
      assert.strictEqual(room.now.members[0], ann)
      assert.notStrictEqual(room.now.members[1], bob)
      say(members(2, { gone: ["m-ann"] }))
      assert.deepStrictEqual(room.names, ["Bob", "cat"])
      const before = room.shown.length
      say(members(2, { set: { "m-cat": { name: "cat" } } }))
      assert.strictEqual(room.shown.length, before, "what changes nothing shows nothing")
    })
  )

  it.effect("cannot be changed by a user that receives them", () =>
    Effect.gen(function* () {
      const { is, watch } = yield* make
      is("ann", "bob")
      const [room, other] = [watch(), watch()]
      yield* TestClock.adjust(1)
      const [ann] = room.now.members
      assert.throws(() => Object.assign(ann!.state, { name: "eve" }), TypeError)
      assert.throws(() => Object.assign(ann!, { state: { name: "eve" } }), TypeError)
      assert.throws(() => (room.now.members as Array<unknown>).pop(), TypeError)
      assert.throws(() => Object.assign(room.now, { count: 7 }), TypeError)
      assert.deepStrictEqual(other.names, ["ann", "bob"])
    })
  )

  it.effect("stay while the socket is away, stale, and the same after an unchanged return", () =>
    Effect.gen(function* () {
      const { is, server, watch } = yield* make
      is("ann", "bob")
      const room = watch()
      yield* TestClock.adjust(1)
      const { members } = room.now
      server.last.drop()
      assert.deepInclude(room.now, { status: "stale", count: 2, members })
      is("bob", "ann")
      yield* TestClock.adjust(60_000)
      assert.deepInclude(room.now, { status: "live", count: 2 })
      assert.strictEqual(room.now.members, members)
      is("bob")
      server.last.drop()
      yield* TestClock.adjust(60_000)
      assert.deepStrictEqual(room.names, ["bob"])
    })
  )

  it.effect("are only counted where the server names none, and the own member is there", () =>
    Effect.gen(function* () {
      const { client, say, watch } = yield* make
      const room = watch()
      yield* client.present(Room, { name: "ann" })
      say(members(1001, { whole: true }), members(1001, { set: { "m-ann": { name: "ann" } } }))
      assert.deepInclude(room.now, { status: "live", count: 1001, named: false })
      assert.deepStrictEqual(room.names, ["ann!"])
      say(members(1200))
      assert.deepInclude(room.now, { count: 1200, named: false })
      say(whole("ann", "bob"))
      assert.deepInclude(room.now, { count: 2, named: true })
      assert.deepStrictEqual(room.names, ["ann!", "bob"])
    })
  )

  it.effect(
    "whose states do not match are left out and named, and no user can change the others",
    () =>
      Effect.gen(function* () {
        const { say, watch } = yield* make
        const room = watch()
        const other = watch(
          Channel.presence(channel, Schema.Struct({ name: Schema.Unknown })) as never
        )
        yield* TestClock.adjust(1)
        say(members(2, { set: { a: { name: 1 }, b: { name: "bob" } } }))
        assert.deepInclude(room.now, { status: "live", count: 2, invalid: ["a"], error: undefined })
        assert.deepStrictEqual(room.names, ["bob"])
        assert.strictEqual(
          other.now.members.length,
          2,
          "another definition shares the subscription"
        )
        assert.throws(() => Object.assign(room.now.members[0]!.state, { name: "x" }))
        assert.throws(() => (room.now.members as Array<unknown>).pop())
        say(members(2, { set: { a: { name: "ann" } } }))
        assert.deepInclude(room.now, { invalid: [] })
      })
  )

  it.effect("share one subscription, which ends when the last has left for a while", () =>
    Effect.gen(function* () {
      const { sent, watch } = yield* make
      const one = watch()
      const other = watch()
      yield* TestClock.adjust(1)
      one.stop()
      other.stop()
      const again = watch()
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(sent(), ["subscribe"])
      again.stop()
      yield* TestClock.adjust(49)
      assert.deepStrictEqual(sent(), ["subscribe"])
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(sent().slice(0, 2), ["subscribe", "unsubscribe"])
    })
  )

  it.effect("end with the refusal, or are stale until the server has another answer", () =>
    Effect.gen(function* () {
      const { server, sent, watch } = yield* make
      const usual = server.heard
      let retry: "later" | "never" = "later"
      server.heard = (socket, frame) =>
        frame.type === "subscribe"
          ? void socket.say({
              type: "error",
              id: frame.id,
              code: "server/overloaded",
              message: "no",
              retry,
              ...(retry === "later" && { retryAfter: 500 })
            })
          : usual(socket, frame)
      const room = watch()
      yield* TestClock.adjust(1)
      assert.strictEqual(room.now.status, "stale")
      assert.deepInclude(room.now.error, { _tag: "Refused", retryAfter: 500 })
      retry = "never"
      yield* TestClock.adjust(500)
      assert.strictEqual(room.now.status, "error")
      assert.strictEqual(room.ended.length, 1)
      yield* TestClock.adjust(60_000)
      assert.deepStrictEqual(sent(), ["subscribe", "subscribe"])
      server.heard = usual
      const next = watch()
      yield* TestClock.adjust(1000)
      assert.strictEqual(next.now.status, "live", "another user asks again")
    })
  )
})

describe("the own member", () => {
  it.effect("is the newest state of all uses, and leaves with the last", () =>
    Effect.gen(function* () {
      const { client, of, say, sent, watch } = yield* make
      const [first, second] = [yield* Scope.make(), yield* Scope.make()]
      yield* Scope.provide(client.present(Room, { name: "ann" }), first)
      const room = watch()
      say(whole("ann"))
      assert.deepStrictEqual(room.now.me, { id: "m-ann", state: { name: "ann" }, isMe: true })
      yield* Effect.forkScoped(Scope.provide(client.present(Room, { name: "bob" }), second))
      yield* TestClock.adjust(199)
      assert.strictEqual(of("present").length, 1, "the next state waits for its turn")
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(
        of("present").map(({ member }) => member),
        [{ name: "ann" }, { name: "bob" }]
      )
      yield* Scope.close(second, Exit.void)
      yield* TestClock.adjust(200)
      assert.deepStrictEqual(of("present").at(-1)!.member, { name: "ann" })
      yield* Scope.close(first, Exit.void)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(sent(), ["subscribe", "present", "present", "present", "absent"])
      assert.strictEqual(room.now.me, undefined)
    })
  )

  it.effect(
    "stays in the list and is counted until the server shows it again under another name",
    () =>
      Effect.gen(function* () {
        const { client, is, say, server, watch } = yield* make
        is("bob", "ann")
        const room = watch()
        const me = yield* client.present(Room, { name: "ann" })
        assert.deepStrictEqual(room.names, ["bob", "ann!"])
        const before = room.shown.length
        is("bob")
        server.last.drop()
        yield* Effect.forkScoped(me.update({ name: "ann2" }))
        yield* TestClock.adjust(60_000)
        say(members(2, { set: { "m-ann2": { name: "ann2" } } }))
        assert.deepStrictEqual(room.names, ["bob", "ann2!"])
        const seen = room.shown.slice(before)
        assert.deepStrictEqual(
          seen.filter(({ count, members }) => count !== 2 || members.length !== 2),
          []
        )
      })
  )

  it.effect(
    "of a plain client is there while the value has subscribers, and can be mounted twice",
    () =>
      Effect.gen(function* () {
        const { of, plain, say, sent } = yield* make
        const room = plain.presence(Room, { name: "ann" })
        assert.strictEqual(room.getSnapshot(), room.getServerSnapshot())
        assert.deepInclude(room.getSnapshot(), { status: "loading", count: 0 })
        room.subscribe(() => {})()
        const stop = room.subscribe(() => {})
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(sent(), ["subscribe", "present"])
        say(whole("ann"))
        const shown = room.update({ name: "Ann" })
        yield* TestClock.adjust(200)
        yield* Effect.promise(() => shown)
        assert.deepStrictEqual(of("present").at(-1)!.member, { name: "Ann" })
        const invalid = yield* Effect.promise(() =>
          room.update({ name: 1 } as never).catch((error) => error)
        )
        assert.deepInclude(invalid, { _tag: "InvalidPayload" })
        assert.strictEqual(room.getSnapshot().error, invalid)
        yield* Effect.promise(() => room.update(undefined))
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(sent(), ["subscribe", "present", "present", "absent"])
        assert.strictEqual(room.getSnapshot().error, undefined)
        stop()
        yield* TestClock.adjust(1000)
        assert.deepStrictEqual(sent().slice(4, 5), ["unsubscribe"])
      })
  )

  it.effect("whose state is rejected for now is sent again, the newest only", () =>
    Effect.gen(function* () {
      const { client, of, server, watch } = yield* make
      const usual = server.heard
      server.heard = (socket, frame) =>
        frame.type === "present" && of("present").length === 1
          ? void socket.say(later(frame.id, 1000))
          : usual(socket, frame)
      const room = watch()
      yield* Effect.forkScoped(client.present(Room, { name: "ann" }))
      yield* TestClock.adjust(1)
      assert.deepInclude(room.now.error, { _tag: "Refused", retryAfter: 1000 })
      assert.strictEqual(room.now.status, "live")
      yield* TestClock.adjust(998)
      assert.strictEqual(of("present").length, 1)
      yield* TestClock.adjust(1)
      assert.strictEqual(of("present").length, 2)
      assert.strictEqual(room.now.error, undefined)
    })
  )

  it.effect(
    "that is shown no more ends the promise of its last state, also after a lost link",
    () =>
      Effect.gen(function* () {
        const { plain, server, sent } = yield* make
        const usual = server.heard
        server.heard = (socket, frame) =>
          frame.type === "present" ? undefined : usual(socket, frame)
        const room = plain.presence(Room)
        room.subscribe(() => {})
        yield* TestClock.adjust(1)
        const ended: Array<string> = []
        void room.update({ name: "ann" }).then(() => ended.push("ann"))
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(sent(), ["subscribe", "present"])
        void room.update(undefined).then(() => ended.push("none"))
        server.last.drop()
        yield* TestClock.adjust(60_000)
        assert.sameMembers(ended, ["ann", "none"])
      })
  )

  it.effect("that is shown no more ends the promise of a state that is rejected for now", () =>
    Effect.gen(function* () {
      const { of, plain, say, server, watch } = yield* make
      const usual = server.heard
      server.heard = (socket, frame) =>
        frame.type === "present" ? undefined : usual(socket, frame)
      const room = plain.presence(Room)
      room.subscribe(() => {})
      const seen = watch()
      yield* TestClock.adjust(1)
      let ended = false
      void room.update({ name: "ann" }).then(() => (ended = true))
      yield* TestClock.adjust(1)
      void room.update(undefined)
      say(later(of("present")[0]!.id, 1000))
      yield* TestClock.adjust(60_000)
      assert.isTrue(ended)
      assert.isTrue(seen.shown.every(({ error }) => error === undefined))
    })
  )

  it.effect("that leaves before the server shows it again is in the list no more", () =>
    Effect.gen(function* () {
      const { client, is, server, watch } = yield* make
      const usual = server.heard
      is("bob", "ann")
      const room = watch()
      const scope = yield* Scope.make()
      yield* Scope.provide(client.present(Room, { name: "ann" }), scope)
      server.heard = (socket, frame) =>
        frame.type === "present" ? void socket.say(later(frame.id, 50_000)) : usual(socket, frame)
      is("bob")
      server.last.drop()
      yield* TestClock.adjust(20_000)
      assert.deepStrictEqual(room.names, ["bob", "ann!"])
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(room.names, ["bob"])
      assert.deepInclude(room.now, { count: 1, me: undefined, error: undefined })
    })
  )
})
