/**
 * The Next.js example as its users install it: packed, installed into a folder of its own, built with
 * more pages, and started on a real database.
 */
import { PgInstaller } from "effect-realtime/server"
import { Effect, Schedule } from "effect"
import { type ChildProcess, execFile, spawn } from "node:child_process"
import { once } from "node:events"
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { promisify } from "node:util"
import { Orders } from "../../../examples/next/channels.ts"
import { execute, TestDatabase } from "../../support/database.ts"
import { pages } from "./nextPages.ts"

const root = resolve(import.meta.dirname, "../../..")
const run = promisify(execFile)

/** Those of the repository, where it has the package; `npm install` of the guide gives the newest. */
const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  readonly devDependencies: Readonly<Record<string, string>>
}
const versions = (...names: ReadonlyArray<string>) =>
  names.map((name) => `${name}@${devDependencies[name]}`)
const nextVersion = "16.4.6"

const tsconfig = {
  compilerOptions: {
    target: "ES2023",
    lib: ["ES2024", "DOM", "DOM.Iterable"],
    module: "esnext",
    moduleResolution: "bundler",
    allowImportingTsExtensions: true,
    allowJs: true,
    esModuleInterop: true,
    exactOptionalPropertyTypes: true,
    incremental: true,
    isolatedModules: true,
    jsx: "react-jsx",
    noEmit: true,
    plugins: [{ name: "next" }],
    resolveJsonModule: true,
    skipLibCheck: true,
    strict: true
  },
  include: ["next-env.d.ts", "**/*.ts", "**/*.tsx", ".next/types/**/*.ts"],
  exclude: ["node_modules"]
}

/** Builds the package outside of the repository, whose `dist` other tests may use. */
const pack = async (folder: string) => {
  mkdirSync(folder)
  for (const name of ["package.json", "README.md", "LICENSE", "src"]) {
    cpSync(join(root, name), join(folder, name), { recursive: true })
  }
  const tsc = join(root, "node_modules/typescript/bin/tsc")
  await run(process.execPath, [tsc, "-p", join(root, "src"), "--outDir", join(folder, "dist")])
  await run("npm", ["pack", "--silent", "--ignore-scripts"], { cwd: folder })
  return join(
    folder,
    readdirSync(folder).find((name) => name.endsWith(".tgz"))!
  )
}

/** Installs and builds the example. Takes a minute. */
export const buildNext = async () => {
  const work = mkdtempSync(join(tmpdir(), "next-"))
  const app = join(work, "app")
  const remove = () => rmSync(work, { recursive: true, force: true, maxRetries: 5 })
  try {
    const tarball = await pack(join(work, "package"))
    cpSync(join(root, "examples/next"), app, { recursive: true })
    for (const [path, text] of Object.entries(pages)) {
      mkdirSync(dirname(join(app, path)), { recursive: true })
      writeFileSync(join(app, path), text)
    }
    writeFileSync(join(app, "package.json"), `{ "private": true, "type": "module" }`)
    writeFileSync(join(app, "tsconfig.json"), JSON.stringify(tsconfig))
    const install = ["install", "--silent", "--no-audit", "--no-fund", "--prefer-offline"]
    const needed = versions("effect", "@effect/sql-pg", "react", "react-dom", "typescript")
    const types = versions("@types/node", "@types/react", "@types/react-dom")
    await run(
      "npm",
      [...install, "--ignore-scripts", tarball, `next@${nextVersion}`, ...needed, ...types],
      { cwd: app }
    )
    const env = { ...process.env, NODE_ENV: "production" as const, NEXT_TELEMETRY_DISABLED: "1" }
    await run(process.execPath, ["node_modules/next/dist/bin/next", "build"], { cwd: app, env })
  } catch (error) {
    remove()
    throw error
  }
  return { app, remove }
}

const listening = (server: Server) =>
  Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () =>
        resume(Effect.succeed((server.address() as AddressInfo).port))
      )
    }),
    () =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  )

const freePort = Effect.scoped(Effect.suspend(() => listening(createServer())))

const end = async (child: ChildProcess) => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, "exit")
  child.kill("SIGTERM")
  await exited
}

/** Starts `server.ts` of the example on a table of three orders. */
export const nextSite = (app: string, mode: "production" | "development") =>
  Effect.gen(function* () {
    const { url } = yield* TestDatabase
    yield* execute(url, "create table orders (id int primary key, customer text, status text)")
    yield* execute(
      url,
      "insert into orders values (1, 'Ada', 'new'), (2, 'Bob', 'new'), (3, 'Cleo', 'new')"
    )
    yield* PgInstaller.watch({ channel: Orders.name, table: "orders", delivery: "durable" })

    const open = Promise.withResolvers<void>()
    const gate = yield* listening(
      createServer(async (_, response) => {
        await open.promise
        response.end()
      })
    )
    const port = yield* freePort
    let log = ""
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(process.execPath, ["server.ts"], {
          cwd: app,
          env: {
            ...process.env,
            DATABASE_URL: url,
            GATE: `http://127.0.0.1:${gate}`,
            NEXT_TELEMETRY_DISABLED: "1",
            NODE_ENV: mode,
            PORT: String(port)
          },
          stdio: ["ignore", "pipe", "pipe"]
        })
        for (const output of [child.stdout, child.stderr]) {
          output.on("data", (text: Buffer) => (log += text.toString()))
        }
        return child
      }),
      (child) =>
        Effect.promise(async () => {
          await end(child)
          console.log(`server.ts in ${mode}:\n${log}`)
        })
    )
    // In development Next.js rejects another host than this.
    const site = `http://localhost:${port}`
    yield* Effect.tryPromise(() => fetch(`${site}/plain`)).pipe(
      Effect.flatMap(({ status }) => (status === 200 ? Effect.void : Effect.fail(status))),
      Effect.retry(Schedule.spaced("200 millis")),
      Effect.timeoutOrElse({
        duration: "40 seconds",
        orElse: () => Effect.die(new Error(`Next.js did not answer:\n${log}`))
      })
    )
    return {
      url: site,
      log: () => log,
      /** Lets the late boundary of the page `streamed` go on. */
      release: Effect.sync(() => open.resolve()),
      sql: (statement: string) => execute(url, statement)
    }
  })
