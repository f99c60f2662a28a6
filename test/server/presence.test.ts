/** Presence channels at the door of one node: members join, change, leave and return. */
import { describe, expect, it } from "@effect/vitest"
import { Clock, type Duration, Effect, Exit, Layer, Ref, Schema, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import { createHash } from "node:crypto"
import * as Presence from "../../src/server/internal/presence/onBus.ts"
import { hubOf } from "../../src/server/internal/hub/ofRealtime.ts"
import { RuleRefused } from "../../src/server/Rule.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import {
  allowAll,
  type AnonymousOptions,
  type IdentityRules
} from "../../src/server/ServerOptions.ts"
import { settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"

const Member = Schema.Struct({ name: Schema.String })
const Lobby = Channel.presence("in_lobby", Member)
const Devices = Channel.presence("devices", Member, { counts: "devices" })
const Notes = Channel.make("notes", Schema.String, { delivery: "volatile", publish: true })

const options: IdentityRules<string> = {
  channels: [Lobby, Devices, Notes],
  authenticate: ({ token }) => Effect.succeed({ identity: token ?? "guest" }),
  rules: ({ onPresent, onPublish, onSubscribe }) => [
    onSubscribe(Lobby, () => true),
    onPresent(Lobby, ({ identity, member }) => ({ name: `${member.name} of ${identity}` })),
    onSubscribe(Devices, () => true),
    onPresent(Devices, ({ member }) => member),
    onSubscribe(Notes, () => true),
    onPublish(Notes, ({ payload }) => payload)
  ]
}

type Needs = TestDoor | Realtime.Realtime | Scope.Scope

const withDoor = <A, E>(body: Effect.Effect<A, E, Needs>, realtime?: Realtime.Options) =>
  Effect.provide(
    Effect.scoped(body),
    Layer.effect(TestDoor, Door.make(options)).pipe(
      Layer.provideMerge(Realtime.layerVolatile(realtime))
    )
  )

const open = <A, E>(body: Effect.Effect<A, E, Needs>, realtime?: Realtime.Options) => {
  const anonymous: AnonymousOptions = { channels: [Lobby], authorize: allowAll }
  return Effect.provide(
    Effect.scoped(body),
    Layer.effect(TestDoor, Door.make(anonymous)).pipe(
      Layer.provideMerge(Realtime.layerVolatile(realtime))
    )
  )
}

let lastId = 100
const ask = (visitor: Visitor, frame: object) =>
  Effect.gen(function* () {
    const id = ++lastId
    visitor.send({ ...frame, id })
    yield* settle
    return visitor.answer(id)
  })

const watch = (token?: string, channel = "in_lobby") =>
  Effect.gen(function* () {
    const visitor = yield* visit(token === undefined ? {} : { token })
    yield* ask(visitor, { type: "subscribe", channel })
    return visitor
  })

const present = (visitor: Visitor, name: string, channel = "in_lobby") =>
  ask(visitor, { type: "present", channel, member: { name } })

const join = (token: string | undefined, name: string, channel = "in_lobby") =>
  Effect.gen(function* () {
    const visitor = yield* watch(token, channel)
    const answer = yield* present(visitor, name, channel)
    return { visitor, member: answer?.type === "present" ? answer.member : "none" }
  })

const later = (millis: number) => Effect.andThen(TestClock.adjust(millis), settle)

/** The members, as a client that follows the frames knows it. */
const here = (visitor: Visitor): Record<string, unknown> => {
  let members: Record<string, unknown> = {}
  for (const { gone = [], set = {}, whole } of visitor.of("members")) {
    members = whole === true ? { ...set } : { ...members, ...set }
    for (const member of gone) delete members[member]
  }
  return members
}

describe("A presence channel", () => {
  it.effect("sends all members after subscribed, then each that joins, changes and leaves", () =>
    withDoor(
      Effect.gen(function* () {
        const watcher = yield* watch("eve")
        expect(watcher.frames.slice(-2)).toEqual([
          { type: "subscribed", id: expect.any(Number), channel: "in_lobby", state: "fresh" },
          { type: "members", channel: "in_lobby", count: 0, set: {}, whole: true }
        ])
        const ann = yield* join("ann", "Ann")
        yield* later(50)
        expect(watcher.last("members")).toEqual({
          type: "members",
          channel: "in_lobby",
          count: 1,
          set: { [ann.member]: { name: "Ann of ann" } }
        })
        yield* later(1000)
        yield* present(ann.visitor, "Anna")
        expect(watcher.last("members")).toEqual({
          type: "members",
          channel: "in_lobby",
          count: 1,
          set: { [ann.member]: { name: "Anna of ann" } }
        })
        yield* later(1000)
        expect((yield* ask(ann.visitor, { type: "absent", channel: "in_lobby" }))?.type).toBe(
          "absent"
        )
        expect(watcher.last("members")).toEqual({
          type: "members",
          channel: "in_lobby",
          count: 0,
          gone: [ann.member]
        })
      })
    )
  )

  it.effect(
    "keeps a member for 10 s after its socket closed, and one that returns never left",
    () =>
      withDoor(
        Effect.gen(function* () {
          const watcher = yield* watch("eve")
          const ann = yield* join("ann", "Ann")
          yield* later(1000)
          ann.visitor.leave()
          yield* later(9000)
          expect(Object.keys(here(watcher))).toEqual([ann.member])
          const frames = watcher.of("members").length
          const again = yield* join("ann", "Ann")
          expect(again.member).toBe(ann.member)
          yield* later(12_000)
          watcher.send({ type: "pong" })
          expect(watcher.of("members").length).toBe(frames)
          again.visitor.leave()
          yield* settle
          yield* later(9999)
          expect(Object.keys(here(watcher))).toEqual([ann.member])
          yield* later(2)
          expect(here(watcher)).toEqual({})
        })
      )
  )

  it.effect("lets a member leave at once that unsubscribes", () =>
    withDoor(
      Effect.gen(function* () {
        const watcher = yield* watch("eve")
        const ann = yield* join("ann", "Ann")
        yield* later(1000)
        yield* ask(ann.visitor, { type: "unsubscribe", channel: "in_lobby" })
        expect(here(watcher)).toEqual({})
      })
    )
  )

  it.effect("serves clients without identities, each its own member", () =>
    open(
      Effect.gen(function* () {
        const ann = yield* join(undefined, "Ann")
        const ben = yield* join(undefined, "Ben")
        yield* later(100)
        expect(here(ann.visitor)).toEqual({
          [ann.member]: { name: "Ann" },
          [ben.member]: { name: "Ben" }
        })
      })
    )
  )

  it.effect(
    "sends the newest of fast changes, 5 a second, and changes are neither joins nor leaves",
    () =>
      withDoor(
        Effect.gen(function* () {
          const watcher = yield* watch("eve")
          const { member, visitor } = yield* join("ann", "0")
          yield* later(1000)
          const before = watcher.of("members").length
          for (let change = 1; change <= 100; change++) {
            yield* present(visitor, String(change))
            yield* later(20)
          }
          yield* later(500)
          const frames = watcher.of("members").slice(before)
          expect(frames.length).toBeGreaterThan(5)
          expect(frames.length).toBeLessThanOrEqual(12)
          expect(frames.flatMap(({ gone = [] }) => gone)).toEqual([])
          expect(here(watcher)).toEqual({ [member]: { name: "100 of ann" } })
        })
      )
  )

  it.effect("sends only the count beyond the limit, once a second, and names again below it", () =>
    withDoor(
      Effect.gen(function* () {
        const watcher = yield* watch("eve")
        const members: Array<Visitor> = []
        for (let index = 0; index < 12; index++) {
          members.push((yield* join(`u${index}`, `${index}`)).visitor)
        }
        yield* later(1000)
        const counted = watcher.of("members").findIndex(({ set, whole }) => whole === true && !set)
        expect(watcher.of("members")[counted]).toMatchObject({
          whole: true,
          count: expect.any(Number)
        })
        expect(watcher.last("members")?.count).toBe(12)
        // A member always receives its own state.
        yield* present(members[11]!, "me")
        yield* later(300)
        expect(members[11]!.last("members")).toMatchObject({ count: 12 })
        expect(Object.values(members[11]!.last("members")!.set ?? {})).toEqual([
          { name: "me of u11" }
        ])
        yield* later(5000)
        const before = watcher.of("members").length
        for (const member of [0, 1]) {
          yield* ask(members[member]!, { type: "absent", channel: "in_lobby" })
          yield* later(200)
        }
        yield* later(1000)
        expect(watcher.of("members").length - before).toBeLessThanOrEqual(2)
        expect(watcher.last("members")?.count).toBe(10)
        for (const member of [2, 3]) {
          yield* ask(members[member]!, { type: "absent", channel: "in_lobby" })
        }
        yield* later(1000)
        expect(watcher.of("members").some(({ set, whole }) => whole === true && set)).toBe(true)
        expect(Object.keys(here(watcher)).length).toBe(8)
      }),
      { maxMembers: 10 }
    )
  )

  it.effect("sends a socket that was full all members once, and no backlog", () =>
    withDoor(
      Effect.gen(function* () {
        const watcher = yield* watch("eve")
        watcher.reading = false
        for (let index = 0; index < 20; index++) {
          yield* join(`u${index}`, `${index}`)
          yield* later(100)
        }
        const before = watcher.of("members").length
        watcher.read()
        yield* settle
        const frames = watcher.of("members").slice(before)
        expect(frames.length).toBeLessThanOrEqual(2)
        expect(frames.at(-1)).toMatchObject({ whole: true, count: 20 })
        expect(Object.keys(here(watcher)).length).toBe(20)
        yield* join("late", "late")
        yield* later(100)
        expect(watcher.last("members")).toMatchObject({ count: 21 })
        expect(watcher.last("members")?.whole).toBe(undefined)
      })
    )
  )

  it.effect("sends 2,000 that join in a second in few frames", () =>
    withDoor(
      Effect.gen(function* () {
        const { presence } = hubOf(yield* Realtime.Realtime).deliveryOf(Lobby)
        const watcher = yield* watch("eve")
        const before = watcher.of("members").length
        for (let index = 0; index < 2000; index++) {
          const holder = { session: `s${index}`, identity: `u${index}`, counts: "persons" } as const
          presence!.sit("in_lobby", holder, `{"name":"${index}"}`)
          if (index % 100 === 99) yield* later(50)
        }
        yield* later(1000)
        expect(watcher.of("members").length - before).toBeLessThanOrEqual(22)
        expect(watcher.last("members")).toEqual({
          type: "members",
          channel: "in_lobby",
          count: 2000
        })
      })
    )
  )

  it.effect("takes a member whose right to be seen ended away, and stamps it again", () => {
    let muted = false
    const stamped: IdentityRules<string> = {
      ...options,
      channels: [Lobby],
      rules: ({ onPresent, onSubscribe }) => [
        onSubscribe(Lobby, () => true),
        onPresent(Lobby, ({ identity, member }) =>
          muted && identity === "ann"
            ? new RuleRefused({ message: "You are hidden." })
            : { name: `${member.name} ${muted}` }
        )
      ]
    }
    return Effect.gen(function* () {
      const door = yield* TestDoor
      const ann = yield* join("ann", "Ann")
      const ben = yield* join("ben", "Ben")
      yield* later(1000)
      muted = true
      yield* door.reauthorize("ann")
      yield* door.reauthorize("ben")
      yield* later(1000)
      expect(here(ben.visitor)).toEqual({ [ben.member]: { name: "Ben true" } })
      expect(here(ann.visitor)).toEqual(here(ben.visitor))
      expect(yield* present(ann.visitor, "Ann")).toMatchObject({
        code: "publish/forbidden",
        message: "You are hidden."
      })
    }).pipe(
      Effect.scoped,
      Effect.provide(
        Layer.effect(TestDoor, Door.make(stamped)).pipe(
          Layer.provideMerge(Realtime.layerVolatile())
        )
      )
    )
  })

  it.effect("rejects what is no state of a member, and requests that do not fit", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        expect(yield* present(visitor, "Ann")).toMatchObject({ code: "channel/unknown" })
        yield* ask(visitor, { type: "subscribe", channel: "in_lobby" })
        yield* ask(visitor, { type: "subscribe", channel: "notes" })
        const send = (member: unknown, channel = "in_lobby") =>
          ask(visitor, { type: "present", channel, member })
        expect(yield* send({ name: 7 })).toMatchObject({ code: "publish/invalid" })
        expect(yield* send({ name: "x".repeat(2048) })).toMatchObject({ code: "publish/too-large" })
        expect(yield* send("x", "notes")).toMatchObject({ code: "frame/malformed" })
        expect(yield* ask(visitor, { type: "absent", channel: "in_lobby" })).toMatchObject({
          type: "absent"
        })
        const published = { type: "publish", channel: "in_lobby", key: "k", data: {} }
        expect(yield* ask(visitor, published)).toMatchObject({ code: "publish/forbidden" })
        expect(
          yield* ask(visitor, { type: "history", channel: "in_lobby", limit: 1 })
        ).toMatchObject({
          code: "frame/malformed"
        })
        expect(here(visitor)).toEqual({})
      })
    )
  )

  it.effect("names members by nothing that a client could recognize", () =>
    withDoor(
      Effect.gen(function* () {
        const ann = yield* join("ann", "Ann")
        const other = yield* join("ann", "Ann", "devices")
        expect(ann.member).toMatch(/^[\w-]{16}$/)
        expect(other.member).not.toBe(ann.member)
        const session = ann.visitor.last("welcome")!.session
        for (const secret of ["ann", session]) {
          const hashes = ["sha1", "sha256", "md5"].map((kind) =>
            createHash(kind).update(secret).digest("base64url")
          )
          for (const text of [secret, ...hashes]) expect(ann.member).not.toContain(text.slice(0, 8))
        }
      })
    )
  )

  it.effect("ends a grace after 10 s, however the clock of the machine steps meanwhile", () =>
    Effect.gen(function* () {
      const base = yield* Clock.Clock
      let step = 0
      const stepping: Clock.Clock = Object.assign(Object.create(base) as Clock.Clock, {
        currentTimeMillisUnsafe: () => base.currentTimeMillisUnsafe() + step,
        monotonicTimeNanosUnsafe: () => base.monotonicTimeNanosUnsafe(),
        sleep: (duration: Duration.Duration) => base.sleep(duration)
      })
      const presence = yield* Effect.provideService(
        Presence.make({ grace: 10_000, named: 1000, rate: 5 }),
        Clock.Clock,
        stepping
      )
      const count = () => presence.room("in_lobby").list.count
      const holder = { session: "s", identity: "ann", counts: "persons" } as const
      const seat = presence.sit("in_lobby", holder, "{}")
      yield* later(1000)
      presence.away(seat)
      step = 3_600_000
      yield* later(5000)
      expect(count()).toBe(1)
      step = -7_200_000
      yield* later(4900)
      expect(count()).toBe(1)
      yield* later(200)
      expect(count()).toBe(0)
    }).pipe(Effect.scoped)
  )

  it.effect("goes on in other rooms after a defect in one", () =>
    Effect.gen(function* () {
      const presence = yield* Presence.make({ grace: 10_000, named: 1000, rate: 5 })
      const holder = { session: "s", identity: "ann", counts: "persons" } as const
      let works = true
      const offer = () => {
        if (!works) throw new Error("broken")
      }
      presence.room("broken").watch({ member: undefined, offer })
      works = false
      presence.sit("broken", holder, "{}")
      yield* later(100)
      const seat = presence.sit("in_lobby", holder, "{}")
      presence.away(seat)
      yield* later(12_000)
      expect(presence.room("in_lobby").list.count).toBe(0)
      expect(presence.room("in_lobby").seatsOf(seat.seat.member)).toEqual([])
    }).pipe(Effect.scoped)
  )
})

describe("A program", () => {
  it.effect("follows the members, and is one until its scope closes", () =>
    withDoor(
      Effect.gen(function* () {
        const lists = yield* Ref.make<ReadonlyArray<Realtime.Members<{ readonly name: string }>>>(
          []
        )
        yield* Realtime.presence(Lobby).pipe(
          Stream.runForEach((list) => Ref.update(lists, (all) => [...all, list])),
          Effect.forkScoped({ startImmediately: true })
        )
        const ann = yield* join("ann", "Ann")
        yield* later(100)
        const scope = yield* Scope.make()
        const bot = yield* Scope.provide(Realtime.present(Lobby, { name: "Bot" }), scope)
        yield* later(300)
        yield* bot.update({ name: "Busy" })
        yield* later(300)
        expect(here(ann.visitor)[bot.member]).toEqual({ name: "Busy" })
        const last = (yield* Ref.get(lists)).at(-1)!
        expect(last).toEqual({
          members: [
            { member: ann.member, state: { name: "Ann of ann" } },
            { member: bot.member, state: { name: "Busy" } }
          ],
          count: 2,
          status: "live"
        })
        yield* Scope.close(scope, Exit.void)
        yield* later(100)
        const after = (yield* Ref.get(lists)).at(-1)!
        expect(after.members).toEqual([last.members[0]])
        // A member that has not changed is the same object.
        expect(after.members[0]).toBe(last.members[0])
        const tooLarge = yield* Effect.flip(bot.update({ name: "x".repeat(3000) }))
        expect(tooLarge._tag).toBe("PayloadTooLarge")
      })
    )
  )
})
