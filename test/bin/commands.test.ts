/** The command line as a whole: help, version, completions, and exit codes. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { commands } from "../../src/bin/commands.ts"
import { settings } from "../../src/bin/gateway/settings.ts"
import { temporary } from "../support/temporary.ts"
import { recorded, recordedNames } from "./support/guide.ts"
import { record } from "./support/run.ts"

describe("the command line", () => {
  it("has a test for each output that the guide shows, and shows one of each command", () => {
    const tests = Fs.readdirSync(import.meta.dirname)
      .filter((name) => name.endsWith(".test.ts"))
      .map((name) => Fs.readFileSync(Path.join(import.meta.dirname, name), "utf8"))
      .join("\n")
    const compared = new Set(
      [...tests.matchAll(/recorded\("([\w-]+)"\)/g)].map(([, name]) => name!)
    )
    expect([...compared].toSorted()).toEqual(recordedNames().toSorted())
    for (const { name } of commands) {
      expect(recordedNames().some((one) => one === name || one.startsWith(`${name}-`))).toBe(true)
    }
  })

  it("prints in one place, which lets no code of a text through", () => {
    const sources = Path.resolve(import.meta.dirname, "../../src/bin")
    const printing = Fs.readdirSync(sources, { recursive: true, encoding: "utf8" }).filter(
      (name) =>
        name.endsWith(".ts") &&
        /\bConsole\b|console\.|stdout\.write/.test(
          Fs.readFileSync(Path.join(sources, name), "utf8").replaceAll(/^import .*$/gm, "")
        )
    )
    // The errors of a command line are formatted, and come from its user.
    expect(printing.toSorted()).toEqual(["main.ts", "shared/output.ts"])
  })

  it.live("lists its commands without arguments, and says its version", () =>
    Effect.gen(function* () {
      const { code, stdout } = yield* record([])
      expect(code).toBe(0)
      expect(stdout).toMatch(/SUBCOMMANDS\n {2}serve +\w/)
      expect(yield* record(["--version"])).toEqual({
        code: 0,
        stdout: "effect-realtime v0.1.0\n",
        stderr: ""
      })
    })
  )

  it.live("says in the help of each command what the value of each flag is", () =>
    Effect.gen(function* () {
      for (const { name } of commands) {
        const { code, stdout } = yield* record([name, "--help"])
        expect([code, stdout]).toEqual([0, expect.stringContaining("FLAGS")])
        // The words of the parser for what has no words of ours.
        expect(stdout, name).not.toMatch(/--[\w-]+ (?:choice|string|integer|number|file|path)\b/)
      }
    })
  )

  it.live("reads the variable of a setting with each command that has its flag", () =>
    Effect.gen(function* () {
      for (const { name } of commands) {
        const { stdout } = yield* record([name, "--help"])
        for (const { flag, variable } of settings) {
          if (flag === undefined || !new RegExp(`--${flag}[ ,]`).test(stdout)) continue
          expect(stdout, `${name} --${flag}`).toContain(`(${variable})`)
        }
      }
      const root = (env: string | undefined, ...args: ReadonlyArray<string>) =>
        record(["nats", ...args], { env: env === undefined ? {} : { REALTIME_NATS_ROOT: env } })
      const usual = yield* root(undefined)
      for (const other of [
        yield* root("my.root"),
        yield* root(undefined, "--root", "my.root"),
        yield* root("other", "--root", "my.root")
      ]) {
        expect(other).toEqual({
          ...usual,
          stdout: usual.stdout.replaceAll("effect_realtime", "my.root")
        })
      }
      expect((yield* root("a..b")).stderr).toMatch(
        /^error: REALTIME_NATS_ROOT: "a\.\.b" does not fit\. It must be 1-100 of A-Z a-z 0-9 _ - and single dots between them\.\n/
      )
      expect((yield* root(undefined, "--root", "a..b")).stderr).toMatch(
        /^error: --root: "a\.\.b" does not fit\. It must be 1-100 of /
      )
    })
  )

  it.live("prints completions for each shell", () =>
    Effect.gen(function* () {
      for (const shell of ["bash", "zsh", "fish", "powershell"]) {
        const { code, stdout } = yield* record(["--completions", shell])
        expect([code, stdout]).toEqual([0, expect.stringContaining("watch-durable")])
      }
    })
  )

  it.live("completes commands, flags, words and files in bash", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const { stdout } = yield* record(["--completions", "bash"])
      Fs.writeFileSync(Path.join(folder, "completions"), stdout)
      Fs.writeFileSync(Path.join(folder, "gateway.json"), "{}")
      /** As readline asks for the last word of a line. */
      const asked = `source ./completions
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=\${#COMP_LINE}
"$(complete -p effect-realtime | sed 's/.*-F \\([^ ]*\\).*/\\1/')" effect-realtime "\${@: -1}" "\${@: -2:1}"
printf '%s ' "\${COMPREPLY[@]}"`
      const completed = (...words: ReadonlyArray<string>) =>
        execFileSync("bash", ["--norc", "-c", asked, "bash", "effect-realtime", ...words], {
          cwd: folder,
          encoding: "utf8"
        }).trim()
      expect(completed("s")).toBe("serve sql status")
      expect(completed("serve", "--re")).toBe("--read")
      expect(completed("serve", "--read", "")).toBe("any signed-in")
      expect(completed("tail", "jobs", "--delivery", "d")).toBe("durable")
      for (const args of [
        ["serve", "--config", "gate"],
        ["serve", "--nats-ca", "gate"],
        ["tail", "jobs", "--cursor-file", "gate"],
        ["sql", "--definitions", "gate"]
      ]) {
        expect(completed(...args), args.join(" ")).toBe("gateway.json")
      }
    }).pipe(Effect.scoped)
  )

  it.live("answers a wrong command line on stderr, with the code 64", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* record(["sqll"])
      expect([code, stdout]).toEqual([64, ""])
      expect(stderr).toMatch(/^error: Unknown subcommand "sqll"/)
      expect(stderr).toMatch(/\nSee effect-realtime --help\.\n$/)
      expect((yield* record(["tail", "jobs"])).stderr).toBe(recorded("no-database"))
      const port = yield* record(["serve"], { env: { REALTIME_PORT: "many" } })
      expect(port.stderr).toBe(
        'error: REALTIME_PORT: "many" does not fit. It must be a whole number.\n'
      )
      for (const args of [
        ["sql", "--wake", "never"],
        ["sql", "--schema", "A b"],
        ["sql", "--columns", "id"],
        ["sql", "--watch", "a=b=c"],
        ["sql", "--retention", "long"],
        ["sql", "--retention", "-5 hours"],
        ["sql", "--max-messages", "0"],
        ["sql", "--unwatch", "a", "--watch", "b"],
        ["sql", "--watch", "My Table"],
        ["sql", "--apply"],
        ["nats", "--root", "a..b"]
      ]) {
        const wrong = yield* record(args)
        expect([wrong.code, wrong.stdout], args.join(" ")).toEqual([64, ""])
      }
    })
  )

  it.live("says of every flag in the same words what was given and what it must be", () =>
    Effect.gen(function* () {
      const told: ReadonlyArray<readonly [string, string, Readonly<Record<string, string>>?]> = [
        [
          "serve --live news --read team",
          '--read: "team" does not fit. It must be any or signed-in; a claim is a rule of the file that --config names.'
        ],
        [
          "serve --live news --publish=",
          '--publish: "" does not fit. It must be any or signed-in; a claim is a rule of the file that --config names.'
        ],
        ["serve --allow-all=maybe", '--allow-all: "maybe" does not fit. It must be true or false.'],
        ["serve --install=maybe", '--install: "maybe" does not fit. It must be true or false.'],
        ["serve --no-install=maybe", '--no-install takes no value, and "maybe" is given.'],
        ["serve --port many", '--port: "many" does not fit. It must be a whole number.'],
        ["serve --port 1 --port 2", "--port is given 2 times. Give it once."],
        ["serve --port", "--port needs a value: <n>."],
        [
          "tail jobs --delivery volatile",
          '--delivery: "volatile" does not fit. It must be live or durable.'
        ],
        ["tail jobs --delivery", "--delivery needs a value: live or durable."],
        // As of a variable of a shell that has no value.
        ...[
          "nats --identity=",
          "doctor --role=",
          "publish jobs 1 --key=",
          "sql --node-role=",
          "sql --app-role=",
          "sql --watch orders --columns=",
          "sql --watch orders --when-insert="
        ].map((line): readonly [string, string] => [
          line,
          `${/--[\w-]+(?==$)/.exec(line)![0]}: "" does not fit. It must be a text that is not empty.`
        ]),
        [
          "tail jobs --cursor-file=",
          '--cursor-file: "" does not fit. It must be a path that is not empty.'
        ],
        ["doctor --ignore", "--ignore needs a value: tls, primary,"],
        ["tail jobs --limit 0", '--limit: "0" does not fit. It must be a whole number from 1 on.'],
        ["tail jobs --limit 1.5", '--limit: "1.5" does not fit. It must be a whole number.'],
        ["sql --level table", '--level: "table" does not fit. It must be row or statement.'],
        ["sql --wake never", '--wake: "never" does not fit. It must be hybrid, notify or poll.'],
        ["sql --max-bytes many", '--max-bytes: "many" does not fit. It must be a whole number.'],
        [
          "sql --max-messages 0",
          '--max-messages: "0" does not fit. It must be a whole number from 1 on, or none.'
        ],
        ["sql --apply=maybe", '--apply: "maybe" does not fit. It must be true or false.'],
        [
          "status --interval soon",
          '--interval: "soon" does not fit. It must be a duration of at least 100 milliseconds, such as "5 seconds".'
        ],

        [
          "doctor --old-transaction soon",
          '--old-transaction: "soon" does not fit. It must be a duration such as "36 hours".'
        ],
        [
          "doctor --ignore everything",
          '--ignore: "everything" does not fit. It must be tls, primary, listen, clock, install, rights, tables, wake, retention, transactions, queue or autovacuum.'
        ],
        [
          "sql --schema Mine",
          '--schema: The schema "Mine" has no plain name: 1-31 of a-z 0-9 _, not beginning with a digit or "pg_".'
        ],
        [
          "sql",
          'REALTIME_SCHEMA: The schema "Mine" has no plain name: 1-31 of a-z 0-9 _, not beginning with a digit or "pg_".',
          { REALTIME_SCHEMA: "Mine" }
        ],
        [
          "publish realtime:x 1",
          'The channel name "realtime:x" is reserved. A name has 1-63 of A-Z a-z 0-9 _ . : -, and does not begin with "realtime:".'
        ],
        ["sql --completions tcsh", '--completions: "tcsh" does not fit. It must be bash, zsh,'],
        ["sql --log-level loud", '--log-level: "loud" does not fit. It must be all, trace,']
      ]
      for (const [line, said, env = {}] of told) {
        const { code, stderr, stdout } = yield* record(line.split(" "), {
          env: { DATABASE_URL: "postgres://u@127.0.0.1:1/app", ...env }
        })
        expect([code, stdout], line).toEqual([64, ""])
        expect(stderr.slice(0, `error: ${said}`.length), line).toBe(`error: ${said}`)
      }
    })
  )

  it.live(
    "says how a value that begins with a dash is given, and refuses a duration that is too short or has no end",
    () =>
      Effect.gen(function* () {
        const said = (...args: ReadonlyArray<string>) =>
          Effect.map(record(args), ({ code, stderr, stdout }) => {
            expect([code, stdout]).toEqual([64, ""])
            return stderr
          })
        expect(yield* said("publish", "jobs", "--key", "-5e4d1c", "1")).toBe(
          'error: "-5e4d1c" begins with "-", so it is read as flags. If it is the value of --key, write --key=-5e4d1c.\n'
        )
        expect(yield* said("sql", "--watch", "a", "--when-insert", "-1 < new.total")).toContain(
          "write --when-insert='-1 < new.total'."
        )
        expect(yield* said("sql", "--retention=-5 hours")).toContain(
          '--retention: "-5 hours" does not fit. It must be a duration such as "36 hours".'
        )
        expect(yield* said("doctor", "--old-transaction", "Infinity")).toContain(
          '--old-transaction: "Infinity" does not fit. It must be a duration such as "36 hours".'
        )
        for (const value of ["0 seconds", "99 millis", "-5 seconds", "Infinity"]) {
          expect(yield* said("status", "--watch", `--interval=${value}`)).toContain(
            `--interval: "${value}" does not fit. It must be a duration of at least 100 milliseconds, such as "5 seconds".`
          )
        }
        expect(yield* said("sql", "--retention", "0 hours")).toBe(
          'error: The option retention is 0. It must be a duration of at least 1 ms, and not for ever, such as "10 seconds".\n'
        )
      })
  )

  it.live(
    "says of a file of the URL that it cannot be read, and not that the database is away",
    () =>
      Effect.gen(function* () {
        const url = "postgres://u@127.0.0.1:1/app"
        const without = `${url}?sslmode=verify-full&sslrootcert=/not/there.pem`
        const tail = ["tail", "jobs", "--delivery", "durable", "--database"]
        expect((yield* record([...tail, without])).stderr).toBe(
          "error: The database URL names the file /not/there.pem as sslrootcert, which cannot be read (ENOENT). Check the path, and that this process may read the file.\n"
        )
        expect((yield* record([...tail, url])).stderr).toBe(
          "error: The database cannot be reached: connect ECONNREFUSED 127.0.0.1:1. Check the host and port of the database URL, and that the server runs.\n"
        )
      })
  )
})
