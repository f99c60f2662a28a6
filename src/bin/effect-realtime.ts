#!/usr/bin/env node
/**
 * The command line, `npx effect-realtime`: looks for the Node and the packages that it needs, and runs.
 *
 * Where Node is too old it says so, and where a package is missing it prints the line that brings it, both
 * with the exit code 69. So it loads everything that needs one of them later.
 */
import { nodeFault } from "../internal/nodeVersion.ts"
import { missingOf, missingText, usualPeers } from "./shared/peers.ts"

const args = process.argv.slice(2)
const missing = missingOf(usualPeers)
const fault =
  nodeFault(process.versions.node) ?? (missing.length > 0 ? missingText(missing, args) : undefined)
if (fault === undefined) {
  const { main } = await import("./main.ts")
  main(args)
} else {
  process.stderr.write(`${fault}\n`)
  process.exitCode = 69
}
