/**
 * The cluster: PostgreSQL, NATS where this machine has it, three nodes of the live board and a load
 * balancer, all on this machine and without a container.
 *
 *   npm run cluster
 *
 * PORT is the port of the balancer, default or with 0 a free one. A node that ends is started again, so `kill` a
 * process to see what its clients do.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Config, Console, Data, Effect, Option, Runtime, Schedule, Scope, Stream } from "effect"
import { EmbeddedPostgres } from "effect-realtime/testing"
import { fileURLToPath } from "node:url"
import * as Balancer from "./balancer.ts"
import { accepts, find, freePorts, isFree, run } from "./programs.ts"

const nodeCount = 3

class PortTaken extends Data.TaggedError("PortTaken")<{ readonly port: number }> {
  override readonly [Runtime.errorReported] = false
  override get message(): string {
    return `Port ${this.port} is taken. Give PORT another number, or 0 for a free one.`
  }
}

/** The port of the balancer, before anything starts that would have to stop again. */
const portOf = (free: number) =>
  Effect.gen(function* () {
    const port = Option.getOrElse(yield* Config.option(Config.Int("PORT")), () => 0)
    if (port === 0) return free
    return (yield* isFree(port)) ? port : yield* new PortTaken({ port })
  })

/** The URL of a NATS server of our own, where this machine has one. */
const nats = Effect.fnUntraced(function* (port: number) {
  const program = yield* find("nats-server")
  if (program === undefined) return undefined
  const { ended } = yield* run(program, ["--addr", "127.0.0.1", "--port", String(port)])
  yield* Effect.raceFirst(accepts(port), ended)
  return `nats://127.0.0.1:${port}`
})

/** Starts a node and completes when it accepts clients. The node runs until its scope closes. */
const startNode = (index: number, port: number, env: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const script = fileURLToPath(new URL("node.ts", import.meta.url))
    const node = yield* run(process.execPath, ["-C", "@effect-realtime/source", script], {
      ...env,
      PORT: String(port),
      NODE_NAME: `node ${index}`
    })
    yield* node.lines.pipe(
      Stream.filter((line) => line.startsWith("ready ")),
      Stream.take(1),
      Stream.runDrain,
      Effect.raceFirst(node.ended)
    )
    yield* Console.log(`node ${index} ${node.pid} http://127.0.0.1:${port}`)
    return node
  })

/** Keeps a node running: starts it again when it ends. Completes when it is there for the first time. */
const keepNode = (index: number, port: number, env: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const scope = yield* Scope.Scope
    const first = yield* startNode(index, port, env)
    const again = Effect.scoped(
      Effect.flatMap(startNode(index, port, env), ({ ended }) => Effect.flip(ended))
    )
    yield* Effect.flip(first.ended).pipe(
      Effect.andThen(Console.log(`node ${index} ended and starts again`)),
      Effect.andThen(Effect.repeat(Effect.ignore(again), Schedule.spaced("100 millis"))),
      Effect.forkIn(scope)
    )
  })

const cluster = Effect.gen(function* () {
  const chosen = Option.getOrUndefined(yield* Config.option(Config.String("CLUSTER_BALANCER")))
  const ports = yield* freePorts(nodeCount + 2)
  const [free, natsPort, ...nodePorts] = ports as [number, number, ...Array<number>]
  const port = yield* portOf(free)
  const database = yield* EmbeddedPostgres.make({ settings: { max_connections: "100" } })
  yield* Console.log(`database ${database.url}`)
  const natsUrl = yield* nats(natsPort)
  const env = {
    DATABASE_URL: database.url,
    ...(natsUrl === undefined ? {} : { NATS_URL: natsUrl })
  }
  // The first one creates the objects of the database.
  const [first, ...others] = nodePorts
  yield* keepNode(1, first!, env)
  yield* Effect.forEach(others, (port, index) => keepNode(index + 2, port, env), {
    concurrency: "unbounded"
  })
  const balancer = yield* Balancer.start(port, nodePorts, chosen)
  yield* Console.error(
    `balancer ${balancer.name}, ${natsUrl === undefined ? "no nats-server found" : `nats ${natsUrl}`}`
  )
  yield* Console.log(`ready http://127.0.0.1:${port}`)
  return yield* balancer.ended
})

cluster.pipe(
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  Effect.tapError((error) =>
    Runtime.getErrorReported(error) ? Effect.void : Console.error(error.message)
  ),
  NodeRuntime.runMain
)
