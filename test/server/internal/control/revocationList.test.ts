/** The list of revocations over a table that is long, or slow to read. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { make, type RevocationRow } from "../../../../src/server/internal/control/revocationList.ts"

/** A table of tokens by their numbers, which takes 4 s to read a page. */
const tableOf = (count: number) => {
  const table = { rows: [] as Array<RevocationRow>, longest: 0 }
  const add = (number: number) =>
    table.rows.push({ id: `${number}`, kind: "token", name: `${number}`, at: 0, expires: 1e12 })
  for (let number = 1; number <= count; number++) add(number)
  const read = (after: string) =>
    Effect.gen(function* () {
      const rows = table.rows.filter(({ id }) => Number(id) > Number(after)).slice(0, 10_000)
      table.longest = Math.max(table.longest, rows.length)
      if (rows.length > 1) yield* Effect.sleep(4000)
      return rows
    })
  return { add, read, table }
}

const principal = (token: number) => ({
  identity: "ann",
  key: "ann",
  expiresAt: Infinity,
  issued: undefined,
  token: `${token}`
})

describe("a long table", () => {
  it.effect("is known whole at the start, and no page of it makes a node blind later", () =>
    Effect.gen(function* () {
      const { add, read, table } = tableOf(95_000)
      const fiber = yield* Effect.forkScoped(make(read, () => undefined))
      yield* TestClock.adjust(41_000)
      const list = yield* Fiber.join(fiber)
      expect([1, 95_000].map((token) => list.refuses(principal(token)))).toEqual([true, true])
      // Meanwhile the node reads all of it again, and what is new beside it.
      for (let second = 0; second < 180; second++) {
        add(95_001 + second)
        yield* TestClock.adjust(1000)
        expect(list.blind()).toBe(false)
        expect(list.refuses(principal(95_001 + second - 20))).toBe(true)
      }
      // Rows that are lost are forgotten, and ids that begin again are read.
      table.rows.length = 0
      add(1)
      yield* TestClock.adjust(120_000)
      expect(list.refuses(principal(2))).toBe(false)
      add(2)
      yield* TestClock.adjust(2100)
      expect(list.refuses(principal(2))).toBe(true)
      expect(list.blind()).toBe(false)
    }).pipe(Effect.scoped)
  )
})

describe("a read that dies of a defect", () => {
  it.effect("of the whole table does not end the reads of the node after it", () =>
    Effect.gen(function* () {
      const { add, read } = tableOf(1)
      let known = false
      let faults = 1
      const list = yield* make(
        (after) =>
          Effect.suspend(() =>
            after === "0" && known && faults-- > 0 ? Effect.die(new Error("no row")) : read(after)
          ),
        () => undefined
      )
      known = true
      // The node reads it again after a minute.
      yield* Effect.repeat(TestClock.adjust(1000), { times: 70 })
      add(2)
      yield* Effect.repeat(TestClock.adjust(1000), { times: 10 })
      expect(list.refuses(principal(2))).toBe(true)
      expect(list.blind()).toBe(false)
    }).pipe(Effect.scoped)
  )
})
