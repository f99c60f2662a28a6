/** Presence channels at the door of one node: members join, change, leave and return. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
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
})
