/**
 * Installs the packages that are compared with. They are no dependencies of the package or of its
 * tests, so they are fetched when they are needed, by the lockfile beside this folder.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { LibraryName, SubjectName } from "./types.ts"

const bench = Path.resolve(import.meta.dirname, "..")

const needsPeers: ReadonlySet<string> = new Set<SubjectName | LibraryName>([
  "socket.io",
  "ws+pg-listen",
  "socket.io-client",
  "centrifuge"
])

const writtenAt = (file: string): number =>
  Fs.statSync(Path.join(bench, file), { throwIfNoEntry: false })?.mtimeMs ?? 0

/** Whether the last file that `npm ci` writes is there, and is no older than its lockfile. */
const installed = (): boolean =>
  writtenAt("node_modules/.package-lock.json") > writtenAt("package-lock.json")

/** Programs that are compared with when they are installed. */
const programs: ReadonlySet<string> = new Set<SubjectName>(["nats-server", "mosquitto"])

const isOnPath = (program: string): boolean =>
  (process.env["PATH"] ?? "")
    .split(Path.delimiter)
    .some((folder) => Fs.existsSync(Path.join(folder, program)))

/** Whether the programs and packages of the subject are there. */
export const has = (subject: SubjectName | LibraryName): boolean =>
  programs.has(subject) ? isOnPath(subject) : !needsPeers.has(subject) || installed()

/** The subjects that the run must leave out. */
export const absent = (): ReadonlyArray<string> => [
  ...[...needsPeers].filter(() => !installed()),
  ...[...programs].filter((program) => !isOnPath(program))
]

/** Returns why it failed; `undefined` when all packages are there. */
export const install = (timeoutMillis: number): string | undefined => {
  if (installed()) return undefined
  const { error, status, stderr } = spawnSync(
    "npm",
    ["ci", "--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=0", "--loglevel=error"],
    { cwd: bench, encoding: "utf8", timeout: timeoutMillis }
  )
  if (status === 0) return undefined
  return error?.message ?? stderr.trim().split("\n")[0] ?? `exit code ${status}`
}
