/** A fed node hands out every event exactly once, whatever the network and the readers do. */
import { describe, expect, it } from "@effect/vitest"
import { long, random, seed } from "../../support/random.ts"
import { type Mutant, play } from "./feedModel.ts"

const steps = 600
const exact = { lost: 0, doubled: 0, phantom: 0, behind: 0 }

describe("A fed node", () => {
  it(`hands out each event once, seed ${seed}`, { timeout: 300_000 }, () => {
    for (let round = 0; round < (long ? 200 : 2); round++) {
      const found = play(random(seed + round), "none", steps)
      expect({ round, ...found }).toMatchObject({ round, ...exact })
    }
  })

  // The same history for each, with a seed that is known to tell them apart.
  it("is fed by ticks, and reads where something is missing", () => {
    const found = play(random(0), "none", steps)
    expect(found).toMatchObject(exact)
    expect([found.fed > 0, found.repaired > 0, found.refused > 0]).toEqual([true, true, true])
  })

  it.each<Mutant>(["any from", "uncounted", "by number"])(
    'loses events, or receives them twice, without the rule that the mutant "%s" lacks',
    (mutant) => {
      const { doubled, lost } = play(random(0), mutant, steps)
      expect(lost + doubled).toBeGreaterThan(0)
    }
  )
})
