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
const fault = nodeFault(process.versions.node)
const missing = fault === undefined ? missingOf(usualPeers) : []
if (fault !== undefined) {
  process.stderr.write(`${fault}\n`)
  process.exitCode = 69
} else if (missing.length > 0) {
  const command = args.find((arg) => !arg.startsWith("-")) ?? "--help"
  process.stderr.write(missingText(missing, command))
  process.exitCode = 69
} else {
  const { main } = await import("./main.ts")
  main(args)
}
