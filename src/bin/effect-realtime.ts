#!/usr/bin/env node
/**
 * The command line, `npx effect-realtime`: looks for the packages that it needs, and runs.
 *
 * Where one is missing it prints the line that brings it, with the exit code 69. So it loads everything
 * that imports one of them later.
 */
import { missingOf, missingText, usualPeers } from "./shared/peers.ts"

const args = process.argv.slice(2)
const missing = missingOf(usualPeers)
if (missing.length > 0) {
  const command = args.find((arg) => !arg.startsWith("-")) ?? "--help"
  process.stderr.write(missingText(missing, command))
  process.exitCode = 69
} else {
  const { main } = await import("./main.ts")
  main(args)
}
