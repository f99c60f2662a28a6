/**
 * The packages that the command line needs beside it, and the one line that brings them.
 *
 * Loaded before any of them, so it imports nothing but modules of Node.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

/** A module of each package, because not every package exports its `package.json`. */
const modules: Readonly<Record<string, string>> = {
  effect: "effect/Effect",
  "@effect/platform-node": "@effect/platform-node/NodeServices",
  "@effect/sql-pg": "@effect/sql-pg/PgClient",
  "@nats-io/transport-node": "@nats-io/transport-node"
}

/** What every command needs. */
export const usualPeers: ReadonlyArray<string> = [
  "effect",
  "@effect/platform-node",
  "@effect/sql-pg"
]

interface Manifest {
  readonly version: string
  readonly peerDependencies: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
}

/** The package is two folders above both `src/bin` and `dist/bin`. */
const root = Path.resolve(fileURLToPath(import.meta.url), "../../../..")

const read = (folder: string): Manifest =>
  JSON.parse(Fs.readFileSync(Path.join(folder, "package.json"), "utf8")) as Manifest

const own = read(root)

/** The version of the package. */
export const version: string = own.version

/** Those of the packages that cannot be found from here. */
export const missingOf = (names: ReadonlyArray<string>): ReadonlyArray<string> =>
  names.filter((name) => {
    try {
      import.meta.resolve(modules[name] ?? name)
      return false
    } catch {
      return true
    }
  })

/** What npx installs to run this very package: from the registry, or the tarball of its install. */
const self = (): string => {
  const above = Path.resolve(root, "../..")
  try {
    const from = read(above).dependencies?.["effect-realtime"]
    if (from?.startsWith("file:") === true) return Path.resolve(above, from.slice("file:".length))
  } catch {
    // No project holds it.
  }
  return `effect-realtime@${version}`
}

const quoted = (text: string): string => `"${text.replaceAll(/["$`\\]/g, "\\$&")}"`

/** Flags whose value is the URL of a database. */
const urlFlags: ReadonlySet<string> = new Set(["--database", "--listen"])

/** Whether an argument behind another one, a flag or not, may hold a password. */
const mayBeSecret = (before: string, value: string): boolean =>
  urlFlags.has(before) ||
  (value.includes("://") ? /[@?]/.test(value) : before === "--nats" && value.includes("@"))

const shown = (text: string): string => (/^[\w./:=,@-]+$/.test(text) ? text : quoted(text))

/** The arguments for a shell, without a URL that may hold a password. What follows `publish` may be a payload. */
const argumentsOf = (args: ReadonlyArray<string>): string => {
  const publish = args.indexOf("publish")
  return args
    .slice(0, publish < 0 ? undefined : publish + 1)
    .map((arg, index) => {
      const [, flag, value] = /^(--[^=]+)=([^]*)$/.exec(arg) ?? []
      if (flag !== undefined) return mayBeSecret(flag, value!) ? `${flag}="<url>"` : shown(arg)
      return mayBeSecret(args[index - 1] ?? "", arg) ? '"<url>"' : shown(arg)
    })
    .join(" ")
}

/** The commands, in the order of the help. */
const commandNames: ReadonlyArray<string> = [
  "serve",
  "sql",
  "publish",
  "tail",
  "doctor",
  "status",
  "nats"
]

/** The commands in a line where the arguments ask for the help, or there are none. */
const listFor = (args: ReadonlyArray<string>): string =>
  args.every((arg) => arg === "--help" || arg === "-h")
    ? `The commands of effect-realtime are ${commandNames.slice(0, -1).join(", ")} and ${commandNames.at(-1)}. Guide: ${Path.join(root, "examples/command-line/README.md")}\n\n`
    : ""

/** Says which packages are missing, and the line that brings them. `args` is what to run then. */
export const missingText = (
  missing: ReadonlyArray<string>,
  args: ReadonlyArray<string>
): string => {
  const needed = [...new Set([...usualPeers, ...missing])]
  const ranges = needed.map((name) => `${name}@${own.peerDependencies[name]}`)
  const flags = [self(), ...ranges].map((one) => `-p ${quoted(one)}`).join(" ")
  const names = [missing.slice(0, -1).join(", "), ...missing.slice(-1)].filter((one) => one !== "")
  return `${listFor(args)}effect-realtime does not find ${names.join(" and ")}. This line brings what it needs:

  npx --yes ${flags} effect-realtime ${argumentsOf(args.length === 0 ? ["--help"] : args)}

In a project, install them once instead: npm install ${ranges.map(quoted).join(" ")}`
}
