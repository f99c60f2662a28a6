/**
 * Nodes as processes with one presence channel, clients of them, and what every client must see: the members
 * that are open now, each with its newest state.
 */
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted, type Scope, Stream } from "effect"
import type { Channel } from "effect-realtime"
import { type Members, PlainClient, RealtimeClient } from "effect-realtime/client"
import { PgInstaller } from "effect-realtime/server"
import { ownServer } from "../../support/cluster.ts"
import { freePort } from "../../support/freePort.ts"
import { type Hop, hop } from "../../support/hop.ts"
import { natsServer } from "../../support/natsServer.ts"
import { type Program, program } from "../../support/program.ts"
import { Room } from "./presenceChannels.ts"
import type { ClientSetup } from "./presenceClient.ts"
import type { ClockOrder, NodeSetup } from "./presenceNode.ts"

type Shown = Members.Members<Channel.MemberOf<typeof Room>>

export interface WorldNode extends Program {
  /** Between the node and what carries its bus. */
  readonly toBus: Hop
  /** Between the node and its clients. */
  readonly toDoor: Hop
  /** Sets its wall clock so many milliseconds off, until it starts again. */
  readonly setClockOff: (off: number) => Effect.Effect<void>
  isUp: boolean
}

/** A server that a test ends without a word, and starts again. */
export interface Server {
  readonly end: Effect.Effect<void>
  readonly start: Effect.Effect<void>
}

/** A client of this process. */
export interface WorldClient {
  readonly name: string
  /** What it saw, one list after another. */
  readonly seen: Array<Shown>
  /** The node that it connects to while that is up. */
  home: WorldNode
  readonly show: (n: number) => Effect.Effect<void>
  /** Leaves, and goes on to watch. */
  readonly hide: Effect.Effect<void>
}

const file = (name: string) => `test/whole/support/${name}.ts`

export class World {
  readonly nodes: Array<WorldNode> = []
  readonly clients: Array<WorldClient> = []
  /** The names of members that are open now, each with its newest state. */
  readonly truth = new Map<string, number>()

  readonly postgres: Server
  /** Where the nodes have one. */
  readonly nats: Server | undefined

  constructor(postgres: Server, nats: Server | undefined) {
    this.postgres = postgres
    this.nats = nats
  }

  /** Shows a state of a client to the others, now or when it is connected again. */
  readonly show = (client: WorldClient, n: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      this.truth.set(client.name, n)
      return client.show(n)
    })

  /** The first difference between what a client sees and what it must see. */
  get difference(): string | undefined {
    for (const [index, { seen }] of this.clients.entries()) {
      const shown = seen.at(-1)
      if (shown?.status !== "live") return `client ${index} is ${shown?.status}`
      const wrong = this.#wrong(shown)
      if (wrong !== undefined) return `client ${index} sees ${wrong}`
    }
    return undefined
  }

  #wrong({ count, members }: Shown): string | undefined {
    for (const { state } of members) {
      const n = this.truth.get(state.name)
      if (n === undefined) return `${state.name}, who is not here`
      if (n !== state.n) return `${state.name} with state ${state.n} instead of ${n}`
    }
    for (const name of this.truth.keys()) {
      const times = members.filter(({ state }) => state.name === name).length
      if (times !== 1) return `${name} ${times} times`
    }
    return count === this.truth.size ? undefined : `${count} of ${this.truth.size}`
  }

  /** Adds a client that watches. */
  readonly join = (
    name: string,
    home: WorldNode
  ): Effect.Effect<WorldClient, unknown, Scope.Scope> =>
    Effect.gen({ self: this }, function* () {
      const client = Context.get(
        yield* Layer.build(
          RealtimeClient.layer({
            url: () => urlOf(one.home.isUp ? one.home : this.nodes.find(({ isUp }) => isUp)!),
            token: () => name,
            backoff: { initial: 50, cap: 500, resetAfter: 5000 }
          })
        ),
        RealtimeClient.RealtimeClient
      )
      const own = PlainClient.fromClient(client).presence(Room)
      const stop = own.subscribe(() => undefined)
      yield* Effect.addFinalizer(() => Effect.sync(stop))
      const one: WorldClient = {
        name,
        seen: [],
        home,
        show: (n) => Effect.promise(() => own.getSnapshot().update({ name, n })),
        hide: Effect.sync(() => void own.getSnapshot().update(undefined))
      }
      yield* client.presence(Room).pipe(
        Stream.runForEach((shown) => Effect.sync(() => one.seen.push(shown))),
        Effect.forkScoped({ startImmediately: true })
      )
      this.clients.push(one)
      return one
    })

  /** Starts a client in its own process, which is a member. */
  readonly spawn = (
    name: string,
    nodes: ReadonlyArray<WorldNode>
  ): Effect.Effect<Program, never, Scope.Scope> =>
    Effect.tap(
      program(file("presenceClient"), { name, urls: nodes.map(urlOf) } satisfies ClientSetup),
      Effect.sync(() => this.process(name, true))
    )

  /** A client in its own process leaves, or is back. */
  readonly process = (name: string, isHere: boolean): void => {
    if (isHere) this.truth.set(name, 0)
    else this.truth.delete(name)
  }

  readonly endNode = (node: WorldNode, signal: "SIGKILL" | "SIGTERM"): Effect.Effect<void> =>
    Effect.suspend(() => {
      node.isUp = false
      this.truth.delete(this.programOf(node))
      return node.end(signal)
    })

  readonly startNode = (node: WorldNode): Effect.Effect<void> =>
    Effect.andThen(
      node.start,
      Effect.sync(() => {
        node.isUp = true
        this.truth.set(this.programOf(node), this.nodes.indexOf(node))
      })
    )

  /** The name of the member that the program of a node is. */
  readonly programOf = (node: WorldNode): string => `program of node ${this.nodes.indexOf(node)}`
}

const urlOf = ({ toDoor }: WorldNode) => `ws://127.0.0.1:${toDoor.port}/realtime`

/** Starts so many nodes. */
export const make = (
  options: Pick<NodeSetup, "faults" | "quick" | "seed"> & {
    readonly count: number
    readonly nats: boolean
  }
): Effect.Effect<World, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const postgres = yield* ownServer()
    yield* PgInstaller.install().pipe(
      Effect.provide(PgClient.layer({ url: Redacted.make(postgres.url) }))
    )
    const nats = options.nats ? yield* natsServer() : undefined
    const world = new World(
      { end: postgres.stop("immediate"), start: Effect.orDie(postgres.start) },
      nats && { end: nats.stop, start: nats.start }
    )
    const start = (index: number) =>
      Effect.gen(function* () {
        const toBus = yield* hop(
          nats === undefined
            ? { path: `${postgres.socketDirectory}/.s.PGSQL.5432` }
            : { host: "127.0.0.1", port: nats.port }
        )
        const through = new URL(postgres.url)
        if (nats === undefined) {
          through.searchParams.set("host", "127.0.0.1")
          through.searchParams.set("port", String(toBus.port))
        }
        const port = yield* freePort
        const setup: NodeSetup = {
          index,
          port,
          databaseUrl: through.href,
          nats: nats === undefined ? undefined : `127.0.0.1:${toBus.port}`,
          quick: options.quick,
          faults: options.faults,
          seed: options.seed + index
        }
        const running = yield* program(file("presenceNode"), setup)
        const toDoor = yield* hop({ host: "127.0.0.1", port })
        const setClockOff = (off: number) => running.send({ off } satisfies ClockOrder)
        return { ...running, toBus, toDoor, setClockOff, isUp: true }
      })
    const nodes = yield* Effect.forEach(Array.from({ length: options.count }).keys(), start, {
      concurrency: "unbounded"
    })
    world.nodes.push(...nodes)
    for (const [index, node] of nodes.entries()) world.truth.set(world.programOf(node), index)
    return world
  })

/** The names of the members that a client sees now, in order. */
export const namesOf = ({ seen }: WorldClient): ReadonlyArray<string> =>
  (seen.at(-1)?.members ?? []).map(({ state }) => state.name).toSorted()
