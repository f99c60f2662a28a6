/** Runs one node of a cluster in its own process, behind hops, and starts it again after it ended. */
import { Effect, type Scope, Semaphore } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { join } from "node:path"
import { freePort } from "../../support/freePort.ts"
import { type Hop, hop } from "../../support/hop.ts"
import type { Counts, Order, Report, Setup } from "./clusterProgram.ts"

export interface ClusterNode {
  readonly name: string
  /** Ends it with a signal and starts it again. Completes when it is ready. */
  readonly restart: (signal: "SIGKILL" | "SIGTERM") => Effect.Effect<void>
  /** Stops it while an effect runs. */
  readonly pauseFor: (during: Effect.Effect<unknown>) => Effect.Effect<void>
  /** Has its wall clock so many milliseconds off while an effect runs. */
  readonly stepFor: (millis: number, during: Effect.Effect<unknown>) => Effect.Effect<void>
  /** From now on no message of other nodes is lost on its way to it. */
  readonly goodNetwork: Effect.Effect<void>
  /** What all of its processes have done so far. */
  readonly counts: () => Counts
  /** Its output so far. */
  readonly output: () => string
  readonly toDatabase: Hop
  readonly toNats: Hop | undefined
  /** From clients. */
  readonly toNode: Hop
}

export interface Around {
  readonly name: string
  readonly seed: number
  /** A connection string, whose host and port are replaced by those of a hop. */
  readonly databaseUrl: string
  readonly socketDirectory: string
  readonly natsPort: number | undefined
}

const root = join(import.meta.dirname, "../../..")

const none: Counts = { fed: 0, repaired: 0, refused: 0, passed: 0, lost: 0, doubled: 0, late: 0 }

/** The sum of counts, by name. */
export const sumOf = (all: ReadonlyArray<Counts>): Counts =>
  all.reduce((sum, counts) => {
    const names = Object.keys(sum) as ReadonlyArray<keyof Counts>
    return Object.fromEntries(names.map((name) => [name, sum[name] + counts[name]])) as Counts
  }, none)

export const clusterNode = ({
  databaseUrl,
  name,
  natsPort,
  seed,
  socketDirectory
}: Around): Effect.Effect<ClusterNode, never, Scope.Scope> =>
  Effect.gen(function* () {
    const toDatabase = yield* hop({ path: `${socketDirectory}/.s.PGSQL.5432` })
    const toNats =
      natsPort === undefined ? undefined : yield* hop({ host: "127.0.0.1", port: natsPort })
    const port = yield* freePort
    const toNode = yield* hop({ host: "127.0.0.1", port })
    const through = new URL(databaseUrl)
    through.searchParams.set("host", "127.0.0.1")
    through.searchParams.set("port", String(toDatabase.port))

    let output = ""
    let child: ChildProcess
    let starts = 0
    let bad = true
    /** Of the processes that have ended, and of the present one. */
    let past = none
    let present = none
    const order = (given: Order) => {
      if (child.connected) child.send(given, () => undefined)
    }
    const start = Effect.callback<void>((resume) => {
      const setup: Setup = {
        name,
        port,
        databaseUrl: through.href,
        nats: toNats === undefined ? undefined : `127.0.0.1:${toNats.port}`,
        // Another one at each start.
        seed: seed + 1000 * starts++
      }
      const started = spawn(
        process.execPath,
        ["-C", "@effect-realtime/source", join(import.meta.dirname, "clusterProgram.ts")],
        {
          cwd: root,
          env: { ...process.env, NODE_SETUP: JSON.stringify(setup) },
          stdio: ["ignore", "pipe", "pipe", "ipc"]
        }
      )
      child = started
      for (const stream of [started.stdout, started.stderr]) {
        stream?.on("data", (data: Buffer) => {
          output = (output + data.toString()).slice(-20_000)
        })
      }
      order({ order: "network", bad })
      started.on("message", ({ counts }: Report) => {
        present = counts
        resume(Effect.void)
      })
      started.once("exit", (code, signal) => {
        past = sumOf([past, present])
        present = none
        resume(Effect.die(new Error(`${name} ended with ${String(code ?? signal)}:\n${output}`)))
      })
    })
    const end = (signal: "SIGKILL" | "SIGTERM") =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill(signal)
      })
    yield* Effect.acquireRelease(start, () => end("SIGKILL"))
    /** One signal at a time. */
    const turn = Semaphore.makeUnsafe(1)
    return {
      name,
      restart: (signal) => turn.withPermit(Effect.andThen(end(signal), start)),
      pauseFor: (during) =>
        turn.withPermit(
          Effect.acquireUseRelease(
            Effect.sync(() => child.kill("SIGSTOP")),
            () => Effect.asVoid(during),
            () => Effect.sync(() => child.kill("SIGCONT"))
          )
        ),
      stepFor: (off, during) =>
        Effect.acquireUseRelease(
          Effect.sync(() => order({ order: "clock", off })),
          () => Effect.asVoid(during),
          () => Effect.sync(() => order({ order: "clock", off: 0 }))
        ),
      goodNetwork: Effect.sync(() => {
        bad = false
        order({ order: "network", bad })
      }),
      counts: () => sumOf([past, present]),
      output: () => output,
      toDatabase,
      toNats,
      toNode
    }
  })
