/** `doctor` names each thing that is not as it should be, says what to change, and changes nothing. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { freePort } from "../support/freePort.ts"
import {
  database,
  databaseWith,
  execute,
  layerDatabase,
  TestDatabase
} from "../support/database.ts"
import { executablePath as bouncer, pgbouncer } from "../support/pgbouncer.ts"
import { layerInstalled } from "../server/support/durable.ts"
import { record } from "./support/run.ts"

const doctor = (url: string, ...args: ReadonlyArray<string>) =>
  record(["doctor", "--database", url, ...args])

/** Other tests of this server may have a transaction open, or none that this role sees. */
const others = ["--ignore", "transactions", "--ignore", "queue"]

/** The lines of what is to be changed. */
const toChange = (stdout: string) => stdout.split("\n").filter((line) => line.startsWith("FIX"))

describe("doctor", () => {
  it.live("finds nothing to change where all is well", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const { code, stderr, stdout } = yield* doctor(url, ...others)
      expect([code, stderr, toChange(stdout)]).toEqual([0, "", []])
      expect(stdout).toContain("All is well.")
    }).pipe(Effect.provide(layerInstalled()))
  )
})
