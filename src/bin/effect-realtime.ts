#!/usr/bin/env node
/**
 * The command line, `npx effect-realtime`: looks for the packages that it needs, and runs.
 *
 * Where one is missing it prints the line that brings it, with the exit code 69, and where Node is too old it
 * says so with the same code. So it loads everything that imports one of them later.
 */
import { missingOf, missingText, nodeFault, usualPeers } from "./shared/peers.ts"

const args = process.argv.slice(2)
const missing = missingOf(usualPeers)
const fault = nodeFault() ?? (missing.length > 0 ? missingText(missing, args) : undefined)
if (fault === undefined) {
  const { main } = await import("./main.ts")
  main(args)
} else {
  process.stderr.write(fault)
  process.exitCode = 69
}
