/**
 * The order of the test files: the slowest first, so that no worker ends long before the other one.
 * Vitest remembers how long they took, but in a fresh checkout it orders them by size.
 */
import { relative } from "node:path"
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** Files that take ten seconds and more on two cores, the slowest first. */
const long = [
  "test/whole/storm.test.ts",
  "test/bench/smoke.test.ts",
  "test/whole/law.test.ts",
  "test/whole/durable.test.ts",
  "test/whole/fuzz.test.ts",
  "test/whole/isolation.test.ts",
  "test/whole/stalled.test.ts",
  "test/whole/chaos.test.ts",
  "test/server/durable.state.test.ts",
  "test/server/retention.test.ts",
  "test/server/slow.test.ts"
]

export default class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const place = ({ moduleId }: TestSpecification) => {
      const index = long.indexOf(relative(this.ctx.config.root, moduleId))
      return index < 0 ? long.length : index
    }
    // oxlint-disable-next-line unicorn/no-array-sort -- It is no array's.
    const usual = await super.sort(files)
    return usual.toSorted((one, other) => place(one) - place(other))
  }
}
