import { describe, expect, it } from "@effect/vitest"
import {
  type Filter,
  judge,
  make,
  type MatchTexts
} from "../../../../src/server/internal/filter.ts"
import { FilterIndex } from "../../../../src/server/internal/hub/filterIndex.ts"
import { random, seed } from "../../support/random.ts"

const holderOf = (filter: Filter | undefined) => ({ filter: filter! })

describe("the index of filters", () => {
  it("finds every filter that a change touches, also after others are removed", () => {
    const { chance, int, pick } = random(seed)
    const texts = ["a", "b", "c", "d", null]
    const columns = ["status", "owner", "team"]
    for (let round = 0; round < 30; round++) {
      const index = new FilterIndex<{ filter: Filter }>()
      const holders = Array.from({ length: 30 }, () =>
        holderOf(
          make(
            Object.fromEntries(
              columns
                .filter((_, at) => at === round % 3 || chance(0.4))
                .map((name) => [
                  name,
                  chance(0.3) ? null : texts.filter((text) => text !== null && chance(0.4))
                ])
            ) as never
          )
        )
      )
      for (const holder of holders) index.add(holder)
      for (const holder of holders.splice(0, int(20))) index.remove(holder)
      expect(index.size).toBe(holders.length)
      const side = () =>
        Object.fromEntries(
          columns.filter(() => chance(0.9)).map((name) => [name, pick(texts)] as const)
        )
      for (let change = 0; change < 20; change++) {
        const match: MatchTexts = {
          ...(chance(0.8) && { old: side() }),
          ...(chance(0.8) && { new: side() })
        }
        const found = [...index.touched(match)]
        expect(new Set(found).size).toBe(found.length)
        const judged = (list: ReadonlyArray<{ filter: Filter }>) =>
          new Set(list.filter(({ filter }) => judge(filter, match) !== "outside"))
        expect(judged(found), `seed ${seed}`).toEqual(judged(holders))
      }
      for (const holder of holders) index.remove(holder)
      expect([...index.touched({ old: side(), new: side() })]).toEqual([])
    }
  })

  it("puts a filter under the column whose texts have the fewest filters", () => {
    const index = new FilterIndex<{ filter: Filter }>()
    for (let owner = 0; owner < 1000; owner++) {
      index.add(holderOf(make({ status: "new", owner: `o${owner}` })))
    }
    const change = { new: { status: "new", owner: "o7" } }
    expect([...index.touched(change)].length).toBeLessThan(5)
  })
})
