/** Nodes of a bus in tests: the carrier of each has faults, and each records what its part receives. */
import { type Clock, Effect, type Scope, Stream, SubscriptionRef } from "effect"
import * as Bus from "../../../src/server/internal/bus/bus.ts"
import type { BusTimes } from "../../../src/server/internal/bus/busOptions.ts"
import type { Carrier } from "../../../src/server/internal/bus/carrier.ts"
import type { BusState, Node, NodeBus, NodeChange, Send } from "../../../src/server/NodeBus.ts"

/** What connects the nodes of one test. */
export interface World {
  /** The carrier of one more node. */
  readonly carrier: (name: string) => Effect.Effect<Carrier, unknown, Scope.Scope>
  readonly keys: Bus.Keys
}

export interface TestNode {
  readonly bus: NodeBus["Service"]
  readonly self: Node
  readonly send: Send
  /** What the part received, in order. */
  readonly got: Array<unknown>
  /** What the heartbeats of others carried. */
  readonly heard: Array<unknown>
  /** `appeared two`, and so on. */
  readonly changes: Array<string>
  /** The largest text of its carrier, in bytes. */
  readonly maxBytes: () => number
  /** Every text that its carrier received. */
  readonly texts: Array<string>
  /** What its carrier does with a text before the bus hears it. */
  incoming: (text: string, deliver: () => void) => void
  /** The same on the way out. */
  outgoing: (text: string, deliver: () => void) => void
  /** How often the bus asked for another connection. */
  renewed: number
  /** What it adds to its heartbeats. */
  beat: string | undefined
  /** Hears a text as if it arrived. */
  readonly hear: (text: string) => void
  /** Sends a text to all nodes, past the bus. */
  readonly inject: (text: string) => Effect.Effect<void, Error>
}

/** The defaults. */
const usual: BusTimes = {
  heartbeat: 1000,
  silentAfter: 3000,
  forgetAfter: 60_000,
  batchWindow: 50
}

const pass = (_: string, deliver: () => void): void => deliver()

let incarnations = 0

export const node = (
  world: World,
  name: string,
  times: BusTimes = usual
): Effect.Effect<TestNode, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const below = yield* world.carrier(name)
    const self = { name, incarnation: `${name}-${++incarnations}` }
    const run = Effect.runForkWith(yield* Effect.context<never>())
    let hear: (text: string) => void = () => undefined
    const carrier: Carrier = {
      ...below,
      send: (text) =>
        Effect.suspend(() => {
          let sent: Effect.Effect<void, Error> = Effect.void
          let now = true
          one.outgoing(text, () => {
            if (now) sent = Effect.andThen(sent, below.send(text))
            else run(Effect.ignore(below.send(text)))
          })
          now = false
          return sent
        }),
      receive: (give) => {
        hear = give
        return below.receive((text) => {
          one.texts.push(text)
          one.incoming(text, () => give(text))
        })
      },
      renew: Effect.andThen(
        Effect.sync(() => void one.renewed++),
        below.renew
      )
    }
    const one: { -readonly [K in keyof TestNode]: TestNode[K] } = {
      self,
      maxBytes: below.maxBytes,
      incoming: pass,
      outgoing: pass,
      renewed: 0,
      beat: undefined,
      got: [],
      heard: [],
      changes: [],
      texts: [],
      bus: undefined!,
      send: undefined!,
      hear: (text) => hear(text),
      inject: below.send
    }
    one.bus = yield* Bus.make(carrier, world.keys, { self, times })
    one.send = yield* one.bus.join("test", {
      receive: (content) => one.got.push(content),
      beat: () => one.beat,
      heard: (content) => one.heard.push(content),
      changed: ({ change, node }: NodeChange) => one.changes.push(`${change} ${node.name}`)
    })
    return one
  })

/** Waits until the bus of a node is in a state. */
export const reaches = ({ bus }: TestNode, wanted: BusState): Effect.Effect<void> =>
  SubscriptionRef.changes(bus.state).pipe(
    Stream.filter((now) => now === wanted),
    Stream.runHead,
    Effect.asVoid
  )

/** A clock of a test, with both of its times moved against those of the others. */
export const shifted = (clock: Clock.Clock, millis: () => number): Clock.Clock => ({
  ...clock,
  currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + millis(),
  currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + millis())
})
