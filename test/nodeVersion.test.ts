/** What a user of an older Node reads: one sentence, from the command line and from each server module. */
import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { describe, expect, it } from "vitest"
import { nodeFault, oldestNode } from "../src/internal/nodeVersion.ts"

const root = resolve(import.meta.dirname, "..")

const fault = `effect-realtime needs Node 22.19 or newer, and this is Node 20.20.2. Install a newer Node, such as the LTS of https://nodejs.org.`

/** Makes this Node one of version 20: `node:tls` has no `getCACertificates`, and the version says so. */
const older = `
import { registerHooks } from "node:module"
Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.20.2" } })
const { getCACertificates, default: _, ...names } = await import("node:tls")
registerHooks({
  load: (url, context, next) =>
    url !== "node:tls"
      ? next(url, context)
      : {
          format: "module",
          shortCircuit: true,
          source: \`export const { \${Object.keys(names)} } = process.getBuiltinModule("tls")\`
        }
})
`

/** Runs this Node as an older one. */
const run = (...args: ReadonlyArray<string>) =>
  new Promise<{ readonly code: unknown; readonly stdout: string; readonly stderr: string }>(
    (done) =>
      execFile(
        process.execPath,
        [
          "-C",
          "@effect-realtime/source",
          "--import",
          `data:text/javascript,${encodeURIComponent(older)}`,
          ...args
        ],
        { cwd: root },
        (error, stdout, stderr) => done({ code: error?.code ?? 0, stdout, stderr })
      )
  )

describe("the version of Node", () => {
  it("is the one that package.json asks for", () => {
    const { engines } = JSON.parse(readFileSync(resolve(root, "package.json"), "utf8")) as {
      readonly engines: { readonly node: string }
    }
    expect(engines.node).toBe(`>=${oldestNode}`)
  })

  it("has a fault below it only", () => {
    expect(nodeFault("20.20.2")).toBe(fault)
    expect(["22.18.0", "22.9.9"].map(nodeFault)).not.toContain(undefined)
    expect(["22.19.0", "22.21.1", "24.0.0", process.versions.node].map(nodeFault)).toEqual([
      undefined,
      undefined,
      undefined,
      undefined
    ])
  })

  it("is in one line of the command line where it is too old, with the exit code 69", async () => {
    expect(await run("src/bin/effect-realtime.ts", "serve")).toEqual({
      code: 69,
      stdout: "",
      stderr: `${fault}\n`
    })
  })

  it("is in the error of each module of the server where it is too old", async () => {
    const modules = ["server", "node", "testing", "nats"]
    const main = modules.map(
      (name) =>
        `await import("effect-realtime/${name}").catch(({ message }) => console.log(message))`
    )
    expect(await run("--input-type=module", "-e", main.join("\n"))).toEqual({
      code: 0,
      stdout: `${fault}\n`.repeat(modules.length),
      stderr: ""
    })
  })
})
