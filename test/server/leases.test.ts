/** Leases in the database: one holder at a time, a term that grows, and the upgrade that brings them. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Redacted, Scope } from "effect"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { statementsOf } from "../../bench/lib/statements.ts"
import { schemaVersion } from "../../src/server/internal/sql/schema.ts"
import * as Reader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { databaseHop } from "../support/hop.ts"
import { layerInstalled, layerReader, quick, session } from "./support/durable.ts"
import { script } from "./support/script.ts"

const sqlLeases = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const one = <Row extends object>(text: string) =>
    Effect.map(sql.unsafe<Row>(text), ([row]) => row)
  return {
    sql,
    take: (incarnation: string) =>
      one<{ readonly term: string | null; readonly wait: number | null }>(
        `select term::text, wait_ms wait from realtime.take_lease('l', 'node', '${incarnation}')`
      ),
    renew: (incarnation: string, term: number) =>
      Effect.map(
        one<{ readonly mine: boolean }>(
          `select realtime.renew_lease('l', '${incarnation}', ${term}) mine`
        ),
        (row) => row?.mine
      ),
    ends: (at: string) => sql.unsafe(`update realtime.leases set expires_at = ${at}`)
  }
})

/** The reader's own lease, in a scope that the test closes. */
const held = (name: string) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const reader = yield* Reader.OutboxReader
    const lease = yield* Scope.provide(reader.lease!(name), scope)
    return { lease, close: Scope.close(scope, Exit.void) }
  })

describe("A lease", () => {
  it.live("one holder has it until it ends, and the next one has a higher term", () =>
    Effect.gen(function* () {
      const { ends, renew, take } = yield* sqlLeases
      expect(yield* take("a")).toEqual({ term: "1", wait: null })
      const { term, wait } = (yield* take("b"))!
      expect(term).toBe(null)
      expect(wait! > 0 && wait! <= 4000).toBe(true)
      expect(yield* renew("a", 1)).toBe(true)
      expect([yield* renew("b", 1), yield* renew("a", 2)]).toEqual([false, false])
      yield* ends("clock_timestamp()")
      expect(yield* take("b")).toEqual({ term: "2", wait: null })
      expect(yield* renew("a", 1)).toBe(false)
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("it ends also where the clock of the database was set back", () =>
    Effect.gen(function* () {
      const { ends, renew, take } = yield* sqlLeases
      yield* take("a")
      yield* ends("clock_timestamp() + interval '1 hour'")
      expect(yield* take("b")).toEqual({ term: "2", wait: null })
      // A holder that lives has a usual end again.
      yield* ends("clock_timestamp() + interval '1 hour'")
      expect(yield* renew("b", 2)).toBe(true)
      expect((yield* take("c"))!.term).toBe(null)
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a node that waits has it as soon as the holder releases it", () =>
    Effect.gen(function* () {
      const { sql } = yield* sqlLeases
      const first = yield* held("work")
      const second = yield* Effect.forkChild(held("work"))
      expect([first.lease.term, first.lease.held()]).toEqual([1n, true])
      yield* first.close
      const { lease, close } = yield* Fiber.join(second)
      expect([lease.term, lease.held()]).toEqual([2n, true])
      yield* close
      expect(yield* sql`select name, expires_at::text from realtime.leases`).toEqual([
        { name: "work", expires_at: "-infinity" }
      ])
    }).pipe(Effect.provide(layerReader()))
  )

  it.live("a holder notices at its next renewal that another one has it", () =>
    Effect.gen(function* () {
      const { sql } = yield* sqlLeases
      const { close, lease } = yield* held("work")
      const lost = yield* Deferred.make<void>()
      yield* Effect.forkChild(Effect.andThen(lease.lost, Deferred.succeed(lost, undefined)))
      yield* sql`update realtime.leases set term = 7, incarnation = 'other'`
      yield* Deferred.await(lost)
      expect(lease.held()).toBe(false)
      yield* close
      // What is not its own it does not release.
      expect(yield* sql`select term::int from realtime.leases where isfinite(expires_at)`).toEqual([
        { term: 7 }
      ])
    }).pipe(Effect.provide(layerReader()))
  )
})

describe("Many leases of one node", () => {
  it.live("are renewed together, in few statements, whatever their names are", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      let statements = 0
      const through = yield* databaseHop(
        url,
        statementsOf(() => statements++)
      )
      const reader = yield* Reader.make({ ...quick, readUrl: Redacted.make(through.url) })
      const names = Array.from({ length: 200 }, (_, n) => `é"\\{,}${n}`)
      const leases = yield* Effect.forEach(names, (name) => reader.lease!(name), {
        concurrency: "unbounded"
      })
      const before = statements
      const { sql } = yield* sqlLeases
      const ends = (which: "min" | "max") =>
        Effect.map(
          sql.unsafe<{ readonly at: number }>(
            `select extract(epoch from ${which}(expires_at))::float8 at from realtime.leases`
          ),
          ([row]) => row!.at
        )
      const first = yield* ends("max")
      // Each of them twice.
      yield* Effect.repeat(Effect.delay(ends("min"), 50), { until: (at) => at > first + 1 })
      expect(statements - before).toBeLessThan(names.length)
      expect(leases.every(({ held, term }) => held() && term === 1n)).toBe(true)
      expect(yield* sql`select name from realtime.leases order by name`).toEqual(
        names.toSorted().map((name) => ({ name }))
      )
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})

describe("An install of version 5", () => {
  const version5 = Fs.readFileSync(Path.join(import.meta.dirname, "support/version5.sql"), "utf8")

  it.live("an upgrade adds leases, and keeps messages, cursors and the node role", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const run = (text: string) => execute(url, text)
      yield* script(yield* session, version5)
      const node = `node_${randomBytes(4).toString("hex")}`
      yield* Effect.acquireRelease(run(`create role ${node} login`), () =>
        Effect.orDie(Effect.andThen(run(`drop owned by ${node}`), run(`drop role ${node}`)))
      )
      yield* run(`grant usage on schema realtime to ${node}`)
      yield* run(`grant execute on function realtime.prune(int) to ${node}`)
      yield* run(`select realtime.publish('log', '1'::text)`)
      yield* run(`insert into realtime.consumers values ('c', 'log', '2.x')`)
      const kept = [
        "select token, identity, origin, secret from realtime.settings",
        "select txid::text, id, channel, payload from realtime.messages order by id",
        "select * from realtime.consumers"
      ]
      const before = yield* Effect.forEach(kept, run)
      const theirs = new URL(url)
      theirs.username = node
      yield* Effect.provide(PgInstaller.install(), PgClient.layer({ url: Redacted.make(url) }))
      expect(yield* Effect.forEach(kept, run)).toEqual(before)
      expect(yield* run("select version from realtime.settings")).toEqual([
        { version: schemaVersion }
      ])
      expect(
        yield* execute(theirs.href, "select term::int from realtime.take_lease('l', 'n', 'i')")
      ).toEqual([{ term: 1 }])
      // It may install again, and uninstall removes what it has added.
      const installed = yield* run("select count(*)::int n from realtime.leases")
      expect(installed).toEqual([{ n: 1 }])
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )
})
