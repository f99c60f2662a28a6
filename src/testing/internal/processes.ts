/**
 * Processes that do not outlive Node, for the embedded PostgreSQL.
 *
 * Cleaning up does not depend on Node. A process watches a pipe that Node holds, and the kernel closes
 * that pipe however Node ends, SIGKILL included. Failures are plain sentences; `EmbeddedPostgres` makes
 * typed errors of them.
 *
 * @since 0.1.0
 */
import { Deferred, Effect } from "effect"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { errorText } from "../../internal/errorText.ts"

/** The user that runs a process; `undefined` for the current user. */
export type User = { readonly uid: number; readonly gid: number } | undefined

export interface Workspace {
  /** Has the socket, and the data unless that is kept. */
  readonly directory: string
  /** Where a kept data directory is made before it is renamed. */
  readonly stage: string | undefined
  /**
   * Every launched process holds the janitor's stdin, so that the janitor knows when the last one has
   * ended.
   */
  readonly janitor: ChildProcess
}

export interface Child {
  readonly process: ChildProcess
  /** The end of the process's stderr. */
  readonly log: () => string
  /**
   * How the process ended, `""` after success. Completes once its stderr is closed: its own children have
   * ended too.
   */
  readonly gone: Deferred.Deferred<string>
}

interface LaunchOptions {
  readonly workspace: Workspace
  readonly user: User
  /** Whether the process receives SIGINT when Node ends. */
  readonly leashed?: boolean
  readonly onLog?: (log: string) => void
}

/** The kept characters of a process's log: enough for an error message. */
const logLimit = 16 * 1024

const environment = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" }

/**
 * `exec` makes the command itself the direct child, so that signals and its exit arrive directly. The
 * watcher is not a child of the command, because PostgreSQL treats the failure of an unknown child as a
 * crash of its own. A line on the pipe means that the command has ended: another process may have its
 * process id by then and must not be signalled.
 */
const onLeash = `
( (trap "" INT TERM HUP; read -r _ <&4 || kill -INT $$) </dev/null >/dev/null 2>&1 3>&- & )
exec "$@" 4<&-`

/** Waits until the last process that holds its stdin has ended, then removes its arguments. */
const sweep = `trap "" INT TERM HUP; read -r _; rm -rf -- "$@"`

/** Starts a process and returns at once. */
export const launch = (
  command: string,
  args: ReadonlyArray<string>,
  options: LaunchOptions
): Child => {
  const { janitor, directory } = options.workspace
  const leashed = options.leashed === true
  const child = spawn(
    leashed ? "/bin/sh" : command,
    leashed ? ["-c", onLeash, "leash", command, ...args] : args,
    {
      ...options.user,
      cwd: directory,
      env: environment,
      // Its own process group: Ctrl-C in a terminal stops Node, which then stops the process in order.
      detached: true,
      stdio: ["ignore", "ignore", "pipe", janitor.stdin!, leashed ? "pipe" : "ignore"]
    }
  )
  let log = ""
  const gone = Deferred.makeUnsafe<string>()
  const leash = child.stdio[4] instanceof Net.Socket ? child.stdio[4] : undefined
  // When the watcher was killed, no process reads the pipe, and none needs to.
  leash?.on("error", () => {})
  child.stderr!.setEncoding("utf8").on("data", (chunk: string) => {
    log += chunk
    options.onLog?.(log)
    log = log.slice(-logLimit)
  })
  child.once("error", (error) => {
    Deferred.doneUnsafe(gone, Effect.succeed(error.message))
  })
  child.once("exit", () => leash?.end("\n", () => leash.destroy()))
  child.once("close", (code, signal) => {
    const how = signal === null ? `exit code ${code}` : `ended by ${signal}`
    Deferred.doneUnsafe(gone, Effect.succeed(code === 0 ? "" : how))
  })
  return { process: child, log: () => log, gone }
}

/** A running process must not keep Node's event loop alive, unless Node waits for its end. */
export const keepAlive = (child: ChildProcess, on: boolean): void => {
  const handles = [child, ...child.stdio.filter((stream) => stream instanceof Net.Socket)]
  for (const handle of handles) {
    if (on) handle.ref()
    else handle.unref()
  }
}

/** Waits for the end of a process. */
export const ended = (child: Child): Effect.Effect<string> =>
  Effect.suspend(() => {
    keepAlive(child.process, true)
    return Deferred.await(child.gone)
  })

/** Explains how a process failed, with the errors in its log or its last line. */
export const explain = (what: string, how: string, child: Child): string => {
  const lines = child.log().split("\n")
  const errors = lines.filter((line) => /\b(FATAL|PANIC|ERROR|error|HINT|DETAIL):/.test(line))
  const said = errors.length > 0 ? errors : lines.filter((line) => line !== "").slice(-1)
  const text = said.map((line) => line.trim().replace(/\s+/g, " ").replace(/\.$/, "")).join("; ")
  return `${what} failed (${how})${text === "" ? "" : `: ${text}`}`
}

/** Runs a command and waits for its end. */
export const run = (
  what: string,
  command: string,
  args: ReadonlyArray<string>,
  options: LaunchOptions
): Effect.Effect<void, string> =>
  Effect.suspend(() => {
    const child = launch(command, args, options)
    return ended(child).pipe(
      Effect.onInterrupt(() => {
        child.process.kill()
        return ended(child)
      }),
      Effect.flatMap((how) => (how === "" ? Effect.void : Effect.fail(explain(what, how, child))))
    )
  })

/** Runs synchronous code. A failure becomes a sentence. */
export const attempt = <A>(what: string, evaluate: () => A): Effect.Effect<A, string> =>
  Effect.try({
    try: evaluate,
    catch: (cause) => `${what} failed: ${errorText(cause)}`
  })

const above = (path: string): string | undefined =>
  Path.dirname(path) === path ? undefined : Path.dirname(path)

/**
 * `initdb` requires a user with a name. The owner of a directory mounted into a container may have none.
 */
const hasName = (uid: number): boolean => spawnSync("id", ["-un", String(uid)]).status === 0

/**
 * The user for a PostgreSQL server, which refuses to run as root: the owner of the data or of the nearest
 * existing directory above it. When that owner is root too, the user with the least rights.
 */
export const unprivileged = (dataDirectory: string | undefined): User => {
  if (process.getuid?.() !== 0) return undefined
  for (let path = dataDirectory; path !== undefined; path = above(path)) {
    const stat = Fs.statSync(path, { throwIfNoEntry: false })
    if (stat === undefined) continue
    if (stat.uid !== 0 && hasName(stat.uid)) return { uid: stat.uid, gid: stat.gid }
    break
  }
  const users = Fs.existsSync("/etc/passwd") ? Fs.readFileSync("/etc/passwd", "utf8") : ""
  const [, uid = "65534", gid = "65534"] = /^nobody:[^:]*:(-?\d+):(-?\d+):/m.exec(users) ?? []
  // macOS writes -2 for 4294967294.
  return { uid: Number(uid) >>> 0, gid: Number(gid) >>> 0 }
}

/** Whether `user` can reach this file or directory, and read and execute (enter) it. */
export const readable = (path: string, user: User): boolean => {
  if (user === undefined) return true
  const may = (path: string, bits: number) => {
    const stat = Fs.statSync(path)
    const shift = stat.uid === user.uid ? 6 : stat.gid === user.gid ? 3 : 0
    return ((stat.mode >> shift) & bits) === bits
  }
  const real = Fs.realpathSync(path)
  if (!may(real, 5)) return false
  for (let up = above(real); up !== undefined; up = above(up)) if (!may(up, 1)) return false
  return true
}

/** Makes a directory that only `user` may enter. */
export const makeDirectory = (path: string, user: User): void => {
  Fs.mkdirSync(path, { mode: 0o700 })
  if (user !== undefined) Fs.chownSync(path, user.uid, user.gid)
}

/**
 * Makes the temporary directory of one server, and starts the janitor. It removes the directory, and an
 * unfinished data directory beside `keep`, as soon as Node and everything it launched have ended.
 */
export const openWorkspace = (keep: string | undefined, user: User): Workspace => {
  const name = `realtime-pg-${Crypto.randomBytes(4).toString("hex")}`
  // The path of a socket may have 103 bytes on macOS, 107 on Linux.
  const fits = Buffer.byteLength(Path.join(Os.tmpdir(), name, ".s.PGSQL.5432")) <= 103
  const directory = Path.join(fits && readable(Os.tmpdir(), user) ? Os.tmpdir() : "/tmp", name)
  const stage = keep && Path.join(Path.dirname(keep), `.${Path.basename(keep)}-${name}`)
  const removed = stage === undefined ? [directory] : [directory, stage]
  // Starts the janitor before it makes what the janitor removes.
  const janitor = spawn("/bin/sh", ["-c", sweep, "janitor", ...removed], {
    cwd: "/",
    env: environment,
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  janitor.once("error", () => Fs.rmSync(directory, { recursive: true, force: true }))
  keepAlive(janitor, false)
  try {
    makeDirectory(directory, user)
  } catch (cause) {
    janitor.stdin!.end()
    throw cause
  }
  return { directory, stage, janitor }
}

/** Tells the janitor to remove its directories now, and waits for it. */
export const closeWorkspace = ({ janitor }: Workspace): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (janitor.exitCode !== null || janitor.signalCode !== null) return resume(Effect.void)
    keepAlive(janitor, true)
    janitor.once("exit", () => resume(Effect.void))
    janitor.stdin!.end()
  })
