/** A NATS server of a test, where one is installed. */
import { Effect, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { freePort } from "./freePort.ts"
import { temporary } from "./temporary.ts"

const candidates = [
  process.env["NATS_SERVER_PATH"],
  "/usr/sbin/nats-server",
  "/usr/bin/nats-server",
  "/usr/local/bin/nats-server",
  "/opt/homebrew/bin/nats-server"
]

/**
 * The path of nats-server, if it is installed. Without it its tests are skipped, which `global-setup.ts`
 * reports.
 */
export const executablePath = candidates.find((path) => path !== undefined && Fs.existsSync(path))

export interface NatsServer {
  readonly port: number
  /** `host:port`. */
  readonly address: string
  /** Ends it as `kill -9` does. */
  readonly stop: Effect.Effect<void>
  /** Starts it again, with the same configuration. */
  readonly start: Effect.Effect<void>
  /** Reads another configuration while it runs. */
  readonly reload: (config: string) => Effect.Effect<void>
  /** Its process. */
  readonly pid: () => number
}

const answers = (port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = Net.connect(port, "127.0.0.1")
    const end = (is: boolean) => {
      socket.destroy()
      resume(Effect.succeed(is))
    }
    socket.once("data", () => end(true))
    socket.once("error", () => end(false))
  })

/** Servers of one cluster, each with routes to all others. */
export const natsCluster = (
  count: number
): Effect.Effect<ReadonlyArray<NatsServer>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const routes = yield* Effect.all(Array.from({ length: count }, () => freePort))
    const all = routes.map((port) => `"nats-route://127.0.0.1:${port}"`).join(", ")
    return yield* Effect.forEach(routes, (port) =>
      natsServer(
        `cluster { name: "test", listen: "127.0.0.1:${port}", routes: [${all}], connect_retries: 100 }`
      )
    )
  })

/** `config`: more lines of its configuration. It ends with the scope. */
export const natsServer = (config = ""): Effect.Effect<NatsServer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const port = yield* freePort
    const directory = yield* temporary
    const file = Path.join(directory, "nats.conf")
    const write = (more: string) => Fs.writeFileSync(file, `listen: "127.0.0.1:${port}"\n${more}\n`)
    write(config)
    let child: ChildProcess | undefined
    const stop = Effect.callback<void>((resume) => {
      const ending = child
      child = undefined
      if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) {
        return resume(Effect.void)
      }
      ending.once("exit", () => resume(Effect.void))
      ending.kill("SIGKILL")
    })
    const start = Effect.suspend(() => {
      child = spawn(executablePath!, ["-c", file], { stdio: "ignore" })
      return Effect.asVoid(
        Effect.repeat(Effect.andThen(Effect.sleep(10), answers(port)), { until: (up) => up })
      )
    })
    yield* Effect.addFinalizer(() => stop)
    yield* start
    const reload = (more: string) =>
      Effect.sync(() => {
        write(more)
        child?.kill("SIGHUP")
      })
    return { port, address: `127.0.0.1:${port}`, stop, start, reload, pid: () => child!.pid! }
  })
