/**
 * Starts the one database server of a test run and stops it at the end. The embedded one takes half
 * a second, so it starts whether or not the selected tests need it.
 */
import { Effect, Exit, Scope } from "effect"
import type { TestProject } from "vitest/node"
import { server } from "./database.ts"

export default async (project: TestProject): Promise<() => Promise<void>> => {
  const scope = Scope.makeUnsafe()
  project.provide("serverUrl", await Effect.runPromise(Scope.provide(server, scope)))
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}
