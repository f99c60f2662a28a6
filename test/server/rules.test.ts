/**
 * Rules: which clients may subscribe to a definition, and what their publishes become. A rule that fails
 * rejects one request and no other.
 */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Logger, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import type * as MemorySource from "../../src/server/MemorySource.ts"
import type { NotificationSource } from "../../src/server/NotificationSource.ts"
import type * as Realtime from "../../src/server/Realtime.ts"
import { type Rule, type RuleMaker, RuleRefused } from "../../src/server/Rule.ts"
import { allowAll, AuthRefused, type IdentityRules } from "../../src/server/ServerOptions.ts"
import { layerDoor, settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"

const Text = Schema.Struct({ sender: Schema.String, text: Schema.String })
const Room = Channel.family("room_", Schema.FiniteFromString, Text, { publish: true })
const Notes = Channel.make("notes", Text, { publish: true })
const News = Channel.make("news", Text)
const channels = [Room, Notes, News] as const

/** The identity is the token: a name, and whatever follows it. */
interface Person {
  readonly name: string
  readonly words: ReadonlyArray<string>
}
type Maker = RuleMaker<Person>
type List = ReadonlyArray<Rule>

/** Rules of a test, and for each definition that they leave out the rule that allows everything. */
const complete = (make: Maker, rules: List): List => {
  const has = (definition: Channel.Definition, action: string) =>
    rules.some((rule) => rule.definition === definition && rule.action === action)
  return [
    ...rules,
    ...channels.filter((d) => !has(d, "subscribe")).map((d) => make.onSubscribe(d, () => true)),
    ...[Room, Notes]
      .filter((d) => !has(d, "publish"))
      .map((d) => make.onPublish(d as typeof Notes, ({ payload }) => payload))
  ]
}

type Needs =
  | TestDoor
  | Realtime.Realtime
  | MemorySource.MemorySource
  | NotificationSource
  | Scope.Scope

let lines: Array<string> = []

const withRules = <A, E>(rules: (make: Maker) => List, body: Effect.Effect<A, E, Needs>) => {
  lines = []
  const options: IdentityRules<Person> = {
    channels,
    authenticate: ({ token }) => {
      const [name, ...words] = (token ?? "").split(" ")
      return name === undefined || name === ""
        ? Effect.fail(new AuthRefused({ code: "auth/required" }))
        : Effect.succeed({
            identity: { name, words },
            // A time of the test's clock, which begins in 1970.
            expires: words.includes("brief") ? new Date(2000) : undefined
          })
    },
    identityKey: ({ name }) => name,
    rules: (make) => complete(make, rules(make))
  }
  const logger = Logger.make(({ cause, message }) => {
    lines.push(`${String(message)} ${String(cause)}`)
  })
  return Effect.scoped(body).pipe(
    Effect.provide(layerDoor(options).pipe(Layer.provideMerge(Logger.layer([logger]))))
  )
}

const ask = (visitor: Visitor, ...frames: ReadonlyArray<object>) =>
  Effect.suspend(() => {
    for (const frame of frames) visitor.send(frame)
    return settle
  })

const publish = (id: number, text: string, { channel = "room_1", key = `k${id}` } = {}) => ({
  type: "publish",
  id,
  channel,
  key,
  data: { sender: "somebody else", text }
})

const eventsOf = (visitor: Visitor) =>
  visitor.of("events").flatMap(({ events }) => events.map(({ data }) => data))

describe("A rule for publishing", () => {
  it.effect(
    "returns the payload that subscribers receive, from the identity and the parameter",
    () =>
      withRules(
        ({ onPublish }) => [
          onPublish(Room, ({ channel, identity, params, payload }) => ({
            text: `${payload.text} in ${params + 1} of ${channel}`,
            sender: identity.name
          })),
          onPublish(Notes, (request) => ({
            text: Object.keys(request).toSorted().join(),
            sender: "none"
          }))
        ],
        Effect.gen(function* () {
          const ann = yield* visit({ token: "ann" })
          yield* ask(
            ann,
            { type: "subscribe", id: 1, channel: "room_1" },
            { type: "subscribe", id: 2, channel: "notes" },
            publish(3, "hi"),
            publish(4, "hi", { channel: "notes" })
          )
          expect([ann.answer(3)?.type, ann.answer(4)?.type]).toEqual(["published", "published"])
          expect(eventsOf(ann)).toEqual([
            { sender: "ann", text: "hi in 2 of room_1" },
            { sender: "none", text: "channel,identity,payload" }
          ])
        })
      )
  )

  const refusals = {
    "returns RuleRefused": () => new RuleRefused({ message: "You are muted." }),
    "fails with RuleRefused": () => Effect.fail(new RuleRefused({ message: "You are muted." })),
    "throws RuleRefused": () => {
      throw new RuleRefused({ message: "You are muted." })
    },
    "rejects with RuleRefused": () =>
      Promise.reject(new RuleRefused({ message: "You are muted." })),
    "resolves to RuleRefused": () => Promise.resolve(new RuleRefused({ message: "You are muted." }))
  }
  for (const [what, refuse] of Object.entries(refusals)) {
    it.effect(`rejects one publish with its sentence when it ${what}`, () =>
      withRules(
        ({ onPublish }) => [
          onPublish(Room, ({ payload }) => (payload.text === "bad" ? refuse() : payload))
        ],
        Effect.gen(function* () {
          const ann = yield* visit({ token: "ann" })
          yield* ask(ann, { type: "subscribe", id: 1, channel: "room_1" }, publish(2, "bad"))
          yield* ask(ann, publish(3, "good"))
          expect(ann.answer(2)).toEqual({
            type: "error",
            id: 2,
            code: "publish/forbidden",
            message: "You are muted.",
            retry: "never"
          })
          expect(ann.answer(3)?.type).toBe("published")
          expect(eventsOf(ann)).toEqual([{ sender: "somebody else", text: "good" }])
          expect(lines.join("\n")).toContain(
            `onPublish for "room_*" refused to let a client publish on "room_1"`
          )
        })
      )
    )
  }

  const faults: Readonly<Record<string, readonly [() => unknown, string]>> = {
    throws: [
      () => {
        throw new Error("no such table")
      },
      `onPublish for "room_*" failed`
    ],
    dies: [() => Effect.die(new Error("no such table")), `onPublish for "room_*" failed`],
    "returns what does not match the Schema": [
      () => ({ sender: 7, text: "x" }),
      `onPublish for "room_*" gave a payload that does not match`
    ],
    "returns nothing": [
      () => undefined,
      `onPublish for "room_*" gave a payload that does not match`
    ],
    "returns false": [() => false, `onPublish for "room_*" gave a payload that does not match`]
  }
  for (const [what, [fault, line]] of Object.entries(faults)) {
    it.effect(`is a fault of the server when it ${what}: only that publish is rejected`, () =>
      withRules(
        ({ onPublish }) => [
          onPublish(Room, ({ payload }) =>
            payload.text === "bad" ? (fault() as typeof Text.Type) : payload
          )
        ],
        Effect.gen(function* () {
          const ann = yield* visit({ token: "ann" })
          const bob = yield* visit({ token: "bob" })
          yield* ask(bob, { type: "subscribe", id: 1, channel: "room_1" })
          const bad = Array.from({ length: 30 }, (_, n) => publish(n + 10, "bad"))
          yield* ask(ann, ...bad, publish(50, "good"))
          expect(ann.answer(10)).toMatchObject({
            code: "server/internal",
            message: "The server failed to decide: try again later.",
            retry: "later"
          })
          expect(ann.errors).toHaveLength(30)
          expect(ann.answer(50)?.type).toBe("published")
          expect(eventsOf(bob)).toEqual([{ sender: "somebody else", text: "good" }])
          expect(ann.closeCode).toBe(undefined)
          // One line for thirty failures.
          expect(lines.filter((text) => text.includes(line))).toHaveLength(1)
        })
      )
    )
  }

  it.effect("has 5 s, and rejects one publish after that while other channels go on", () =>
    withRules(
      ({ onPublish }) => [
        onPublish(Room, ({ payload }) => (payload.text === "slow" ? Effect.never : payload))
      ],
      Effect.gen(function* () {
        const ann = yield* visit({ token: "ann" })
        yield* ask(ann, publish(1, "slow"), publish(2, "next"))
        yield* ask(ann, publish(3, "other", { channel: "notes" }))
        expect([1, 2, 3].map((id) => ann.answer(id)?.type)).toEqual([
          undefined,
          undefined,
          "published"
        ])
        yield* TestClock.adjust("5 seconds")
        yield* settle
        expect(ann.answer(1)).toMatchObject({
          code: "server/internal",
          message: "The server could not decide in time: try again later."
        })
        expect(ann.answer(2)?.type).toBe("published")
      })
    )
  )

  it.effect("runs once for a key with the same data, which is answered published again", () => {
    let runs = 0
    return withRules(
      ({ onPublish }) => [
        onPublish(Room, ({ payload }) => ({ ...payload, sender: `run ${++runs}` }))
      ],
      Effect.gen(function* () {
        const ann = yield* visit({ token: "ann" })
        const bob = yield* visit({ token: "bob" })
        yield* ask(
          ann,
          { type: "subscribe", id: 1, channel: "room_1" },
          publish(2, "hi", { key: "k" }),
          publish(3, "hi", { key: "k" })
        )
        yield* ask(ann, publish(4, "ho", { key: "k" }))
        expect([2, 3].map((id) => ann.answer(id)?.type)).toEqual(["published", "published"])
        expect(ann.answer(4)).toMatchObject({
          code: "publish/invalid",
          message: "The key was used with other data."
        })
        expect(runs).toBe(1)
        // The key of another identity is another key.
        yield* ask(bob, publish(5, "hi", { key: "k" }))
        expect(eventsOf(ann)).toEqual([
          { sender: "run 1", text: "hi" },
          { sender: "run 2", text: "hi" }
        ])
      })
    )
  })

  it.effect("runs again when the client repeats a publish that the rule has rejected", () => {
    let muted = true
    return withRules(
      ({ onPublish }) => [
        onPublish(Room, ({ payload }) => (muted ? new RuleRefused({ message: "no" }) : payload))
      ],
      Effect.gen(function* () {
        const ann = yield* visit({ token: "ann" })
        yield* ask(ann, publish(1, "hi", { key: "k" }))
        muted = false
        yield* ask(ann, publish(2, "hi", { key: "k" }))
        expect([1, 2].map((id) => ann.answer(id)?.type)).toEqual(["error", "published"])
      })
    )
  })

  it.effect(
    "does not run for a payload that does not match, nor for a publish that is late",
    () => {
      let runs = 0
      return withRules(
        ({ onPublish }) => [
          onPublish(Room, ({ payload }) => {
            runs++
            return payload
          })
        ],
        Effect.gen(function* () {
          const ann = yield* visit({ token: "ann" })
          yield* ask(
            ann,
            { ...publish(1, "hi"), data: { text: 7 } },
            { ...publish(2, "hi"), within: 0 }
          )
          expect([1, 2].map((id) => ann.answer(id))).toMatchObject([
            { code: "publish/invalid" },
            { code: "publish/expired" }
          ])
          expect(runs).toBe(0)
        })
      )
    }
  )

  it.effect("runs again with the new identity when the client sent a fresh token meanwhile", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      yield* withRules(
        ({ onPublish }) => [
          onPublish(Room, ({ identity, payload }) =>
            Effect.as(Deferred.await(gate), { ...payload, sender: identity.words.join() })
          )
        ],
        Effect.gen(function* () {
          const ann = yield* visit({ token: "ann old" })
          yield* ask(ann, { type: "subscribe", id: 1, channel: "room_1" }, publish(2, "hi"), {
            type: "authenticate",
            id: 3,
            token: "ann new"
          })
          expect([2, 3].map((id) => ann.answer(id)?.type)).toEqual([undefined, "authenticated"])
          yield* Deferred.succeed(gate, undefined)
          yield* settle
          expect(eventsOf(ann)).toEqual([{ sender: "new", text: "hi" }])
        })
      )
    })
  )

  const endings = {
    "the identity was revoked": () => Effect.map(TestDoor, (door) => door.revoke("ann")),
    "the client left": (ann: Visitor) => Effect.sync(() => ann.leave())
  }
  for (const [what, end] of Object.entries(endings)) {
    it.effect(`publishes nothing when ${what} while it ran, and forgets the key`, () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        yield* withRules(
          ({ onPublish }) => [
            onPublish(Room, ({ payload }) => Effect.as(Deferred.await(gate), payload))
          ],
          Effect.gen(function* () {
            const bob = yield* visit({ token: "bob" })
            yield* ask(bob, { type: "subscribe", id: 1, channel: "room_1" })
            // The socket of a client that does not answer a close frame stays open for a while.
            const ann = yield* visit({ token: "ann", polite: false })
            yield* ask(ann, publish(2, "hi", { key: "k" }))
            yield* end(ann)
            yield* settle
            yield* Deferred.succeed(gate, undefined)
            yield* settle
            expect(eventsOf(bob)).toEqual([])
            const again = yield* visit({ token: "ann" })
            yield* ask(again, publish(3, "hi", { key: "k" }))
            expect(again.answer(3)?.type).toBe("published")
            expect(eventsOf(bob)).toHaveLength(1)
          })
        )
      })
    )
  }

  const ends = {
    "that is closed": Effect.map(TestDoor, (door) => door.revoke("ann")),
    "whose token has expired": TestClock.adjust("2 seconds")
  }
  for (const [what, end] of Object.entries(ends)) {
    it.effect(`does not run for publishes that waited behind it on a session ${what}`, () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        let runs = 0
        yield* withRules(
          ({ onPublish }) => [
            onPublish(Room, ({ payload }) => {
              runs++
              return Effect.as(Deferred.await(gate), payload)
            })
          ],
          Effect.gen(function* () {
            const ann = yield* visit({ token: "ann brief", polite: false })
            yield* ask(ann, publish(1, "hi"), publish(2, "ho"))
            expect(runs).toBe(1)
            yield* end
            yield* Deferred.succeed(gate, undefined)
            yield* settle
            expect(runs).toBe(1)
            expect(ann.closeCode).toBeDefined()
          })
        )
      })
    )
  }

  it.effect("of another definition does not run, and no client publishes without publish", () =>
    withRules(
      ({ onPublish }) => [
        onPublish(Room, ({ identity, payload }) => ({ ...payload, sender: identity.name }))
      ],
      Effect.gen(function* () {
        const ann = yield* visit({ token: "ann" })
        yield* ask(
          ann,
          { type: "subscribe", id: 1, channel: "notes" },
          publish(2, "hi", { channel: "notes" }),
          publish(3, "hi", { channel: "news" })
        )
        expect(eventsOf(ann)).toEqual([{ sender: "somebody else", text: "hi" }])
        expect(ann.answer(3)).toMatchObject({ code: "publish/forbidden" })
      })
    )
  )
})

describe("A rule for subscribing", () => {
  it.effect("allows with true only, and rejects with its sentence or that of the code", () =>
    withRules(
      ({ onSubscribe }) => [
        onSubscribe(Room, ({ identity, params }) => {
          if (params === 3) return new RuleRefused({ message: "This room is closed." })
          if (params === 4) return Promise.resolve(true)
          if (params === 5) return Effect.succeed(true)
          return params === 6 ? ("yes" as never as true) : identity.name === "ann" && params === 1
        })
      ],
      Effect.gen(function* () {
        const ann = yield* visit({ token: "ann" })
        for (const id of [1, 2, 3, 4, 5, 6]) {
          yield* ask(ann, { type: "subscribe", id, channel: `room_${id}` })
        }
        const told = [1, 2, 3, 4, 5, 6].map((id) => {
          const answer = ann.answer(id)
          return answer?.type === "error" ? `${answer.code}: ${answer.message}` : answer?.type
        })
        expect(told).toEqual([
          "subscribed",
          "channel/forbidden: The client may not subscribe to this channel.",
          "channel/forbidden: This room is closed.",
          "subscribed",
          "subscribed",
          "channel/forbidden: The client may not subscribe to this channel."
        ])
      })
    )
  )

  it.effect(
    "is asked again by reauthorize, and ends one subscription when it rejects or throws",
    () => {
      let changed = false
      return withRules(
        ({ onSubscribe }) => [
          onSubscribe(Room, ({ params }) => {
            if (changed && params === 2) throw new Error("no such table")
            return !changed || params !== 1
          })
        ],
        Effect.gen(function* () {
          const door = yield* TestDoor
          const ann = yield* visit({ token: "ann" })
          for (const id of [1, 2, 3]) {
            yield* ask(ann, { type: "subscribe", id, channel: `room_${id}` })
          }
          changed = true
          yield* Effect.forkChild(door.reauthorize("ann"))
          yield* settle
          expect(ann.of("ended").map(({ channel, code }) => `${channel} ${code}`)).toEqual([
            "room_1 channel/forbidden",
            "room_2 server/overloaded"
          ])
          yield* ask(ann, publish(4, "hi", { channel: "room_3" }))
          expect(eventsOf(ann)).toHaveLength(1)
          expect(lines.join("\n")).toContain(`onSubscribe for "room_*" failed`)
        })
      )
    }
  )
})

describe("The list of rules", () => {
  const Other = Channel.make("other", Text)
  const start = (rules: unknown, more: object = {}) =>
    Effect.scoped(
      Effect.flip(
        Layer.build(layerDoor({ channels: [Room, News], rules, ...more } as never))
      ) as Effect.Effect<Error, unknown, Scope.Scope>
    )
  const yes = () => true
  const same = ({ payload }: { readonly payload: typeof Text.Type }) => payload
  const faulty: Readonly<Record<string, (make: Maker) => unknown>> = {
    'a list without onSubscribe for "news"': ({ onPublish, onSubscribe }) => [
      onSubscribe(Room, yes),
      onPublish(Room, same)
    ],
    'a list without onPublish for "room_*"': ({ onSubscribe }) => [
      onSubscribe(Room, yes),
      onSubscribe(News, yes)
    ],
    'a list with two onPublish for "room_*"': ({ onPublish, onSubscribe }) => [
      onSubscribe(News, yes),
      onPublish(Room, same),
      onPublish(Room, same)
    ],
    'a list with onSubscribe for "other", which is not in channels': ({ onSubscribe }) => [
      onSubscribe(Other, yes)
    ],
    // A member of a family is no definition of the server.
    'a list with onSubscribe for "room_1", which is not in channels': ({ onSubscribe }) => [
      onSubscribe(Room(1), yes)
    ],
    'a list with onPublish for "news", which has no publish': ({ onPublish }) => [
      onPublish(News as never, same as never)
    ]
  }
  for (const [value, rules] of Object.entries(faulty)) {
    it.effect(`is rejected at start: ${value}`, () =>
      Effect.map(start(rules), (error) => {
        expect(error.message).toBe(
          `The option rules is ${value}. It must be a list with one onSubscribe for each definition of channels, one onPublish for each that has publish, and one onPresent for each presence channel.`
        )
      })
    )
  }

  it.effect("is rejected at start when it is no list of rules, or stands beside authorize", () =>
    Effect.gen(function* () {
      const messages = yield* Effect.forEach(
        [
          start([]),
          start(() => "no list"),
          start(() => [{ action: "publish" }]),
          start(() => [], { authorize: allowAll })
        ],
        Effect.map(({ message }) => message)
      )
      expect(messages).toEqual([
        "The option rules is of type object. It must be a function that returns a list of rules.",
        `The option rules is "no list". It must be a function that returns a list of rules.`,
        "The option rules[0] is { action: 'publish' }. It must be a rule that onSubscribe, onPublish or onPresent made.",
        "The option rules is given beside authorize. It must be given without it, because both decide about the same requests."
      ])
    })
  )
})
