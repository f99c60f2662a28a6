/**
 * Says what this machine lacks, here because what a test file prints is shown only when it fails.
 * Starts the one database server of a test run and stops it at the end. The embedded one takes half
 * a second, so it starts whether or not the selected tests need it.
 */
import { Effect, Exit, Scope } from "effect"
import type { TestProject } from "vitest/node"
import { executablePath } from "./chromium.ts"
import { server } from "./database.ts"

if (executablePath === undefined) {
  console.warn(
    "SKIP browser tests: no Chromium found (apt-get install -y chromium, or set CHROMIUM_PATH)"
  )
}

export default async (project: TestProject): Promise<() => Promise<void>> => {
  const scope = Scope.makeUnsafe()
  project.provide("serverUrl", await Effect.runPromise(Scope.provide(server, scope)))
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}
