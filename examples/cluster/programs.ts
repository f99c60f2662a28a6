/** The programs of the cluster: where they are, their ports, and how they run. */
import { Data, Effect, FileSystem, Schedule, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { createServer } from "node:net"

/** A program of the cluster ended, or did not start. */
export class ProgramEnded extends Data.TaggedError("ProgramEnded")<{
  readonly program: string
  readonly log: string
}> {
  override get message(): string {
    return `${this.program} ended. The last lines of its log:\n${this.log}`
  }
}

/** The path of a program, where this machine has it. */
export const find = Effect.fnUntraced(function* (name: string) {
  const files = yield* FileSystem.FileSystem
  const folders = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"]
  for (const folder of folders) {
    if (yield* Effect.orElseSucceed(files.exists(`${folder}/${name}`), () => false)) {
      return `${folder}/${name}`
    }
  }
  return undefined
})

/** Whether a server can listen on a port of this machine. */
export const isFree = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const server = createServer()
    server.once("error", () => resume(Effect.succeed(false)))
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(true))))
  })

/**
 * Free ports, all different. Below the range of outgoing connections: a client that connects to a port of
 * that range again and again while no server listens can reach itself.
 */
export const freePorts = Effect.fnUntraced(function* (count: number) {
  const ports = new Set<number>()
  while (ports.size < count) {
    const port = 20_000 + Math.floor(Math.random() * 12_000)
    if (yield* isFree(port)) ports.add(port)
  }
  return [...ports]
})

/** A running program. */
export interface Running {
  readonly pid: number
  /** The lines that it prints. */
  readonly lines: Stream.Stream<string>
  /** Fails with the end of its log when the program ends. */
  readonly ended: Effect.Effect<never, ProgramEnded>
}

/** Runs a program until the scope closes. SIGTERM ends it, and SIGKILL if it takes longer than 5 s. */
export const run = Effect.fnUntraced(function* (
  program: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
) {
  const handle = yield* ChildProcess.make(program, args, {
    env,
    extendEnv: true,
    // Stays open for as long as this process lives.
    stdin: "pipe",
    forceKillAfter: "5 seconds"
  }).pipe(Effect.mapError((error) => new ProgramEnded({ program, log: error.message })))
  let log = ""
  yield* handle.stderr.pipe(
    Stream.decodeText(),
    Stream.runForEach((text) =>
      Effect.sync(() => {
        log = (log + text).slice(-4000)
      })
    ),
    Effect.ignore,
    Effect.forkScoped
  )
  return {
    pid: handle.pid,
    lines: handle.stdout.pipe(
      Stream.decodeText(),
      Stream.splitLines,
      Stream.catch(() => Stream.empty)
    ),
    ended: Effect.andThen(
      Effect.ignore(handle.exitCode),
      Effect.suspend(() => Effect.fail(new ProgramEnded({ program, log })))
    )
  } satisfies Running
})

/** Completes when a server accepts connections on a port. */
export const accepts = (port: number) =>
  isFree(port).pipe(
    Effect.filterOrFail((free) => !free),
    Effect.retry(Schedule.spaced("50 millis"))
  )
