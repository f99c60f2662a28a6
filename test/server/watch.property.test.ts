/**
 * Random tables, random alterations by the owner, and random statements by sessions with random
 * settings: no statement fails that would not fail unwatched, and the events of each channel equal
 * the table.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { layerInstalled } from "./support/durable.ts"
import { hostility, plain } from "./support/hostile.ts"
import { long, seed } from "./support/random.ts"
import { typesOf } from "./support/wild/types.ts"
import { eyes, type Pair, type Universe, world } from "./support/wild/world.ts"

const worlds = long ? 1000 : 24
const transactions = 14
/** Milliseconds after which a short run begins no other world. */
const enough = long ? Infinity : 20_000

const universe = Effect.gen(function* () {
  const owner = yield* plain
  const hostile = yield* hostility
  for (const sql of eyes) yield* owner.query(sql, [], false)
  const { types, unknown } = yield* typesOf(owner)
  const [wild, tame] = [
    [yield* plain, ...(yield* hostile.sessions)],
    [yield* plain, ...(yield* hostile.sessions)]
  ]
  const pairs: Array<Pair> = []
  for (const [at, session] of wild.entries()) {
    const role = yield* session.query(`select current_user = session_user as owns`)
    pairs.push({ wild: session, tame: tame[at]!, owns: role.rows[0]!["owns"] === true })
  }
  const [server] = (yield* owner.query(
    `select current_setting('server_version_num')::int as version, exists (select from pg_collation where collprovider = 'i') as icu`
  )).rows
  const version = Number(server!["version"])
  const made: Universe = {
    owner,
    ear: yield* (yield* plain).pin,
    pairs,
    visitor: hostile.visitor,
    types,
    server: { merge: version >= 150_000, virtual: version >= 180_000, icu: server!["icu"] === true }
  }
  return { made, unknown }
})

describe("Random watched tables", () => {
  it.live(
    "the events of random watched tables equal the tables after every commit",
    () =>
      Effect.gen(function* () {
        const { made, unknown } = yield* universe
        // A type without a known value would never be drawn.
        expect(unknown).toEqual([])
        let told = 0
        const failed: Array<string> = []
        const end = performance.now() + enough
        for (let n = 0; n < worlds && performance.now() < end; n++) {
          const { faults, script, told: more } = yield* world(made, seed + n, transactions)
          told += more
          if (faults.length === 0) continue
          failed.push(
            [
              `REALTIME_TEST_SEED=${seed + n}`,
              ...(failed.length === 0 ? script : []),
              ...faults
            ].join("\n")
          )
        }
        expect(failed.join("\n\n")).toBe("")
        expect(told).toBeGreaterThan(transactions)
      }).pipe(Effect.scoped, Effect.provide(layerInstalled())),
    long ? 3_600_000 : 120_000
  )
})
