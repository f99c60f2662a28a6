/**
 * Servers of a test's own, without an initdb for each: the data directory of a run is made once
 * (`global-setup.ts`), and every server begins with a copy of it.
 *
 * Copies have one system identifier, as a standby has that of its primary. A test that needs two
 * unrelated servers makes them with `EmbeddedPostgres.make()`.
 */
import { Effect, type Scope } from "effect"
import { execFile } from "node:child_process"
import { randomBytes } from "node:crypto"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import { inject } from "vitest"
import * as EmbeddedPostgres from "../../src/testing/EmbeddedPostgres.ts"
import { findBinaries, initialise, prepareBinaries } from "../../src/testing/internal/cluster.ts"
import {
  attempt,
  closeWorkspace,
  openWorkspace,
  unprivileged
} from "../../src/testing/internal/processes.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** A data directory that no server has used; `""` where the run has a server of another kind. */
    readonly cluster: string
  }
}

/** Makes the data directory. It and everything beside it is removed with the scope, or when Node ends. */
export const makeCluster: Effect.Effect<string, string, Scope.Scope> = Effect.gen(function* () {
  const user = unprivileged(undefined)
  const workspace = yield* Effect.acquireRelease(
    attempt("making a temporary directory", () => openWorkspace(undefined, user)),
    closeWorkspace
  )
  const native = yield* Effect.flatMap(findBinaries, (found) =>
    prepareBinaries(found, workspace, user)
  )
  const data = join(workspace.directory, "cluster")
  yield* initialise({ workspace, user, native }, data, undefined)
  return data
})

type Settings = NonNullable<EmbeddedPostgres.Options["settings"]>

/** Copies a data directory with its owner, to a place beside it. */
const copyOf = (cluster: string) =>
  Effect.promise(async () => {
    const copy = join(dirname(cluster), randomBytes(6).toString("hex"))
    await promisify(execFile)("cp", ["-a", cluster, copy])
    return copy
  })

/** A server on a copy, as `EmbeddedPostgres.make` starts one on a temporary directory. */
export const serverOn = (cluster: string, settings: Settings) =>
  Effect.flatMap(copyOf(cluster), (dataDirectory) =>
    EmbeddedPostgres.make({
      dataDirectory,
      settings: { fsync: "off", full_page_writes: "off", ...settings }
    })
  ).pipe(
    // Otherwise the server would silently run on a directory that it made itself.
    Effect.tap(({ notice }) => (notice === undefined ? Effect.void : Effect.die(new Error(notice))))
  )

/** A server of a test's own, until the scope closes. */
export const ownServer = (settings: Settings = {}) =>
  Effect.suspend(() => {
    const cluster = inject("cluster")
    return cluster === "" ? EmbeddedPostgres.make({ settings }) : serverOn(cluster, settings)
  })
