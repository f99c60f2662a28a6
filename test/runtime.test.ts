/**
 * The repository installs its own Node, and has a lockfile that `npm ci` accepts on every platform.
 */
import { describe, expect, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { Worker } from "node:worker_threads"

const root = Path.resolve(import.meta.dirname, "..")
const readJson = (path: string) => JSON.parse(Fs.readFileSync(Path.join(root, path), "utf8"))

const pinned = `v${readJson("package.json").devDependencies.node}`
const cure = `This must run on Node ${pinned}, which \`npm ci\` installs (not with --ignore-scripts). Start everything through npm or npx, never with \`node\` or a file of node_modules/.bin from a shell.`

const versionOf = (command: string) =>
  spawnSync(command, ["-p", "process.version"], { encoding: "utf8" }).stdout.trim()

describe("the runtime", () => {
  it("is the pinned Node", () => {
    expect(pinned).toMatch(/^v24\.\d+\.\d+$/)
    expect(process.version, cure).toBe(pinned)
  })

  it("is the same Node in child processes, by path and by name", () => {
    expect([versionOf(process.execPath), versionOf("node")], cure).toEqual([pinned, pinned])
  })

  it("is the same Node in worker threads", async () => {
    const version = await new Promise((resolve, reject) => {
      new Worker("require('worker_threads').parentPort.postMessage(process.version)", {
        eval: true
      })
        .once("message", resolve)
        .once("error", reject)
    })
    expect(version, cure).toBe(pinned)
  })
})

interface Locked {
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

type Packages = Readonly<Record<string, Locked>>

/** npm looks for a dependency in the package that requires it, then in every folder above. */
const isLocked = (packages: Packages, path: string, name: string): boolean =>
  Object.hasOwn(packages, `${path === "" ? "" : `${path}/`}node_modules/${name}`) ||
  (path !== "" &&
    isLocked(packages, path.slice(0, Math.max(0, path.lastIndexOf("/node_modules/"))), name))

/** The optional dependencies without an entry, as "package -> dependency". */
const missing = (packages: Packages): ReadonlyArray<string> =>
  Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter((name) => !isLocked(packages, path, name))
      .map((name) => `${path} -> ${name}`)
  )

describe("package-lock.json", () => {
  it("has every optional package, so `npm ci` works on every platform", () => {
    expect(
      missing(readJson("package-lock.json").packages),
      "The registry did not have these packages, `npm install` left them out without a word, and `npm ci` refuses such a lockfile. Pin the tool that wants them to the newest version whose packages all exist, then run `npm install` and this test again."
    ).toEqual([])
  })

  it("is checked by a rule that finds a missing entry", () => {
    const tool = { optionalDependencies: { "tool-linux": "1", "tool-darwin": "1" } }
    expect(
      missing({
        "": {},
        "node_modules/tool": tool,
        "node_modules/tool-linux": {},
        "node_modules/a": {},
        "node_modules/a/node_modules/tool": tool,
        "node_modules/a/node_modules/tool/node_modules/tool-darwin": {},
        "node_modules/@b/c/node_modules/tool": tool,
        "node_modules/@b/c/node_modules/tool-darwin": {}
      })
    ).toEqual(["node_modules/tool -> tool-darwin"])
  })
})
