/**
 * A bus between nodes in memory, for tests: a network that a test cuts, and that loses and delays messages. It
 * notices nodes that are silent or gone as the real one does.
 */
import { Clock, Effect, Layer, Redacted, type Scope, SubscriptionRef } from "effect"
import type { Json } from "effect/Schema"
import { randomUUID } from "node:crypto"
import { type BusState, type Node, NodeBus, type Part } from "../../src/server/NodeBus.ts"

interface Known {
  readonly node: Node
  heard: number
  silent: boolean
}

interface Attached {
  readonly node: Node
  readonly parts: Map<string, Part>
  readonly known: Map<string, Known>
}

export class Network {
  readonly nodes = new Set<Attached>()
  /** Nodes that neither send nor hear. */
  readonly cut = new Set<string>()
  /** Incarnations that ended without a goodbye. */
  readonly dead = new Set<string>()
  /** Whether to lose a message. */
  lose: (from: Node, to: Node, content: unknown) => boolean = () => false
  readonly secret = Redacted.make(randomUUID())
  messages = 0
  bytes = 0
  /** All incarnations that a message named as its sender. */
  #incarnations = 0

  incarnation(): string {
    return String(++this.#incarnations)
  }

  send(from: Attached, now: number, hand: (to: Attached, part: (topic: string) => Part) => void) {
    for (const to of this.nodes) {
      if (to === from || this.isCut(from.node) || this.isCut(to.node)) continue
      this.hear(to, from.node, now)
      hand(to, (topic) => to.parts.get(topic) ?? { receive: () => undefined })
    }
  }

  isCut({ incarnation, name }: Node): boolean {
    return this.cut.has(name) || this.dead.has(incarnation)
  }

  hear(to: Attached, node: Node, now: number): void {
    const known = to.known.get(node.name)
    if (known?.node.incarnation === node.incarnation) {
      known.heard = now
      if (!known.silent) return
      known.silent = false
    } else {
      if (known !== undefined) this.end(to, known)
      to.known.set(node.name, { node, heard: now, silent: false })
    }
    for (const { changed } of to.parts.values()) changed?.({ change: "appeared", node })
  }

  end(at: Attached, { node }: Known): void {
    if (!at.known.delete(node.name)) return
    for (const { changed } of at.parts.values()) changed?.({ change: "gone", node })
  }

  sweep(at: Attached, now: number): void {
    for (const known of at.known.values()) {
      if (now - known.heard >= 60_000) this.end(at, known)
      else if (!known.silent && now - known.heard >= 3000) {
        known.silent = true
        for (const { changed } of at.parts.values())
          changed?.({ change: "silent", node: known.node })
      }
    }
  }
}

/** The bus of one node. Says goodbye when its scope closes, unless the node is cut off. */
const bus = (
  network: Network,
  name: string
): Effect.Effect<NodeBus["Service"], never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
    const node: Node = { name, incarnation: network.incarnation() }
    const own: Attached = { node, parts: new Map(), known: new Map() }
    const state = yield* SubscriptionRef.make<BusState>("up")
    let waiting: Array<{ topic: string; text: string; to: Node | undefined }> = []
    const flush = Effect.sync(() => {
      const batch = waiting
      waiting = []
      for (const { text, to, topic } of batch) {
        network.messages++
        network.bytes += text.length
        network.send(own, now(), (other, part) => {
          if (to !== undefined && to.incarnation !== other.node.incarnation) return
          const content: unknown = JSON.parse(text)
          if (!network.lose(node, other.node, content)) part(topic).receive(content, node)
        })
      }
    })
    yield* Effect.acquireRelease(
      Effect.sync(() => network.nodes.add(own)),
      () =>
        Effect.sync(() => {
          if (!network.isCut(node)) Effect.runSync(flush)
          network.nodes.delete(own)
          if (network.isCut(node)) return
          for (const other of network.nodes) {
            const known = other.known.get(name)
            if (known?.node.incarnation === node.incarnation) network.end(other, known)
          }
        })
    )
    const beat = Effect.sync(() => {
      for (const [topic, part] of own.parts) {
        const content = JSON.stringify(part.beat?.() ?? null)
        network.send(own, now(), (other, part) => {
          if (!network.lose(node, other.node, "beat"))
            part(topic).heard?.(JSON.parse(content), node)
        })
      }
      network.sweep(own, now())
    })
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(50), flush)))
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(beat, Effect.sleep(1000))))
    return NodeBus.of({
      self: node,
      state,
      secret: Effect.succeed(network.secret),
      nodes: Effect.sync(() =>
        [...own.known.values()].map(({ heard, node, silent }) => ({
          name: node.name,
          incarnation: node.incarnation,
          state: silent ? ("silent" as const) : ("here" as const),
          heard: now() - heard
        }))
      ),
      join: (topic, part) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            own.parts.set(topic, part)
            for (const { node } of own.known.values()) part.changed?.({ change: "appeared", node })
            return (content: Json, to?: Node) => {
              waiting.push({ topic, text: JSON.stringify(content), to })
            }
          }),
          () => Effect.sync(() => void own.parts.delete(topic))
        )
    })
  })

export const layerBus = (network: Network, name: string): Layer.Layer<NodeBus> =>
  Layer.effect(NodeBus, bus(network, name))
