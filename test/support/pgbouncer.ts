/** PgBouncer in front of a server of the tests, where it is installed. */
import { PgConnection } from "@effect/sql-pg"
import { Effect, Redacted, Schedule } from "effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import type * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { address } from "../../src/server/internal/link/pgLink.ts"
import { unprivileged } from "../../src/testing/internal/processes.ts"

const candidates = [
  process.env["PGBOUNCER_PATH"],
  "/usr/sbin/pgbouncer",
  "/usr/bin/pgbouncer",
  "/usr/local/bin/pgbouncer",
  "/opt/homebrew/bin/pgbouncer"
]

/**
 * The path of PgBouncer, if it is installed. Without it its tests are skipped, which
 * `global-setup.ts` reports.
 */
export const executablePath = candidates.find((path) => path !== undefined && Fs.existsSync(path))

/** The address of a server as PgBouncer's file has it. */
const target = (url: string): string => {
  const { password, username } = new URL(url)
  const to = address({ url: Redacted.make(url) }) as Net.TcpNetConnectOpts & { path?: string }
  const [host, port] =
    to.path === undefined
      ? [to.host, to.port]
      : [Path.dirname(to.path), Path.extname(to.path).slice(1)]
  const secret = password === "" ? "" : ` password=${decodeURIComponent(password)}`
  return `host=${host} port=${port} user=${decodeURIComponent(username) || "postgres"}${secret}`
}

/**
 * In transaction mode: a session of the server runs one transaction after the other, of any client,
 * and `connections` sessions serve all clients. Returns the URL through it; it ends with the scope.
 */
export const pgbouncer = (url: string, connections: number) =>
  Effect.gen(function* () {
    // PgBouncer refuses to run as root.
    const user = unprivileged(undefined)
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const made = Fs.mkdtempSync(Path.join(Os.tmpdir(), "pgbouncer-"))
        if (user !== undefined) Fs.chownSync(made, user.uid, user.gid)
        return made
      }),
      (made) => Effect.sync(() => Fs.rmSync(made, { recursive: true, force: true }))
    )
    const file = Path.join(directory, "pgbouncer.ini")
    // No port: another PgBouncer of the machine is not in the way.
    const lines = [
      "[databases]",
      `* = ${target(url)}`,
      "[pgbouncer]",
      "listen_addr =",
      `unix_socket_dir = ${directory}`,
      "listen_port = 6432",
      "auth_type = any",
      "pool_mode = transaction",
      `default_pool_size = ${connections}`,
      "ignore_startup_parameters = extra_float_digits",
      ""
    ]
    Fs.writeFileSync(file, lines.join("\n"))
    if (user !== undefined) Fs.chownSync(file, user.uid, user.gid)
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(executablePath!, ["-q", file], { ...user, stdio: ["ignore", "ignore", "inherit"] })
      ),
      (child) =>
        Effect.callback<void>((resume) => {
          if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
          child.once("exit", () => resume(Effect.void))
          child.kill("SIGKILL")
        })
    )
    const through = new URL(url)
    through.searchParams.set("host", directory)
    through.searchParams.set("port", "6432")
    yield* Effect.scoped(PgConnection.make({ url: Redacted.make(through.href) })).pipe(
      Effect.retry({ times: 250, schedule: Schedule.spaced("20 millis") })
    )
    return through.href
  })
