/** Presence over several nodes: persons with sessions on many, nodes that die and return, partitions. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import { NodeBus } from "../../src/server/NodeBus.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { allowAll, type IdentityOptions } from "../../src/server/ServerOptions.ts"
import { layerBus, Network } from "../support/nodeBus.ts"
import { settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"
import { random, seed } from "./support/random.ts"

const State = Schema.Struct({ at: Schema.String })
const Room = Channel.presence("room", State)
const Devices = Channel.presence("devices", State, { counts: "devices" })

const options: IdentityOptions<string> = {
  channels: [Room, Devices],
  authenticate: ({ token }) => Effect.succeed({ identity: token ?? "guest" }),
  authorize: allowAll,
  limits: {
    maxSessionsPerIdentity: 1000,
    pingInterval: "10 minutes",
    authorizeRate: { perSecond: 1e6, burst: 1e6 }
  }
}

/** A node with its door, and how it ends. */
interface Running {
  readonly door: Door.Door
  readonly name: string
  readonly stop: Effect.Effect<void>
  /** Ends it without a goodbye. */
  readonly kill: Effect.Effect<void>
}

const later = (millis: number) => Effect.andThen(TestClock.adjust(millis), settle)

/** Time for a node that starts to know the others. */
const known = 1300

const start = (network: Network, name: string) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const { bus, door } = yield* Effect.gen(function* () {
      const context = yield* Layer.build(
        Realtime.layerVolatile().pipe(Layer.provideMerge(layerBus(network, name)))
      )
      const door = yield* Effect.provide(Door.make(options), context)
      return { bus: Context.get(context, NodeBus), door }
    }).pipe(Scope.provide(scope))
    // The drain takes time, which the test lets pass.
    const stop = Effect.asVoid(Effect.forkDetach(Scope.close(scope, Exit.void)))
    const kill = Effect.suspend(() => {
      network.dead.add(bus.self.incarnation)
      return stop
    })
    return { door, name, stop, kill }
  }).pipe(
    Effect.orDie,
    Effect.map((running): Running => running)
  )

let lastId = 100

const ask = (visitor: Visitor, frame: object) =>
  Effect.gen(function* () {
    const id = ++lastId
    visitor.send({ ...frame, id })
    yield* settle
    return visitor.answer(id)
  })

const enter = ({ door }: Running, token: string, at?: string, channel = "room") =>
  Effect.gen(function* () {
    const visitor = yield* Effect.provideService(visit({ token }), TestDoor, door)
    yield* ask(visitor, { type: "subscribe", channel })
    if (at !== undefined) yield* ask(visitor, { type: "present", channel, member: { at } })
    return visitor
  })

/** The members, as a client that follows the frames knows them. */
const here = (visitor: Visitor): Record<string, unknown> => {
  let members: Record<string, unknown> = {}
  for (const { gone = [], set = {}, whole } of visitor.of("members")) {
    members = whole === true ? { ...set } : { ...members, ...set }
    for (const member of gone) delete members[member]
  }
  return members
}

/** How many joins, changes and leaves a client received since its first list. */
const moves = (visitor: Visitor) => {
  const frames = visitor.of("members").filter(({ whole }) => whole !== true)
  return {
    set: frames.flatMap(({ set = {} }) => Object.keys(set)).length,
    gone: frames.flatMap(({ gone = [] }) => gone).length
  }
}

const three = Effect.gen(function* () {
  const network = new Network()
  const one = yield* start(network, "one")
  const two = yield* start(network, "two")
  const third = yield* start(network, "three")
  yield* later(known)
  return { network, one, two, three: third }
})

const states = (visitor: Visitor) =>
  Object.values(here(visitor)).map((state) => (state as { at: string }).at)

describe("A person with two tabs on two nodes", () => {
  it.effect("is one member, and leaves 10 s after the last tab, whichever closes first", () =>
    Effect.gen(function* () {
      const { one, three: third, two } = yield* three
      const watcher = yield* enter(third, "eve")
      for (const first of [0, 1]) {
        const before = moves(watcher)
        const tabs = [yield* enter(one, "ann", "one"), yield* enter(two, "ann", "one")]
        yield* later(500)
        expect(states(watcher)).toEqual(["one"])
        tabs[first]!.leave()
        yield* later(12_000)
        expect(states(watcher)).toEqual(["one"])
        tabs[1 - first]!.leave()
        yield* later(9900)
        expect(states(watcher)).toEqual(["one"])
        yield* later(300)
        expect(states(watcher)).toEqual([])
        const after = moves(watcher)
        expect([after.set - before.set, after.gone - before.gone]).toEqual([1, 1])
      }
    }).pipe(Effect.scoped)
  )

  it.effect("reloads one of them 20 times, and no client receives anything of it", () =>
    Effect.gen(function* () {
      const { one, three: third, two } = yield* three
      yield* enter(one, "ann", "here")
      const watcher = yield* enter(third, "eve")
      yield* later(500)
      const before = watcher.of("members").length
      for (let count = 0; count < 20; count++) {
        const tab = yield* enter(two, "ann", "here")
        yield* later(700)
        tab.leave()
      }
      yield* later(15_000)
      expect(watcher.of("members").length).toBe(before)
    }).pipe(Effect.scoped)
  )

  it.effect("shows the newest state of its tabs on every node", () =>
    Effect.gen(function* () {
      const { one, three: third, two } = yield* three
      const tab = yield* enter(one, "ann", "first")
      yield* later(500)
      const other = yield* enter(two, "ann", "second")
      const watchers = [
        yield* enter(one, "eve"),
        yield* enter(two, "eve"),
        yield* enter(third, "eve")
      ]
      yield* later(500)
      expect(watchers.map(states)).toEqual([["second"], ["second"], ["second"]])
      yield* ask(tab, { type: "present", channel: "room", member: { at: "third" } })
      yield* later(500)
      expect(watchers.map(states)).toEqual([["third"], ["third"], ["third"]])
      expect(new Set(watchers.flatMap((one) => Object.keys(here(one)))).size).toBe(1)
      expect(other.closeCode).toBe(undefined)
    }).pipe(Effect.scoped)
  )
})

describe("Devices", () => {
  it.effect("are members each, and the same ones after a reconnect to another node", () =>
    Effect.gen(function* () {
      const { one, three: third, two } = yield* three
      const watcher = yield* enter(third, "eve", undefined, "devices")
      const phone = yield* enter(one, "ann", "phone", "devices")
      const laptop = yield* enter(one, "ann", "laptop", "devices")
      yield* later(500)
      const members = here(watcher)
      expect(states(watcher).toSorted()).toEqual(["laptop", "phone"])
      phone.leave()
      laptop.leave()
      yield* later(200)
      const before = watcher.of("members").length
      yield* enter(two, "ann", "laptop", "devices")
      yield* enter(third, "ann", "phone", "devices")
      yield* later(30_000)
      expect(here(watcher)).toEqual(members)
      expect(watcher.of("members").length).toBe(before)
    }).pipe(Effect.scoped)
  )

  it.effect("that take over one member on two nodes at once are two", () =>
    Effect.gen(function* () {
      const { one, three: third, two } = yield* three
      const watcher = yield* enter(third, "eve", undefined, "devices")
      const phone = yield* enter(one, "ann", "x", "devices")
      yield* later(500)
      phone.leave()
      yield* later(200)
      yield* enter(one, "ann", "x", "devices")
      yield* enter(two, "ann", "x", "devices")
      yield* later(1500)
      expect(states(watcher)).toEqual(["x", "x"])
    }).pipe(Effect.scoped)
  )
})

describe("A client", () => {
  it.effect("that leaves and joins again and again shows others 5 changes a second", () =>
    Effect.gen(function* () {
      const { network, one, three: third } = yield* three
      const watcher = yield* enter(third, "eve")
      const ann = yield* enter(one, "ann")
      const before = { ...moves(watcher), bytes: network.bytes }
      const padding = "x".repeat(1900)
      for (let turn = 0; turn < 50; turn++) {
        const resubscribes = turn % 20 >= 10
        if (resubscribes) ann.send({ type: "subscribe", channel: "room", id: ++lastId })
        yield* later(10)
        const member = { at: `${padding}${turn}` }
        ann.send({ type: "present", channel: "room", member, id: ++lastId })
        yield* later(60)
        const type = resubscribes ? "unsubscribe" : "absent"
        ann.send({ type, channel: "room", id: ++lastId })
        yield* later(30)
      }
      yield* later(400)
      const after = moves(watcher)
      // Over 5 s.
      const changes = after.set + after.gone - before.set - before.gone
      expect(changes).toBeGreaterThan(0)
      expect(changes).toBeLessThanOrEqual(26)
      expect(network.bytes - before.bytes).toBeLessThan(200_000)
      yield* ask(ann, { type: "subscribe", channel: "room" })
      yield* ask(ann, { type: "present", channel: "room", member: { at: "last" } })
      yield* later(600)
      expect(states(watcher)).toEqual(["last"])
    }).pipe(Effect.scoped)
  )

  it.effect("that joins again and is hidden when its socket closes was never there", () =>
    Effect.gen(function* () {
      const { one, three: third } = yield* three
      const watcher = yield* enter(third, "eve")
      const ann = yield* enter(one, "ann", "first")
      yield* later(1000)
      yield* ask(ann, { type: "absent", channel: "room" })
      yield* ask(ann, { type: "present", channel: "room", member: { at: "second" } })
      ann.leave()
      yield* later(2000)
      expect(states(watcher)).toEqual([])
      expect(moves(watcher)).toEqual({ set: 1, gone: 1 })
    }).pipe(Effect.scoped)
  )

  it.effect("that is revoked leaves at once, also while its socket does not close", () =>
    Effect.gen(function* () {
      const { one, three: third } = yield* three
      const watcher = yield* enter(third, "eve")
      yield* enter(one, "ann", "here")
      yield* enter(one, "ben", "here")
      yield* later(200)
      one.door.revoke("ann")
      one.door.end("removed", () => true, "ben")
      yield* later(200)
      expect(states(watcher)).toEqual([])
    }).pipe(Effect.scoped)
  )
})

describe("The death of an old session", () => {
  it.effect("never outranks the new one on another node", () =>
    Effect.gen(function* () {
      const { one, three: third, two } = yield* three
      const watcher = yield* enter(third, "eve")
      const old = yield* enter(one, "ann", "same")
      yield* later(2000)
      yield* enter(two, "ann", "same")
      yield* later(33_000)
      const before = watcher.of("members").length
      old.leave()
      yield* later(15_000)
      expect(states(watcher)).toEqual(["same"])
      expect(watcher.of("members").length).toBe(before)
    }).pipe(Effect.scoped)
  )

  it.effect("is followed by a join that every client sees, also when its message is lost", () =>
    Effect.gen(function* () {
      const { network, one, three: third, two } = yield* three
      const watcher = yield* enter(third, "eve")
      const old = yield* enter(one, "ann", "same")
      yield* later(500)
      old.leave()
      yield* later(11_000)
      expect(states(watcher)).toEqual([])
      network.lose = (from, _, content) => from.name === "two" && content !== "beat"
      yield* enter(two, "ann", "same")
      yield* later(100)
      network.lose = () => false
      yield* later(1300)
      expect(states(watcher)).toEqual(["same"])
    }).pipe(Effect.scoped)
  )
})

describe("A node", () => {
  it.effect("that dies takes its members along after 3 s of silence", () =>
    Effect.gen(function* () {
      const { one, three: third } = yield* three
      yield* enter(one, "ann", "one")
      const watcher = yield* enter(third, "eve")
      yield* later(500)
      yield* one.kill
      yield* later(1900)
      expect(states(watcher)).toEqual(["one"])
      yield* later(2200)
      expect(states(watcher)).toEqual([])
    }).pipe(Effect.scoped)
  )

  it.effect("that dies and starts again under its name leaves no ghosts", () =>
    Effect.gen(function* () {
      const { network, one, three: third, two } = yield* three
      const dice = random(seed)
      network.lose = () => dice.chance(0.2)
      const watchers = [yield* enter(two, "eve"), yield* enter(third, "eve")]
      let running = one
      for (let round = 0; round < 10; round++) {
        for (let member = 0; member < 5; member++)
          yield* enter(running, `r${round}.${member}`, `${round}`)
        yield* later(500)
        yield* running.kill
        yield* later(1000)
        running = yield* start(network, "one")
        yield* later(1500)
        const fresh = yield* enter(running, `new${round}`, `new${round}`)
        yield* later(2500)
        network.lose = () => false
        yield* later(1300)
        for (const watcher of watchers) expect(states(watcher)).toEqual([`new${round}`])
        network.lose = () => dice.chance(0.2)
        yield* ask(fresh, { type: "absent", channel: "room" })
      }
      network.lose = () => false
      yield* later(60_000)
      for (const watcher of watchers) expect(states(watcher)).toEqual([])
    }).pipe(Effect.scoped)
  )

  it.effect("that was cut off shows its members again, and all lists are equal", () =>
    Effect.gen(function* () {
      const { network, one, three: third, two } = yield* three
      const nodes = [one, two, third]
      const watchers = yield* Effect.forEach(nodes, (node) => enter(node, "eve"))
      const members = yield* Effect.forEach(nodes, (node, index) => enter(node, `p${index}`, "a"))
      yield* later(500)
      network.cut.add("one")
      yield* later(5000)
      expect(watchers.map((one) => states(one).length)).toEqual([1, 2, 2])
      yield* ask(members[0]!, { type: "present", channel: "room", member: { at: "b" } })
      yield* ask(members[1]!, { type: "absent", channel: "room" })
      network.cut.clear()
      yield* later(1300)
      expect(watchers.map((one) => states(one).toSorted())).toEqual([
        ["a", "b"],
        ["a", "b"],
        ["a", "b"]
      ])
      expect(here(watchers[0]!)).toEqual(here(watchers[2]!))
    }).pipe(Effect.scoped)
  )

  it.effect("that starts apart from another gives the names that it keeps when they meet", () =>
    Effect.gen(function* () {
      const network = new Network()
      network.cut.add("one").add("two")
      const one = yield* start(network, "one")
      const two = yield* start(network, "two")
      yield* later(4000)
      const visitors = [
        yield* enter(one, "ann", "a"),
        yield* enter(two, "ben", "b"),
        yield* enter(one, "phone", "c", "devices"),
        yield* enter(two, "laptop", "d", "devices")
      ]
      const own = visitors.map((visitor) => visitor.of("present").at(-1)?.member)
      yield* later(2000)
      network.cut.clear()
      yield* later(5000)
      for (const [index, visitor] of visitors.entries()) {
        expect(Object.keys(here(visitor))).toContain(own[index])
        expect(states(visitor).length).toBe(2)
        expect(moves(visitor).gone).toBe(0)
      }
    }).pipe(Effect.scoped)
  )

  it.effect("that stops by plan makes no member leave that returns within its grace", () =>
    Effect.gen(function* () {
      const { one, three: third, two } = yield* three
      const watcher = yield* enter(third, "eve")
      yield* enter(one, "ann", "here")
      yield* enter(one, "ben", "here")
      yield* later(500)
      const before = moves(watcher)
      yield* one.stop
      yield* later(3000)
      yield* enter(two, "ann", "here")
      yield* later(6000)
      expect(states(watcher).length).toBe(2)
      yield* later(4500)
      expect(states(watcher).length).toBe(1)
      const after = moves(watcher)
      expect([after.set - before.set, after.gone - before.gone]).toEqual([0, 1])
    }).pipe(Effect.scoped)
  )

  it.effect("that starts sends its first list when it knows the members of the others", () =>
    Effect.gen(function* () {
      const network = new Network()
      const one = yield* start(network, "one")
      yield* later(known)
      const ann = yield* enter(one, "ann", "here")
      yield* later(500)
      const two = yield* start(network, "two")
      const watcher = yield* enter(two, "eve")
      expect(watcher.of("members")).toEqual([])
      yield* later(known)
      expect(watcher.of("members").length).toBe(1)
      expect(here(watcher)).toEqual(here(ann))
    }).pipe(Effect.scoped)
  )
})
