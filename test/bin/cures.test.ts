/** What each command says where PostgreSQL refuses: the printed cure is run, and the command works then. */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue, Redacted } from "effect"
import { execFileSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import { sentenceOf } from "../../src/bin/shared/cures.ts"
import { layerInstalled, publish } from "../server/support/durable.ts"
import { execute, layerDatabase, serverUrl, TestDatabase } from "../support/database.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { as, roleOf } from "../support/role.ts"
import { tcpServer } from "../support/tcpServer.ts"
import { serve } from "./support/gateway.ts"
import { recorded } from "./support/guide.ts"
import { record, start } from "./support/run.ts"

const commandsOf = (text: string) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith("npx "))
const statementsOf = (text: string) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.endsWith(";"))

/** Runs the printed lines of npx as a user. */
const runCommands = (text: string, url: string) =>
  Effect.gen(function* () {
    expect(commandsOf(text)).toHaveLength(1)
    for (const line of commandsOf(text)) {
      const words = line.replace(/^npx effect-realtime /, "")
      const args = execFileSync("sh", ["-c", `printf '%s\\n' ${words}`], { encoding: "utf8" })
        .trim()
        .split("\n")
      expect(yield* record([...args, "--database", url])).toMatchObject({ code: 0, stderr: "" })
    }
  })

/** Runs the printed lines of psql as the owner. */
const runStatements = (text: string, url: string) =>
  Effect.gen(function* () {
    expect(statementsOf(text).length).toBeGreaterThan(0)
    // In one session.
    yield* execute(url, `do $$ begin ${statementsOf(text).join(" ")} end $$`)
  })

interface Sample {
  readonly needs: "app" | "node"
  /** Fails with what the command says. */
  readonly run: (url: string) => Effect.Effect<string>
}

const ended = (args: ReadonlyArray<string>) => (url: string) =>
  Effect.map(record([...args, "--database", url]), ({ code, stderr }) => {
    expect(code).toBe(stderr.includes("error: ") ? 1 : 0)
    return code === 0 ? "works" : stderr
  })

/** A command that goes on until a signal. */
const going =
  (args: ReadonlyArray<string>) =>
  (url: string): Effect.Effect<string> =>
    Effect.gen(function* () {
      const running = yield* start([...args, "--database", url])
      return yield* Effect.raceFirst(
        Effect.as(Queue.take(running.lines), "works"),
        Effect.map(running.ended, ({ stderr }) => stderr)
      )
    }).pipe(Effect.scoped) as Effect.Effect<string>

/** With the rights that each needs, each does something. */
const samples: Readonly<Record<string, Sample>> = {
  "publish to a durable channel": {
    needs: "app",
    run: ended(["publish", "jobs", "1", "--delivery", "durable"])
  },
  "tail of a durable channel": {
    needs: "node",
    run: going(["tail", "jobs", "--json", "--delivery", "durable"])
  },
  status: { needs: "node", run: ended(["status"]) },
  serve: {
    needs: "node",
    run: going(["serve", "--port", "0", "--allow-all", "--durable", "jobs"])
  },
  "serve --no-install": {
    needs: "node",
    run: going(["serve", "--port", "0", "--allow-all", "--durable", "jobs", "--no-install"])
  }
}

/** Each with a role of its own. */
const withRoles = Effect.forEach(Object.entries(samples), ([name, sample]) =>
  Effect.map(roleOf("stranger"), (role) => ({ name, role, ...sample }))
)

/** Not all at once: each command listens to the stdin of this process. */
const together = <A, B, R>(all: ReadonlyArray<A>, run: (one: A) => Effect.Effect<B, never, R>) =>
  Effect.forEach(all, run, { concurrency: 2 })

describe.concurrent("the cure of a command", () => {
  it.live("installs and gives the role its rights, where the objects are missing", () =>
    Effect.gen(function* () {
      const all = yield* withRoles
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const said = yield* together(all, ({ role, run }) => run(as(url, role)))
        for (const [index, { name, needs, role }] of all.entries()) {
          const text = said[index]!
          expect(text, name).toContain(
            "error: The database does not have the objects of effect-realtime in schema realtime."
          )
          expect(text, name).toContain(
            `  npx effect-realtime sql --${needs}-role ${role} --apply\n`
          )
          expect(text, name).not.toMatch(/PgInstaller|NOTIFY|Check the database URL/)
          yield* runCommands(text, url)
        }
        const worked = yield* together(all, ({ role, run }) => run(as(url, role)))
        expect(worked).toEqual(all.map(() => "works"))
      }).pipe(Effect.scoped, Effect.provide(layerDatabase))
    }).pipe(Effect.scoped)
  )

  it.live("gives the role the rights that the command needs, and no more", () =>
    Effect.gen(function* () {
      const all = yield* withRoles
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const said = yield* together(all, ({ role, run }) => run(as(url, role)))
        for (const [index, { name, needs, role }] of all.entries()) {
          const text = said[index]!.slice(said[index]!.lastIndexOf("error: "))
          expect(text, name).toContain(`permission denied for schema realtime: role ${role} lacks `)
          expect(text, name).not.toMatch(/PgInstaller|NOTIFY|Check the database URL/)
          expect(commandsOf(text), name).toEqual([
            `npx effect-realtime sql --${needs}-role ${role} --apply`
          ])
          expect(statementsOf(text), name).toHaveLength(needs === "app" ? 3 : 32)
          if (needs === "app") {
            const owner = new URL(url).searchParams.get("user") ?? new URL(url).username
            expect(text.replaceAll(role, "shop").replace(`role ${owner},`, "role postgres,")).toBe(
              recorded("publish-rights")
            )
          }
          yield* runStatements(text, url)
        }
        const worked = yield* together(all, ({ role, run }) => run(as(url, role)))
        expect(worked).toEqual(all.map(() => "works"))
      }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
    }).pipe(Effect.scoped)
  )

  it.live("names the right on the secret of the bus", () =>
    Effect.gen(function* () {
      const role = yield* roleOf("node")
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        yield* execute(url, `revoke select on realtime.bus_secrets from ${role}`)
        const overNats =
          executablePath === undefined
            ? []
            : [ended(["status", "--nats", (yield* natsServer()).address])]
        for (const run of [samples["status"]!.run, samples["serve"]!.run, ...overNats]) {
          const said = yield* run(as(url, role))
          expect(said).toContain(`grant select on realtime.bus_secrets to ${role};\n`)
          expect(statementsOf(said)).toHaveLength(1)
          expect(said).not.toContain("roles.node")
        }
        yield* runStatements(yield* samples["status"]!.run(as(url, role)), url)
        expect(yield* samples["status"]!.run(as(url, role))).toBe("works")
        expect(yield* samples["serve"]!.run(as(url, role))).toBe("works")
      }).pipe(Effect.scoped, Effect.provide(layerInstalled({ roles: { node: role } })))
    }).pipe(Effect.scoped)
  )

  it.live("says of --lines where to go on, and what the role lacks", () =>
    Effect.gen(function* () {
      const role = yield* roleOf("app")
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const lines = ["publish", "jobs", "--lines", "--delivery", "durable"]
        const publishing = record([...lines, "--database", as(url, role)], { stdin: "1\n2\n" })
        const refused = yield* publishing
        expect(refused.stderr).toContain("Line 1: 0 before it are published: go on with line 1.")
        expect(refused.stderr).toContain(`grant usage on schema realtime to ${role};\n`)
        yield* runCommands(refused.stderr, url)
        expect((yield* publishing).stdout).toBe("published 2 to jobs (durable)\n")
      }).pipe(Effect.provide(layerInstalled()))
    }).pipe(Effect.scoped)
  )

  it.live("is none for live channels, which every role may use", () =>
    Effect.gen(function* () {
      const role = yield* roleOf("stranger")
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const database = ["--database", as(url, role)]
        const tail = yield* start(["tail", "news", "--delivery", "live", ...database])
        const publishing = record(["publish", "news", "1", "--delivery", "live", ...database])
        // Until the link listens.
        yield* Effect.raceFirst(
          Queue.take(tail.lines),
          Effect.forever(
            Effect.andThen(
              Effect.tap(publishing, ({ code }) => Effect.sync(() => expect(code).toBe(0))),
              Effect.yieldNow
            )
          )
        )
      }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
      // With the objects a gateway reads revocations.
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        yield* serve(["--live", "news", "--allow-all", "--database", as(url, role)])
      }).pipe(Effect.scoped, Effect.provide(layerDatabase))
    }).pipe(Effect.scoped)
  )

  it.live("of sql is for its owner: the schema, the roles, the objects and the tables", () =>
    Effect.gen(function* () {
      const role = yield* roleOf("deployer")
      const owner = yield* roleOf("owner")
      const node = `node_${role}`
      yield* Effect.addFinalizer(() =>
        Effect.orDie(execute(serverUrl(), `drop role if exists ${node}`))
      )
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const sql = yield* PgClient.PgClient
        yield* sql`create table orders (id int primary key)`
        yield* sql.unsafe(`alter table orders owner to ${owner}`)
        const apply = (user: string, ...args: ReadonlyArray<string>) =>
          Effect.map(record(["sql", ...args, "--apply", "--database", as(url, user)]), (ran) => {
            expect(ran.stderr).not.toMatch(/rights of a node|connect|PgInstaller/)
            return ran
          })
        // Not to create a schema.
        const first = yield* apply(role)
        expect([first.code, statementsOf(first.stderr)]).toEqual([
          1,
          [expect.stringMatching(/^grant create on database t_\w+ to deployer_\w+;$/)]
        ])
        yield* runStatements(first.stderr, url)
        expect(yield* apply(role)).toMatchObject({ code: 0, stderr: "" })
        // Not to create a role.
        const roles = yield* apply(role, "--node-role", node)
        expect(statementsOf(roles.stderr)).toEqual([`alter role ${role} createrole;`])
        yield* runStatements(roles.stderr, url)
        expect(yield* apply(role, "--node-role", node)).toMatchObject({ code: 0, stderr: "" })
        // Not the owner of the objects.
        for (const args of [[], ["--watch", "orders"], ["--unwatch", "orders"], ["--uninstall"]]) {
          const { code, stderr } = yield* apply(owner, ...args)
          expect([code, stderr], args.join(" ")).toEqual([
            1,
            expect.stringContaining(`Run this as role ${role}, with its name as the user`)
          ])
        }
        // Not of the table.
        const watch = yield* apply(role, "--watch-durable", "orders")
        expect(statementsOf(watch.stderr)).toEqual([`grant ${owner} to ${role};`])
        yield* runStatements(watch.stderr, url)
        expect(yield* apply(role, "--watch-durable", "orders")).toMatchObject({
          code: 0,
          stderr: ""
        })
        // Of a superuser it is no grant.
        yield* sql`create table notes (id int primary key)`
        const notes = yield* apply(role, "--watch", "notes")
        expect(notes.stderr).toContain("Run this as that role")
        expect(statementsOf(notes.stderr)).toEqual([])
        expect(yield* apply(role, "--uninstall")).toMatchObject({ code: 0, stderr: "" })
        // Without the objects no table is watched.
        const none = yield* apply(role, "--unwatch", "orders")
        expect(none.stderr).toContain("The database does not have the objects of effect-realtime")
      }).pipe(Effect.provide(layerDatabase))
    }).pipe(Effect.scoped)
  )

  it.live("names the database and the role that may not connect, in every command", () =>
    Effect.gen(function* () {
      const role = yield* roleOf("stranger")
      yield* Effect.gen(function* () {
        const { name, url } = yield* TestDatabase
        yield* execute(url, `revoke connect on database ${name} from public`)
        const grant = `grant connect on database "${name}" to "${role}";`
        for (const [command, code] of [
          ["publish jobs 1 --delivery durable", 1],
          ["publish jobs 1 --delivery live", 1],
          ["tail jobs --delivery durable", 1],
          ["tail jobs --delivery live", 1],
          ["status", 1],
          ["sql --apply", 1],
          ["serve --port 0 --allow-all --durable jobs", 1],
          ["serve --port 0 --allow-all --live news", 1],
          ["doctor", 2]
        ] as const) {
          const refused = yield* record([...command.split(" "), "--database", as(url, role)])
          expect([refused.code, statementsOf(refused.stderr)], command).toEqual([code, [grant]])
        }
        yield* execute(url, grant)
        expect(
          yield* record(["publish", "news", "1", "--delivery", "live", "--database", as(url, role)])
        ).toMatchObject({ code: 0 })
      }).pipe(Effect.provide(layerInstalled()))
    }).pipe(Effect.scoped)
  )

  it.live("is for the role of --listen, where that is the one that is refused", () =>
    Effect.gen(function* () {
      const role = yield* roleOf("reader")
      yield* Effect.gen(function* () {
        const { name, url } = yield* TestDatabase
        const listen = ["--listen", as(url, role)]
        const tailing = going(["tail", "jobs", "--json", "--delivery", "durable", ...listen])(url)
        yield* execute(url, `revoke connect on database ${name} from public`)
        const closed = yield* tailing
        expect(statementsOf(closed)).toEqual([expect.stringMatching(`, "${role}";$`)])
        yield* runStatements(closed, url)
        const refused = yield* tailing
        expect(refused).toContain(`role ${role} lacks 32 of the rights of a node. `)
        yield* runCommands(refused, url)
        expect(yield* tailing).toBe("works")
      }).pipe(Effect.provide(layerInstalled()))
    }).pipe(Effect.scoped)
  )

  it.live("quotes the names of a database and of a role, for psql and for the shell", () =>
    Effect.gen(function* () {
      const odd = (text: string) => `${text} ${randomBytes(4).toString("hex")}`
      const [name, role] = [odd('My "shop'), odd(`"Order" Desk's`)]
      const [database, user] = [name, role].map((one) => `"${one.replaceAll('"', '""')}"`)
      const made = (kind: string, rest: string, gone: string) =>
        Effect.acquireRelease(execute(serverUrl(), `create ${kind} ${rest}`), () =>
          Effect.orDie(execute(serverUrl(), `drop ${kind} ${gone}`))
        )
      yield* made("role", `${user} login`, `${user}`)
      yield* made("database", `${database}`, `${database} with (force)`)
      const there = new URL(serverUrl())
      there.pathname = `/${encodeURIComponent(name)}`
      const publishing = record([
        "publish",
        "jobs",
        "1",
        "--delivery",
        "durable",
        "--database",
        as(there.href, role)
      ])
      yield* execute(there.href, `revoke connect on database ${database} from public`)
      const closed = yield* publishing
      expect(statementsOf(closed.stderr)).toEqual([
        `grant connect on database ${database} to ${user};`
      ])
      yield* runStatements(closed.stderr, there.href)
      yield* runCommands((yield* publishing).stderr, there.href)
      expect(yield* publishing).toMatchObject({ code: 0, stderr: "" })
      yield* execute(there.href, `revoke usage on schema realtime from ${user}`)
      yield* runStatements((yield* publishing).stderr, there.href)
      expect(yield* publishing).toMatchObject({ code: 0, stderr: "" })
    }).pipe(Effect.scoped)
  )

  it.live("of doctor gives the role the rights of a node, by npx or psql", () =>
    Effect.gen(function* () {
      const [one, two] = [yield* roleOf("one"), yield* roleOf("two")]
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const rights = (role: string) =>
          Effect.map(
            record(["doctor", "--json", "--database", as(url, role), "--ignore", "listen"]),
            ({ stdout }) =>
              stdout
                .split("\n")
                .filter((line) => line.startsWith('{"check":"rights"'))
                .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>)[0]!
          )
        const { cure, lines } = yield* rights(one)
        const line = /npx .* --apply/.exec(String(cure))![0]
        expect(line).toBe(`npx effect-realtime sql --node-role ${one} --apply`)
        yield* runCommands(line, url)
        expect(yield* rights(one)).toMatchObject({ status: "ok" })
        const all = (lines as ReadonlyArray<string>).join("\n")
        yield* runStatements(all.replaceAll(one, two), url)
        expect(yield* rights(two)).toMatchObject({ status: "ok" })
      }).pipe(Effect.provide(layerInstalled()))
    }).pipe(Effect.scoped)
  )

  it.live("takes the schema along, and names the schema that has the objects", () =>
    Effect.gen(function* () {
      const role = yield* roleOf("stranger")
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const durable = ["publish", "jobs", "1", "--delivery", "durable"]
        const publishing = (...args: ReadonlyArray<string>) =>
          record([...durable, ...args, "--database", as(url, role)])
        const refused = yield* publishing("--schema", "events")
        expect(refused.stderr).toContain("in schema events. Let a role")
        yield* runCommands(refused.stderr, url)
        expect((yield* publishing("--schema", "events")).code).toBe(0)
        const named = "Schema events has them: if you mean that one, give --schema events."
        expect((yield* publishing()).stderr).toContain(`in schema realtime. ${named} Let a role`)
        // A role that may create other schemas does not install into that of another role.
        yield* execute(
          url,
          `do $$ begin create schema realtime; grant usage on schema realtime to ${role};
          execute format('grant create on database %I to ${role}', current_database()); end $$`
        )
        const others = (yield* publishing()).stderr
        expect(others).toMatch(/ Let role \S+, which owns the schema, run:\n/)
        expect(commandsOf(others)).toEqual([`npx effect-realtime sql --app-role ${role} --apply`])
        yield* execute(url, `drop schema realtime`)
        // Of an install that lost a function it is not said that another schema has it.
        yield* execute(url, `drop function events.publish(text, text, text)`)
        const lost = (yield* publishing("--schema", "events")).stderr
        expect(lost).toContain(
          "does not have all objects of effect-realtime in schema events. Let role "
        )
        yield* runCommands(lost, url)
        expect((yield* publishing("--schema", "events")).code).toBe(0)
        const doctor = yield* record(["doctor", "--database", url, "--ignore", "listen"])
        expect(doctor.stdout).toContain(`in schema realtime. ${named}\n`)
      }).pipe(Effect.provide(layerDatabase))
    }).pipe(Effect.scoped)
  )
})

describe("a server that accepts and says nothing", () => {
  it.live("is one that cannot be reached", () =>
    Effect.gen(function* () {
      const database = Redacted.make(`postgres://nobody@127.0.0.1:${yield* tcpServer()}/app`)
      const error = yield* Effect.flip(
        PgConnection.make({ url: database, connectTimeout: "50 millis" })
      )
      expect(yield* sentenceOf({ database, schema: "realtime" }, "node")(error)).toBe(
        "The database cannot be reached: Connection timed out. Check the host and port of the database URL, and that the server runs."
      )
    }).pipe(Effect.scoped)
  )
})

describe("a URL that is none", () => {
  it.live("ends every command with the code 64, also as --listen", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* publish("jobs", 1)
      for (const command of [
        "publish jobs 1 --delivery durable",
        "tail jobs --delivery durable",
        "tail jobs --delivery live",
        "status",
        "sql --apply",
        "serve --port 0 --allow-all --live news",
        "doctor"
      ]) {
        const args = command.split(" ")
        for (const wrong of ["garbage", `${url.split("?")[0]}?sslmode=never`]) {
          const refused = yield* record([...args, "--database", wrong])
          expect([refused.code, refused.stdout, refused.stderr], command).toEqual([
            64,
            "",
            expect.stringMatching(/^error: (--database: )?The database URL /)
          ])
        }
        if (!/^(publish|sql)/.test(command)) {
          const refused = yield* record([...args, "--database", url, "--listen", "garbage"])
          expect([refused.code, refused.stderr], command).toEqual([
            64,
            expect.stringContaining("error: --listen: The database URL is no URL. ")
          ])
        }
      }
      // It connects to nothing.
      expect(yield* record(["sql", "--database", "garbage"])).toMatchObject({ code: 0 })
    }).pipe(Effect.provide(layerInstalled()))
  )
})
