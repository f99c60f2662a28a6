/** Presence channels of the whole system in memory, under TestClock: real clients at a real server. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Ref, Schema, Scope, Stream } from "effect"
import { Channel } from "effect-realtime"
import { type Members, RealtimeClient } from "effect-realtime/client"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"

const Guest = Schema.Struct({ name: Schema.String, typing: Schema.Boolean })
type Guest = typeof Guest.Type
const Lobby = Channel.presence("lobby", Guest)
const Shut = Channel.presence("shut", Guest)

const system = RealtimeTest.layer({
  channels: [Lobby, Shut],
  authenticate: ({ token }) => Effect.succeed({ identity: token! }),
  authorize: ({ action, channel }) =>
    Effect.succeed(channel !== Shut.name || (action as string) !== "present"),
  client: { token: () => "ann" }
})

type Client = RealtimeClient.RealtimeClient["Service"]

/** Collects in the background everything that a client shows. */
const watch = (client: Client) =>
  Effect.gen(function* () {
    const all = yield* Ref.make<ReadonlyArray<Members.Members<Guest>>>([])
    yield* client.presence(Lobby).pipe(
      Stream.runForEach((members) => Ref.update(all, (before) => [...before, members])),
      Effect.forkScoped({ startImmediately: true })
    )
    const shown = Ref.get(all)
    const now = Effect.map(shown, (list) => list.at(-1)!)
    const names = Effect.map(now, ({ members, status }) => [
      status,
      ...members.map(
        ({ isMe, state }) => `${state.name}${state.typing ? "..." : ""}${isMe ? "!" : ""}`
      )
    ])
    return { shown, now, names }
  })

/** Lets the frames of the server's ticks arrive. */
const settle = Effect.gen(function* () {
  const { settle } = yield* RealtimeTest.RealtimeTest
  for (let i = 0; i < 3; i++) {
    yield* settle
    yield* TestClock.adjust(100)
  }
  yield* settle
})

const guest = (name: string, typing = false): Guest => ({ name, typing })

describe("RealtimeTest with presence", () => {
  it.effect("clients see each other come, change and leave, and know their own member", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const ann = yield* RealtimeClient.RealtimeClient
      const bob = yield* test.connect({ token: () => "bob" })
      const anns = yield* watch(ann)
      const bobs = yield* watch(bob)
      yield* settle
      expect(yield* anns.names).toEqual(["live"])
      const scope = yield* Scope.make()
      const me = yield* Scope.provide(ann.present(Lobby, guest("ann")), scope)
      yield* Scope.provide(bob.present(Lobby, guest("bob")), yield* Scope.make())
      yield* settle
      expect(yield* anns.names).toEqual(["live", "ann!", "bob"])
      expect(yield* bobs.names).toEqual(["live", "ann", "bob!"])
      const [first, second] = (yield* bobs.now).members
      expect((yield* bobs.now).me).toBe(second)
      yield* me.update(guest("ann", true)).pipe(Effect.forkScoped)
      yield* settle
      expect(yield* bobs.names).toEqual(["live", "ann...", "bob!"])
      const [changed, same] = (yield* bobs.now).members
      expect(same).toBe(second)
      expect(changed?.id).toBe(first?.id)
      yield* Scope.close(scope, Exit.void)
      yield* settle
      expect(yield* bobs.names).toEqual(["live", "bob!"])
      expect(yield* anns.now).toMatchObject({ count: 1, me: undefined, named: true })
    }).pipe(Effect.scoped, Effect.provide(system))
  )

  it.effect(
    "a lost socket shows no member leave, on either side, and the newest state is shown again",
    () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const ann = yield* RealtimeClient.RealtimeClient
        const bob = yield* test.connect({ token: () => "bob" })
        const anns = yield* watch(ann)
        const bobs = yield* watch(bob)
        yield* ann.present(Lobby, guest("ann"))
        const me = yield* bob.present(Lobby, guest("bob"))
        yield* settle
        const before = [(yield* anns.shown).length, (yield* bobs.shown).length]
        const [list] = [(yield* bobs.now).members]
        yield* bob.network.cut
        yield* settle
        yield* me.update(guest("bob", true)).pipe(Effect.forkScoped)
        yield* TestClock.adjust("3 seconds")
        yield* settle
        expect(yield* anns.names).toEqual(["live", "ann!", "bob..."])
        expect(yield* bobs.names).toEqual(["live", "ann", "bob...!"])
        const seen = [
          ...(yield* anns.shown).slice(before[0]),
          ...(yield* bobs.shown).slice(before[1])
        ]
        expect(seen.filter(({ members }) => members.length < 2)).toEqual([])
        expect(seen.map(({ count }) => count).filter((count) => count !== 2)).toEqual([])
        const stale = (yield* bobs.shown)
          .slice(before[1])
          .filter(({ status }) => status === "stale")
        expect(stale.map(({ members }) => members)).toEqual([list])
      }).pipe(Effect.scoped, Effect.provide(system))
  )

  it.effect("a member that was away for longer than the grace leaves, and returns", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const ann = yield* RealtimeClient.RealtimeClient
      const bob = yield* test.connect({ token: () => "bob" })
      const anns = yield* watch(ann)
      const bobs = yield* watch(bob)
      yield* ann.present(Lobby, guest("ann"))
      yield* bob.present(Lobby, guest("bob"))
      yield* settle
      const before = (yield* bobs.shown).length
      yield* bob.network.silence
      yield* TestClock.adjust("50 seconds")
      yield* settle
      expect(yield* anns.names).toEqual(["live", "ann!"])
      yield* bob.network.resume
      yield* TestClock.adjust("40 seconds")
      yield* settle
      expect(yield* anns.names).toEqual(["live", "ann!", "bob"])
      expect(yield* bobs.names).toEqual(["live", "ann", "bob!"])
      const seen = (yield* bobs.shown).slice(before)
      expect(seen.filter(({ members }) => members.length < 2)).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(system))
  )

  it.effect(
    "a laptop that sleeps leaves after 45 s, and after 3 s of sleep neither left nor joined",
    () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const ann = yield* RealtimeClient.RealtimeClient
        const bob = yield* test.connect({ token: () => "bob" })
        const anns = yield* watch(ann)
        yield* bob.present(Lobby, guest("bob"))
        yield* settle
        const before = (yield* anns.shown).length
        // What is sent to it meanwhile waits.
        yield* bob.network.delay("3 seconds")
        yield* TestClock.adjust("3 seconds")
        yield* bob.network.delay(0)
        yield* TestClock.adjust("60 seconds")
        yield* settle
        expect((yield* anns.shown).length).toBe(before)
        // The last sign of life, and then 25 s, 10 s and the grace of 10 s.
        const me = yield* bob.present(Lobby, guest("bob", true))
        yield* settle
        yield* me.update(guest("bob")).pipe(Effect.forkScoped)
        yield* settle
        yield* bob.network.silence
        let slept = 0
        while ((yield* anns.names).includes("bob")) {
          yield* TestClock.adjust(100)
          yield* test.settle
          slept += 100
        }
        // Sessions look once a second, and the list follows after 50 ms.
        expect(slept).toBeGreaterThan(44_000)
        expect(slept).toBeLessThanOrEqual(46_100)
      }).pipe(Effect.scoped, Effect.provide(system))
  )

  it.effect("at most 5 changes in a second go out, the newest always", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const ann = yield* RealtimeClient.RealtimeClient
      const bobs = yield* watch(yield* test.connect({ token: () => "bob" }))
      const me = yield* ann.present(Lobby, guest("0"))
      yield* settle
      const before = (yield* bobs.shown).length
      const done = yield* Ref.make(0)
      for (let i = 1; i <= 100; i++) {
        yield* me
          .update(guest(String(i)))
          .pipe(Effect.andThen(Ref.update(done, (count) => count + 1)), Effect.forkScoped)
        yield* TestClock.adjust(10)
      }
      yield* TestClock.adjust(500)
      yield* settle
      const seen = (yield* bobs.shown).slice(before)
      expect(seen.length).toBeLessThanOrEqual(7)
      expect(seen.at(-1)!.members[0]!.state.name).toBe("100")
      expect(yield* Ref.get(done)).toBe(100)
    }).pipe(Effect.scoped, Effect.provide(system))
  )

  it.effect(
    "a state that the server rejects is a typed error, and the client goes on to watch",
    () =>
      Effect.gen(function* () {
        const ann = yield* RealtimeClient.RealtimeClient
        const error = yield* Effect.flip(ann.present(Shut, guest("ann")))
        expect(error).toMatchObject({ _tag: "Refused", channel: "shut" })
        const invalid = yield* Effect.flip(ann.present(Lobby, { name: 1 } as never))
        expect(invalid).toMatchObject({ _tag: "InvalidPayload", direction: "encode" })
        const shown = yield* ann.presence(Shut).pipe(
          Stream.filter(({ status }) => status === "live"),
          Stream.runHead
        )
        expect(shown).toMatchObject({ value: { count: 0, error: undefined } })
      }).pipe(Effect.scoped, Effect.provide(system))
  )
})
