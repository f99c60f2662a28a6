/** Several nodes in memory, under TestClock: presence and control over all of them, and faults of their bus. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Ref, Schema, Scope, Stream } from "effect"
import { Channel } from "effect-realtime"
import { Realtime, RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"

const Lobby = Channel.presence("lobby", Schema.Struct({ at: Schema.String }))
const Notices = Channel.make("notices", Schema.String)
const Orders = Channel.make("orders", Schema.Int, { delivery: "durable" })

const channels = [Lobby, Notices, Orders] as const
const system = RealtimeTest.layer({
  nodes: 2,
  channels,
  authenticate: ({ token }) => Effect.succeed({ identity: token! }),
  authorize: RealtimeServer.allowAll,
  client: { token: () => "ann" }
})

/** Lets what is on its way arrive, heartbeats of the bus too. */
const later = (millis: number) =>
  Effect.gen(function* () {
    const { settle } = yield* RealtimeTest.RealtimeTest
    yield* TestClock.adjust(millis)
    yield* settle
  })

/** Connects to a node, and collects what the client shows of the lobby. */
const enter = (name: string, node: number) =>
  Effect.gen(function* () {
    const test = yield* RealtimeTest.RealtimeTest
    const client = yield* test.connect({ token: () => name, node })
    const seen = yield* Ref.make<ReadonlyArray<string>>([])
    yield* client.presence(Lobby).pipe(
      Stream.runForEach(({ members, status }) =>
        Ref.update(seen, (before) => [
          ...before,
          [status, ...members.map(({ state }) => state.at).toSorted()].join(" ")
        ])
      ),
      Effect.forkScoped({ startImmediately: true })
    )
    const shows = Ref.get(seen)
    return { client, shows, now: Effect.map(shows, (all) => all.at(-1)) }
  })

describe("Nodes of RealtimeTest", () => {
  it.effect("show each other's members, also after one was killed and its clients moved", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const ann = yield* enter("ann", 0)
      const bob = yield* enter("bob", 1)
      yield* later(1300)
      const scope = yield* Scope.make()
      yield* Scope.provide(ann.client.present(Lobby, { at: "ann" }), scope)
      yield* bob.client.present(Lobby, { at: "bob" })
      yield* later(300)
      expect([yield* ann.now, yield* bob.now]).toEqual(["live ann bob", "live ann bob"])
      const before = (yield* ann.shows).length
      yield* test.nodes[1]!.stop
      expect(yield* test.nodes[1]!.isReady).toBe(false)
      yield* later(30_000)
      expect([yield* ann.now, yield* bob.now]).toEqual(["live ann bob", "live ann bob"])
      // The other node had the new socket before it missed the dead node.
      expect((yield* ann.shows).slice(before)).toEqual([])
      yield* test.nodes[1]!.start
      const cat = yield* enter("cat", 1)
      yield* later(3000)
      expect(yield* cat.now).toBe("live ann bob")
      yield* Scope.close(scope, Exit.void)
      yield* later(300)
      expect(yield* cat.now).toBe("live bob")
    }).pipe(Effect.scoped, Effect.provide(system))
  )

  it.effect("hide the members of a node that is isolated after 3 s, and show them again", () =>
    Effect.gen(function* () {
      const { nodes } = yield* RealtimeTest.RealtimeTest
      const ann = yield* enter("ann", 0)
      yield* later(1300)
      const bot = yield* Realtime.present(Lobby, { at: "bot" }).pipe(
        Effect.provideService(Realtime.Realtime, nodes[1]!.realtime)
      )
      yield* later(300)
      expect(yield* ann.now).toBe("live bot")
      yield* nodes[1]!.isolate(true)
      yield* later(2000)
      expect(yield* ann.now).toBe("live bot")
      yield* later(2500)
      expect(yield* ann.now).toBe("live")
      yield* bot.update({ at: "robot" })
      yield* nodes[1]!.isolate(false)
      yield* later(1500)
      expect(yield* ann.now).toBe("live robot")
    }).pipe(Effect.scoped, Effect.provide(system))
  )

  it.effect("have one database, and the bus that a test describes", () => {
    const lost: Array<string> = []
    const lossy = RealtimeTest.layer({
      nodes: 2,
      channels,
      authorize: RealtimeServer.allowAll,
      bus: ({ from, to }, deliver) => {
        if (from === to) deliver()
        else lost.push(`${from} to ${to}`)
      }
    })
    return Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const clients = yield* Effect.forEach([0, 1], (node) => test.connect({ node }))
      const received: Array<unknown> = []
      for (const client of clients) {
        for (const channel of [Notices, Orders] as const) {
          yield* client.events<string | number>(channel as never).pipe(
            Stream.runForEach((event) =>
              Effect.sync(() => received.push(event._tag === "Event" ? event.payload : event))
            ),
            Effect.forkScoped
          )
        }
      }
      yield* later(1000)
      yield* test.publish(Notices, "hello")
      yield* test.publish(Orders, 7)
      yield* later(1000)
      expect(received.toSorted()).toEqual([7, 7, "hello", "hello"])
      yield* test.nodes[1]!.restart
      yield* later(3000)
      expect(new Set(lost)).toEqual(
        new Set([
          "node 1 to node 2",
          "node 2 to node 1",
          "node 1 to node 2.2",
          "node 2.2 to node 1"
        ])
      )
    }).pipe(Effect.scoped, Effect.provide(lossy))
  })
})

describe("The option nodes", () => {
  it.effect.each([0, 101, 1.5, Number.NaN])("rejects %s", (nodes) =>
    Effect.gen(function* () {
      const error = yield* Layer.build(
        RealtimeTest.layer({ nodes, channels, authorize: RealtimeServer.allowAll })
      ).pipe(Effect.flip)
      expect(error).toMatchObject({ _tag: "InvalidOption", option: "nodes" })
    }).pipe(Effect.scoped)
  )
})

describe("Control of RealtimeTest", () => {
  const options = {
    channels,
    authenticate: ({ token }: { readonly token: string | undefined }) =>
      Effect.succeed({ identity: token! }),
    authorize: RealtimeServer.allowAll,
    client: { token: () => "ann" }
  }

  it.effect("with the option reaches all nodes, also one that starts later", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const bob = yield* test.connect({ token: () => "bob", node: 1 })
      const eve = yield* test.connect({ token: () => "eve", node: 1 })
      for (const client of [bob, eve]) {
        yield* client.events(Notices).pipe(Stream.runDrain, Effect.forkScoped)
      }
      yield* later(1300)
      expect(yield* test.sockets).toBe(2)
      const [one, two] = test.nodes as [RealtimeTest.Node, RealtimeTest.Node]
      const told = yield* one.revoke("eve").pipe(Effect.forkScoped)
      yield* later(3000)
      expect(told.pollUnsafe()).toEqual(
        Exit.succeed({ answered: ["node 1", "node 2"], missing: [], bus: "up" })
      )
      expect(yield* test.sockets).toBe(1)
      yield* two.kill
      yield* later(40_000)
      expect(yield* test.sockets).toBe(1)
      const stats = yield* one.stats.pipe(Effect.forkScoped)
      yield* later(1000)
      // The dead one is missing until it is forgotten.
      expect(stats.pollUnsafe()).toMatchObject({
        value: {
          answered: [{ node: "node 1" }, { node: "node 2.2", sessions: 1 }],
          missing: ["node 2"]
        }
      })
    }).pipe(
      Effect.scoped,
      Effect.provide(RealtimeTest.layer({ ...options, nodes: 2, control: true }))
    )
  )

  it.effect("without it reaches the node that is asked", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      for (const node of [0, 1]) {
        const eve = yield* test.connect({ token: () => "eve", node })
        yield* eve.events(Notices).pipe(Stream.runDrain, Effect.forkScoped)
      }
      yield* later(1300)
      const reached = yield* test.nodes[1]!.disconnect("eve")
      expect(reached.answered.length).toBe(1)
      yield* later(100)
      expect(yield* test.sockets).toBe(1)
    }).pipe(Effect.scoped, Effect.provide(RealtimeTest.layer({ ...options, nodes: 2 })))
  )

  it.effect("refuses new sessions after 30 s without the database, as every server does", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      yield* later(1000)
      yield* test.database.stop
      yield* later(33_000)
      const bob = yield* test.connect({ token: () => "bob" })
      yield* bob.events(Notices).pipe(Stream.runDrain, Effect.forkScoped)
      yield* later(100)
      expect(yield* test.subscriptions).toEqual([])
      const failed = yield* Effect.flip(test.server.revoke("eve"))
      expect(failed._tag).toBe("RevokeFailed")
      yield* test.database.restore
      yield* later(40_000)
      expect(yield* test.subscriptions).toEqual(["notices"])
    }).pipe(Effect.scoped, Effect.provide(RealtimeTest.layer({ ...options, control: true })))
  )
})
