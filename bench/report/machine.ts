/**
 * The machine and the versions of a run.
 */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly os: string
  readonly node: string
  readonly date: string
  readonly load: number
  readonly versions: Readonly<Record<string, string>>
}

const packages = [
  "effect",
  "@effect/platform-node",
  "@effect/sql-pg",
  "ws",
  // socket.io brings its own.
  "engine.io/node_modules/ws",
  "engine.io-client/node_modules/ws",
  "socket.io",
  "socket.io-client",
  "centrifuge",
  "@socket.io/postgres-adapter",
  "pg",
  "pg-listen"
]

const bench = Path.resolve(import.meta.dirname, "..")

/** The packages that the processes of the bench load: its own first, then the repository's. */
const versionOf = (name: string): string | undefined => {
  for (const folder of [bench, Path.dirname(bench)]) {
    const path = Path.join(folder, "node_modules", name, "package.json")
    if (!Fs.existsSync(path)) continue
    return (JSON.parse(Fs.readFileSync(path, "utf8")) as { readonly version: string }).version
  }
  return undefined
}

export const machine = (): Machine => ({
  cpu: Os.cpus()[0]?.model.trim() ?? "unknown",
  cores: Os.cpus().length,
  memoryGiB: Math.round(Os.totalmem() / 1024 ** 3),
  os: `${Os.type()} ${Os.release()} ${Os.arch()}`,
  node: process.version,
  date: new Date().toISOString().slice(0, 10),
  load: Math.round(Os.loadavg()[0]! * 10) / 10,
  versions: Object.fromEntries(
    packages.flatMap((name) => {
      const version = versionOf(name)
      // `ws of engine.io`
      const label = name.split("/node_modules/").toReversed().join(" of ")
      return version === undefined ? [] : [[label, version]]
    })
  )
})
