/**
 * The rights on the state of a watched table: its function runs as the owner of the table, and
 * a policy that hides rows from the owner is an error and never a part of the rows.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, Redacted, Schema, type Scope } from "effect"
import type { SqlError } from "effect/sql/SqlError"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Channel from "../../src/Channel.ts"
import { sqlState } from "../../src/server/internal/link/sqlState.ts"
import { schemaVersion } from "../../src/server/internal/sql/schema.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import {
  databaseWith,
  execute,
  layerDatabase,
  serverUrl,
  TestDatabase
} from "../support/database.ts"
import { layerReaderOnly, session } from "./support/durable.ts"
import { script } from "./support/script.ts"

const Lots = Channel.table("lots", Schema.Struct({ id: Schema.Int, a: Schema.Int }), {
  key: "id",
  filter: "a"
})

const role = (options = "") =>
  Effect.gen(function* () {
    const name = `role_${randomBytes(4).toString("hex")}`
    // Before the database is made, so that it is dropped after it.
    yield* Effect.acquireRelease(execute(serverUrl(), `create role ${name} login ${options}`), () =>
      Effect.orDie(execute(serverUrl(), `drop role ${name}`))
    )
    return name
  })

const as = (url: string, name: string) => {
  const theirs = new URL(url)
  theirs.username = name
  return theirs.href
}

const on = (url: string) => PgClient.layer({ url: Redacted.make(url) })

const lots = OutboxReader.use((reader) =>
  reader.rows!({
    channel: "table_updates_lots",
    table: Lots.table,
    filter: undefined,
    limits: { rows: 100, bytes: 10_000 }
  })
)

/** The rows, or the tag of the error, for a node that connects so. */
const read = (url: string) =>
  lots.pipe(
    Effect.match({
      onSuccess: ({ rows }) => rows.join(),
      onFailure: ({ _tag, message }) => `${_tag}: ${message}`
    }),
    Effect.provide(Layer.fresh(layerReaderOnly({ upkeep: false }))),
    Effect.provide(Layer.fresh(on(url)))
  )

const owners = `select pg_get_userbyid(p.proowner)::text as name from pg_proc p where p.pronamespace = 'realtime'::regnamespace and p.proname ~ '^w[0-9]+_state$'`

const troubles = (url: string) =>
  Effect.map(
    execute(url, "select trouble, lossy from realtime.troubles()"),
    (rows) => rows as ReadonlyArray<{ readonly trouble: string; readonly lossy: boolean }>
  )

/** Fails with the code of the rejection. */
const refused = <A>(statement: Effect.Effect<A, SqlError, Scope.Scope>) =>
  Effect.map(Effect.flip(statement), sqlState)

const table = [
  "create table lots (id int primary key, a int)",
  "insert into lots values (1, 1), (2, 8)"
]

describe("The state of a table of another owner", () => {
  it.live(
    "it runs as the owner of the table, also after that changes, and the node reads no table",
    () =>
      Effect.gen(function* () {
        const [node, owner, next] = [yield* role(), yield* role(), yield* role()]
        const { url } = yield* databaseWith("")
        const run = (text: string) => execute(url, text)
        const install = (options?: PgInstaller.Options) =>
          PgInstaller.install(options).pipe(Effect.provide(Layer.fresh(on(url))))
        for (const text of table) yield* run(text)
        yield* run(`alter table lots owner to ${owner}`)
        yield* install({ watch: [Lots], roles: { node } })
        expect(yield* run(owners)).toEqual([{ name: owner }])
        const all = '{"id":1,"a":1},{"id":2,"a":8}'
        expect(yield* read(as(url, node))).toBe(all)
        // The owner gained nothing in the schema, and the node nothing on the table.
        for (const name of [owner, node]) {
          expect(
            yield* run(
              `select has_schema_privilege('${name}', 'realtime', 'create') a, has_table_privilege('${owner}', 'realtime.messages', 'select') b,
              has_table_privilege('${node}', 'lots', 'select') c, has_function_privilege('${node}', 'realtime.w1_state(text[], text, int, bigint)', 'execute') d`
            )
          ).toEqual([{ a: false, b: false, c: false, d: false }])
        }
        yield* run(`alter table lots owner to ${next}`)
        // Until a look writes it anew.
        expect(yield* read(as(url, node))).toBe(all)
        yield* run("select realtime.look()")
        expect(yield* run(owners)).toEqual([{ name: next }])
        // A table that is watched after the role was made, and an install that runs again.
        yield* run("create table more (id int primary key)")
        yield* run(`select realtime.watch('more', delivery => 'durable')`)
        yield* install({ roles: { node } })
        expect(yield* read(as(url, node))).toBe(all)
        expect(yield* refused(execute(as(url, node), "select * from lots"))).toBe("42501")
        yield* Effect.provide(PgInstaller.uninstall, Layer.fresh(on(url)))
        expect(yield* run("select to_regnamespace('realtime') is null gone")).toEqual([
          { gone: true }
        ])
      }).pipe(Effect.scoped)
  )

  it.live("an installer that may not act for the owner says so, and the owner watches again", () =>
    Effect.gen(function* () {
      const installer = yield* role()
      const owner = yield* role(`in role ${installer}`)
      const { url } = yield* databaseWith(`owner ${installer}`)
      const theirs = as(url, owner)
      yield* Effect.provide(PgInstaller.install(), on(as(url, installer)))
      yield* execute(url, `grant create on schema public to ${owner}`)
      for (const text of table) yield* execute(theirs, text)
      const watched = PgInstaller.watch(Lots).pipe(Effect.provide(Layer.fresh(on(theirs))))
      yield* watched
      expect(yield* read(as(url, installer))).toContain('{"id":1,"a":1}')
      expect(yield* troubles(url)).toEqual([])
      // A look runs as the installer.
      yield* execute(theirs, "alter table lots add b int")
      yield* execute(as(url, installer), "select realtime.look()")
      expect(yield* troubles(url)).toEqual([
        { trouble: expect.stringContaining(`no member of its owner ${owner}`), lossy: false }
      ])
      expect(yield* read(as(url, installer))).toMatch(/^ReplayError: .*no member of the owner/)
      // Its events go on.
      yield* execute(theirs, "insert into lots values (3, 3, 3)")
      expect(
        yield* execute(url, "select payload from realtime.messages where channel like 'table%'")
      ).toHaveLength(1)
      yield* execute(theirs, "update realtime.watched set signature = ''")
      yield* watched
      expect(yield* read(as(url, installer))).toContain('{"id":3,"a":3,"b":3}')
      expect(yield* troubles(url)).toEqual([])
      // A member of the owner, without any right of it in the schema.
      yield* execute(url, `revoke ${installer} from ${owner}`)
      yield* execute(url, `grant ${owner} to ${installer}`)
      yield* execute(theirs, "alter table lots drop b")
      yield* execute(as(url, installer), "select realtime.look()")
      expect(yield* execute(url, owners)).toEqual([{ name: owner }])
      expect(yield* read(as(url, installer))).toContain('{"id":3,"a":3}')
      expect(
        yield* execute(url, `select has_schema_privilege('${owner}', 'realtime', 'create') may`)
      ).toEqual([{ may: false }])
      yield* execute(url, `alter table lots owner to postgres`)
      yield* execute(url, `drop owned by ${owner}`)
    }).pipe(Effect.scoped)
  )
})

describe("The state of a table with row-level security", () => {
  it.live(
    "a forced policy is an error that check and a look report, and never a part of the rows",
    () =>
      Effect.gen(function* () {
        const owner = yield* role()
        const { url } = yield* databaseWith(`owner ${owner}`)
        const theirs = as(url, owner)
        for (const text of table) yield* execute(theirs, text)
        yield* Effect.provide(PgInstaller.install({ watch: [Lots] }), Layer.fresh(on(theirs)))
        for (const text of [
          "alter table lots enable row level security",
          "create policy few on lots using (a < 5)"
        ]) {
          yield* execute(theirs, text)
        }
        // The owner is not subject to it.
        expect(yield* read(theirs)).toBe('{"id":1,"a":1},{"id":2,"a":8}')
        expect(yield* troubles(theirs)).toEqual([])
        yield* execute(theirs, "alter table lots force row level security")
        expect(yield* read(theirs)).toMatch(/^ReplayError: .*row-level security/)
        expect(yield* troubles(theirs)).toEqual([
          {
            trouble:
              "row-level security is forced on its owner, so its rows cannot be read as a state",
            lossy: false
          }
        ])
        const logged: Array<string> = []
        yield* PgInstaller.check.pipe(
          Effect.provide(Layer.fresh(on(theirs))),
          Effect.provide(
            Logger.layer([Logger.make(({ message }) => void logged.push(String(message)))])
          )
        )
        expect(logged.join()).toContain("row-level security is forced on its owner")
        // No gap for it: the events are not touched.
        yield* execute(theirs, "select realtime.look()")
        expect(
          yield* execute(url, "select payload from realtime.messages where channel like 'table%'")
        ).toEqual([])
        yield* execute(url, `alter role ${owner} bypassrls`)
        expect(yield* read(theirs)).toBe('{"id":1,"a":1},{"id":2,"a":8}')
        expect(yield* troubles(theirs)).toEqual([])
      }).pipe(Effect.scoped)
  )
})

describe("An install of version 4", () => {
  const version4 = Fs.readFileSync(Path.join(import.meta.dirname, "support/version4.sql"), "utf8")

  it.live(
    "an upgrade adds states and a secret, and keeps cursors, triggers and the node role",
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const run = (text: string) => execute(url, text)
        yield* script(yield* session, version4)
        for (const text of table) yield* run(text)
        const watch = `select realtime.watch('lots', channel => 'table_updates_lots', delivery => 'durable', key => '{id}', filter => '{a}')`
        yield* run(watch)
        const node = `node_${randomBytes(4).toString("hex")}`
        yield* run(`create role ${node} login`)
        yield* Effect.addFinalizer(() =>
          Effect.ignore(run(`drop owned by ${node}`)).pipe(
            Effect.andThen(Effect.ignore(run(`drop role ${node}`)))
          )
        )
        yield* run(`grant usage on schema realtime to ${node}`)
        yield* run(
          `grant select on realtime.messages, realtime.horizon, realtime.marks, realtime.settings, realtime.epoch, realtime.watched to ${node}`
        )
        yield* run(
          `grant execute on function realtime.prune(int), realtime.open(int), realtime.identity() to ${node}`
        )
        yield* run(`grant select on sequence realtime.messages_id_seq to ${node}`)
        const kept = "select token, identity, origin from realtime.settings"
        const triggers =
          "select oid, tgname from pg_trigger where tgrelid = 'lots'::regclass order by 1"
        const before = [yield* run(kept), yield* run(triggers)]
        yield* Effect.provide(PgInstaller.install(), on(url))
        expect([yield* run(kept), yield* run(triggers)]).toEqual(before)
        expect(yield* run("select version, length(secret) n from realtime.settings")).toEqual([
          { version: schemaVersion, n: 64 }
        ])
        const [first] = yield* run("select secret from realtime.settings")
        yield* Effect.provide(PgInstaller.install(), Layer.fresh(on(url)))
        expect(yield* run("select secret from realtime.settings")).toEqual([first])
        expect(yield* read(as(url, node))).toBe('{"id":1,"a":1},{"id":2,"a":8}')
        expect(yield* troubles(url)).toEqual([])
      }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )
})
