/**
 * Cursors across a crash of PostgreSQL and a failover: no event is lost or delivered twice, with
 * writers running.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Path from "node:path"
import { execute } from "../support/database.ts"
import { long, random, seed } from "./support/random.ts"
import {
  Address,
  copyFolder,
  folder,
  followIn,
  installedOn,
  nodeAt,
  nothing,
  round,
  serverOn,
  working
} from "./support/recovery.ts"

const told = (what: string, tally: ReturnType<typeof nothing>) =>
  console.log(`${what}: ${JSON.stringify({ seed, ...tally })}`)

/** Counts that must be 0, whatever the database lost. */
const exact = (tally: ReturnType<typeof nothing>) => {
  const { followerGone, followerLost, followerTwice, lost, twice, worker } = tally
  expect({ lost, twice, followerLost, followerTwice, followerGone, ...worker, seed }).toMatchObject(
    {
      lost: 0,
      twice: 0,
      followerLost: 0,
      followerTwice: 0,
      followerGone: 0,
      missed: 0,
      again: 0,
      invented: 0
    }
  )
  expect(tally.cursors).toBeGreaterThan(10)
}

const waits = (off: boolean) => ({ synchronous_commit: off ? "off" : "on" })

const rounds = (few: number) => (long ? 40 : few)

describe("A crash of PostgreSQL", () => {
  it.live.each([
    ["with synchronous commits", false],
    ["with asynchronous commits", true]
  ] as const)(
    "after a crash %s no subscriber misses an event or receives it twice",
    ([what, off]) =>
      Effect.gen(function* () {
        const postgres = yield* installedOn(Path.join(yield* folder, "data"), waits(off))
        const address = new Address(postgres.socketDirectory)
        const node = yield* nodeAt(address)
        const worker = yield* working(node)
        const tally = nothing()
        for (let n = 0; n < rounds(2); n++) {
          yield* round({
            url: postgres.url,
            address,
            node,
            random: random(seed + n),
            fall: Effect.as(postgres.crash, postgres),
            tally
          })
        }
        tally.worker = yield* worker.check(postgres.url)
        told(`crash ${what}`, tally)
        exact(tally)
        if (!off) expect([tally.refused, tally.gone, tally.gaps]).toEqual([0, 0, 0])
      }).pipe(Effect.scoped),
    long ? 600_000 : 60_000
  )
})

describe("A failover to a standby", () => {
  it.live.each([
    ["with synchronous commits", false],
    ["with asynchronous commits", true]
  ] as const)(
    "after a failover %s no subscriber misses an event of the standby",
    ([what, off]) =>
      Effect.gen(function* () {
        const place = yield* folder
        let primary = yield* installedOn(Path.join(place, "0"), waits(off))
        const address = new Address(primary.socketDirectory)
        const node = yield* nodeAt(address)
        const worker = yield* working(node)
        const tally = nothing()
        for (let n = 0; n < rounds(1); n++) {
          const r = random(seed + n)
          const data = Path.join(place, String(n + 1))
          yield* primary.stop("fast")
          yield* copyFolder(primary.dataDirectory, data)
          yield* primary.start
          yield* followIn(data, primary)
          const standby = yield* serverOn(data, waits(off))
          const streaming = execute(
            primary.url,
            "select from pg_stat_replication where state = 'streaming'"
          )
          yield* Effect.repeat(streaming, { until: (rows) => rows.length === 1 })
          // A standby behind its primary: it receives nothing more a moment before the primary stops.
          const behind = r.chance(0.5)
          const deaf = Effect.andThen(
            execute(standby.url, "alter system set primary_conninfo = 'host=/nowhere'"),
            execute(standby.url, "select pg_reload_conf()")
          )
          const fall = Effect.gen(function* () {
            if (behind) {
              yield* deaf
              yield* Effect.sleep(r.int(60))
            }
            yield* primary.stop("immediate")
            yield* execute(standby.url, "select pg_promote(true)")
            return standby
          })
          const options = { url: primary.url, address, node, random: r, fall, tally }
          primary = yield* round(options)
        }
        tally.worker = yield* worker.check(primary.url)
        told(`promotion ${what}`, tally)
        exact(tally)
      }).pipe(Effect.scoped),
    long ? 900_000 : 60_000
  )
})
