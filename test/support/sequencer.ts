/**
 * The order of the test files: the slowest first, so that no worker ends long before the other one.
 * Vitest remembers how long they took, but in a fresh checkout it orders them by size.
 */
import { relative } from "node:path"
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** Files that take about ten seconds and more on two cores, the slowest first. */
const long = [
  "test/bench/smoke.test.ts",
  "test/browser/live-board-use.test.ts",
  "test/browser/live-board.test.ts",
  "test/size.test.ts",
  "test/whole/fuzz.test.ts",
  "test/server/standby.test.ts",
  "test/examples/live-board.test.ts",
  "test/whole/law.test.ts",
  "test/whole/cluster.test.ts",
  "test/server/crash.test.ts",
  "test/browser/heal.test.ts",
  "test/whole/isolation.test.ts",
  "test/server/slow.test.ts",
  "test/server/watch.property.test.ts",
  "test/browser/offline.test.ts",
  "test/server/durable.state.test.ts",
  "test/whole/storm.test.ts",
  "test/server/start.test.ts",
  "test/examples/cluster.test.ts",
  "test/whole/stalled.test.ts",
  "test/server/retention.test.ts",
  "test/server/PgNotificationSource.test.ts",
  "test/browser/cases.test.ts",
  "test/server/schemas.test.ts",
  "test/server/FrameSchema.test.ts",
  "test/server/upgrade.test.ts",
  "test/browser/rows.test.ts",
  "test/testing/EmbeddedPostgres.test.ts",
  "test/whole/durable.test.ts",
  "test/server/singletons.test.ts",
  "test/whole/chaos.test.ts",
  "test/server/watched.test.ts",
  "test/whole/symptoms.test.ts",
  "test/server/OutboxReader.test.ts",
  "test/server/volatile.test.ts",
  "test/server/outbox.contract.test.ts",
  "test/server/watch.corners.test.ts",
  "test/examples/readme.test.ts",
  "test/browser/streamed.test.ts",
  "test/server/restore.test.ts",
  "test/browser/presence.test.ts"
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
