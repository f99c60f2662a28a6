/** The command line as a process: on a terminal and in a pipe, and without its packages. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { execFileSync, spawn, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { commands } from "../../src/bin/commands.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import { layerInstalled } from "../server/support/durable.ts"
import { TestDatabase } from "../support/database.ts"
import { freePort } from "../support/freePort.ts"
import { sourceProcess } from "../support/program.ts"
import { temporary } from "../support/temporary.ts"

const root = Path.resolve(import.meta.dirname, "../..")
const command = [process.execPath, "-C", "@effect-realtime/source", "src/bin/effect-realtime.ts"]

const missingScript =
  spawnSync("script", ["--version"]).status === 0
    ? undefined
    : "script of util-linux is not installed"

if (missingScript !== undefined)
  console.warn(`SKIP the command line on a terminal: ${missingScript}`)

interface Run {
  readonly args: ReadonlyArray<string>
  /** Whether its stdin, stdout and stderr are a terminal. */
  readonly terminal: boolean
  readonly env?: Readonly<Record<string, string>>
  /** A file for stdin. */
  readonly stdin?: string
  /** Sends Ctrl-C once this is printed. */
  readonly until?: RegExp
}

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

/** What a run prints, both outputs together, and its code. */
const printed = ({ args, env = {}, stdin, terminal, until }: Run) =>
  Effect.callback<{ readonly code: number | null; readonly out: string }>((done) => {
    const line = `${[...command, ...args].map(quoted).join(" ")}${stdin === undefined ? "" : ` < ${quoted(stdin)}`}`
    // With exec, no shell is there to receive Ctrl-C and to answer it with a code of its own.
    const [file, ...rest] = terminal
      ? ["script", "-qec", `exec ${line}`, "/dev/null"]
      : ["bash", "-c", `exec ${line} 2>&1`]
    const { NO_COLOR: _, FORCE_COLOR: __, CI: ___, ...inherited } = process.env
    const child = spawn(file!, rest, {
      cwd: root,
      env: { ...inherited, TERM: "xterm-256color", ...env },
      stdio: ["pipe", "pipe", "inherit"]
    })
    let out = ""
    let isStopped = false
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text
      if (isStopped || until?.test(out) !== true) return
      isStopped = true
      if (terminal) child.stdin.write("\u0003")
      else child.kill("SIGINT")
    })
    child.once("close", (code) => done(Effect.succeed({ code, out })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** Codes of colours, and those that move the cursor or erase. */
// oxlint-disable-next-line no-control-regex
const colours = /\u001b\[\d*m/
// oxlint-disable-next-line no-control-regex
const moves = /\u001b\[\d*[HJK]/

const twice = (text: string) => new RegExp(`(${text}[^]*){2}`)

describe.skipIf(missingScript !== undefined)("the command line", () => {
  it.live("has colours on a terminal, none with NO_COLOR, and none in a pipe", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const ignored = ["listen", "transactions", "queue"].flatMap((name) => ["--ignore", name])
      const args = ["doctor", "--database", url, ...ignored]
      const [terminal, plain, piped] = yield* Effect.all(
        [
          printed({ args, terminal: true }),
          printed({ args, terminal: true, env: { NO_COLOR: "1" } }),
          printed({ args, terminal: false })
        ],
        { concurrency: "unbounded" }
      )
      expect([terminal.code, plain.code, piped.code]).toEqual([0, 0, 0])
      expect(terminal.out).toMatch(colours)
      expect(plain.out).not.toMatch(colours)
      expect(piped.out).not.toContain("\u001b")
      // The same text in all three.
      const text = (out: string) =>
        out
          .replaceAll(new RegExp(colours, "g"), "")
          .replaceAll("\r", "")
          .replaceAll(/[\d.]+ s/g, "")
      expect([text(terminal.out), text(plain.out)]).toEqual([text(piped.out), text(piped.out)])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("redraws with status --watch on a terminal, and appends plain blocks in a pipe", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const args = ["status", "--watch", "--interval", "100 millis", "--database", url]
      const [terminal, piped] = yield* Effect.all(
        [
          printed({
            args,
            terminal: true,
            env: { NO_COLOR: "1" },
            until: twice("\\u001b\\[H0 nodes")
          }),
          printed({ args, terminal: false, until: twice("0 nodes[^]*0 consumers\n\n") })
        ],
        { concurrency: "unbounded" }
      )
      expect([terminal.code, piped.code]).toEqual([0, 0])
      expect(terminal.out).toMatch(moves)
      expect(terminal.out).not.toMatch(colours)
      expect(piped.out).not.toContain("\u001b")
      expect(piped.out).toMatch(/^0 nodes.*\noutbox: .*\n0 consumers\n\n0 nodes/)
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("counts what it publishes on a terminal, and not in a pipe", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const folder = yield* temporary
      const stdin = Path.join(folder, "lines")
      Fs.writeFileSync(stdin, Array.from({ length: 150 }, (_, n) => `${n}\n`).join(""))
      const args = ["publish", "jobs", "--lines", "--delivery", "durable", "--database", url]
      const [terminal, piped] = yield* Effect.all(
        [printed({ args, stdin, terminal: true }), printed({ args, stdin, terminal: false })],
        { concurrency: "unbounded" }
      )
      expect(terminal.out).toContain("\r\u001b[K100 published")
      expect(terminal.out).toMatch(/published 150 to jobs \(durable\)\r\n$/)
      expect(piped).toEqual({ code: 0, out: "published 150 to jobs (durable)\n" })
    }).pipe(Effect.provide(layerInstalled()))
  )
})

describe("a process of the command line", () => {
  const entry = "src/bin/effect-realtime.ts"
  const run = ["-C", "@effect-realtime/source"]

  it("ends with 0 when the reader of its pipe has left", () => {
    const piped = `"${process.execPath}" ${run.join(" ")} ${entry} sql | head -n 1; echo "\${PIPESTATUS[0]}"`
    expect(execFileSync("bash", ["-c", piped], { encoding: "utf8" })).toMatch(
      /^-- The objects .*\n0\n$/
    )
  })

  it("without its packages prints the line that brings them, and ends with 69", () => {
    // The entry of a copy finds no package above it.
    const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "realtime-cli-"))
    try {
      const needed = "src/internal/nodeVersion.ts"
      Fs.mkdirSync(Path.join(folder, "src/bin/shared"), { recursive: true })
      Fs.mkdirSync(Path.join(folder, "src/internal"))
      for (const file of ["package.json", entry, "src/bin/shared/peers.ts", needed]) {
        Fs.copyFileSync(file, Path.join(folder, file))
      }
      const say = (...args: ReadonlyArray<string>) => {
        const { status, stderr, stdout } = spawnSync(
          process.execPath,
          [Path.join(folder, entry), ...args],
          { encoding: "utf8" }
        )
        expect([status, stdout]).toEqual([69, ""])
        return stderr
      }
      const lineOf = (stderr: string) =>
        stderr.split("\n").find((line) => line.startsWith("  npx"))!
      const { peerDependencies: peers, version } = JSON.parse(
        Fs.readFileSync("package.json", "utf8")
      ) as { peerDependencies: Record<string, string>; version: string }
      expect(lineOf(say("doctor", "--schema", "a b"))).toBe(
        `  npx --yes -p "effect-realtime@${version}" -p "effect@${peers["effect"]}" -p "@effect/platform-node@${peers["@effect/platform-node"]}" -p "@effect/sql-pg@${peers["@effect/sql-pg"]}" effect-realtime doctor --schema "a b"`
      )
      // No URL of a database, no other URL with a password, and no payload is repeated.
      for (const [args, shown] of [
        [
          ["doctor", "--database", "postgres://h/db?user=u&password=secret", "--json"],
          'doctor --database "<url>" --json'
        ],
        [["status", "--database=postgres://u:sec@ret@h/db"], 'status --database="<url>"'],
        [["tail", "jobs", "--listen", "host=h password=secret"], 'tail jobs --listen "<url>"'],
        [["tail", "jobs", "postgres://u:secret@h/db"], 'tail jobs "<url>"'],
        [["serve", "--nats", "secret@n1:4222"], 'serve --nats "<url>"'],
        [
          ["serve", "--jwt-keys", "https://id.example/keys"],
          "serve --jwt-keys https://id.example/keys"
        ],
        [
          ["--log-level", "debug", "publish", "c", '{"secret":1}', "--json"],
          "--log-level debug publish"
        ]
      ] as const) {
        const stderr = say(...args)
        expect(lineOf(stderr).split(" effect-realtime ").at(-1)).toBe(shown)
        expect(stderr).not.toMatch(/secret|sec@ret/)
      }
      // The help itself needs the packages.
      const names = commands.map(({ name }) => name)
      const list = `The commands of effect-realtime are ${names.slice(0, -1).join(", ")} and ${names.at(-1)}.`
      for (const args of [[], ["--help"]]) expect(say(...args)).toContain(list)
    } finally {
      Fs.rmSync(folder, { recursive: true })
    }
  })

  it("of NATS names the line that brings its package, with the same arguments", () => {
    const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "realtime-cli-"))
    try {
      Fs.cpSync("src", Path.join(folder, "src"), { recursive: true })
      Fs.copyFileSync("package.json", Path.join(folder, "package.json"))
      const modules = Path.join(folder, "node_modules")
      Fs.mkdirSync(modules)
      for (const name of Fs.readdirSync("node_modules")) {
        if (name === "@nats-io") continue
        Fs.symlinkSync(Path.resolve("node_modules", name), Path.join(modules, name))
      }
      const args = ["serve", "--live", "news", "--allow-all", "--port", "0"]
      args.push("--database", "postgres://a:secret@db/app", "--nats", "n1:4222,n2:4222")
      const { status, stderr, stdout } = spawnSync(
        process.execPath,
        [...run, Path.join(folder, entry), ...args],
        { encoding: "utf8" }
      )
      expect([status, stdout]).toEqual([69, ""])
      expect(stderr).toContain("effect-realtime does not find @nats-io/transport-node.")
      expect(stderr).toMatch(
        /npx --yes .* -p "@nats-io\/transport-node@\^[\d.]+" effect-realtime serve .*--nats n1:4222,n2:4222\n/
      )
      expect(stderr).not.toContain("secret")
    } finally {
      Fs.rmSync(folder, { recursive: true })
    }
  })
})

describe("serve", () => {
  it.live(
    "shows all its series, with its link and its reader down, while it waits for its database",
    () =>
      Effect.gen(function* () {
        const port = yield* freePort
        const database = `postgres://nobody@127.0.0.1:${yield* freePort}/app`
        const args = ["serve", "--allow-all", "--live", "news", "--durable", "jobs"]
        yield* sourceProcess(
          ["src/bin/effect-realtime.ts", ...args, "--port", String(port)],
          { DATABASE_URL: database },
          "ignore"
        )
        const scrape = Effect.promise(() =>
          fetch(`http://127.0.0.1:${port}/metrics`).then(
            (answer) => answer.text(),
            () => undefined
          )
        )
        const text = yield* Effect.repeat(Effect.delay(scrape, 50), {
          until: (text) => text !== undefined
        })
        for (const down of ["link_up", "reader_up", "bus_up"]) {
          expect(text).toMatch(new RegExp(`^effect_realtime_${down} 0$`, "m"))
        }
        const shown = new Set(text?.match(/^effect_realtime_\w+/gm))
        const missing = Object.values(metrics).flatMap((one) =>
          Metric.isMetric(one) && !shown.has(one.id) && !shown.has(`${one.id}_count`)
            ? [one.id]
            : []
        )
        // What the guide marks: the readings of the outbox, and NATS.
        expect(missing.toSorted()).toEqual([
          "effect_realtime_nats_up",
          "effect_realtime_notification_queue_ratio",
          "effect_realtime_outbox_bytes",
          "effect_realtime_outbox_rows"
        ])
      }).pipe(Effect.scoped)
  )
})
