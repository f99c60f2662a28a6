/** Runs the example in its own process, like `npm start`, and SQL from outside. */
import { PgConnection } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { chmodSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"

export interface LiveBoard {
  readonly url: string
  /** The connection string from the server's output. */
  readonly database: string
  /** Its stderr so far. */
  readonly log: () => string
  /** Its stdout so far. */
  readonly lines: ReadonlyArray<string>
  readonly process: ChildProcess
  /** Sends a signal and waits for the process to end. */
  readonly end: (signal: "SIGINT" | "SIGTERM") => Promise<{ code: number | null; millis: number }>
}

/** Runs statements in order on one new session, like psql. Returns the rows of the last one. */
export const runSql = (url: string, ...statements: ReadonlyArray<string>) =>
  PgConnection.make({ url: Redacted.make(url), applicationName: "test" }).pipe(
    Effect.flatMap((connection) =>
      Effect.forEach(statements, (statement) => connection.query(statement))
    ),
    Effect.map((results) => results.at(-1)!.rows),
    Effect.scoped
  )

export const sql = (url: string, ...statements: ReadonlyArray<string>) =>
  Effect.runPromise(runSql(url, ...statements))

/** A directory that the embedded server may use, even when it drops root. */
export const dataDirectory = () => {
  const parent = mkdtempSync(join(tmpdir(), "live-board-"))
  chmodSync(parent, 0o755)
  return {
    path: join(parent, "postgres"),
    remove: () => rmSync(parent, { recursive: true, force: true })
  }
}

const root = resolve(import.meta.dirname, "../..")

/** Node's compile cache, shared by all servers: they start in two thirds of the time. */
const NODE_COMPILE_CACHE = join(root, "node_modules/.cache/live-board")

/** Starts a server and waits until it is ready. Fails with its log if it ends instead. */
export const startLiveBoard = async (
  env: Readonly<Record<string, string | undefined>>
): Promise<LiveBoard> => {
  const child = spawn(
    process.execPath,
    ["-C", "@effect-realtime/source", "examples/live-board/server.ts"],
    {
      cwd: root,
      env: { ...process.env, NODE_COMPILE_CACHE, PORT: "0", DATABASE_URL: "", ...env },
      stdio: ["ignore", "pipe", "pipe"]
    }
  )
  const exited = once(child, "exit")
  let log = ""
  child.stderr.on("data", (text: Buffer) => (log += text.toString()))
  const lines: Array<string> = []
  const ready = new Promise<Pick<LiveBoard, "url" | "database">>((resolve) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line)
      const text = lines.join("\n")
      const { groups } = /^ready (?<url>\S+)\ndatabase (?<database>\S+)$/.exec(text) ?? {}
      if (groups !== undefined) resolve({ url: groups["url"]!, database: groups["database"]! })
    })
  })
  const failed = exited.then(([code]) => {
    throw new Error(`the live board ended with ${String(code)}:\n${log}${lines.join("\n")}`)
  })
  failed.catch(() => undefined)
  return {
    ...(await Promise.race([ready, failed])),
    log: () => log,
    lines,
    process: child,
    end: async (signal) => {
      const before = performance.now()
      child.kill(signal)
      const [code] = (await exited) as [number | null]
      return { code, millis: performance.now() - before }
    }
  }
}

/** Sends a request to the board's HTTP API. */
export const api = async (board: LiveBoard, path: string, init?: RequestInit) => {
  const headers = { "content-type": "application/json" }
  const response = await fetch(`${board.url}/api/${path}`, { headers, ...init })
  return { status: response.status, body: (await response.json()) as unknown }
}

export const post = (board: LiveBoard, path: string, body: unknown) =>
  api(board, path, { method: "POST", body: JSON.stringify(body) })
