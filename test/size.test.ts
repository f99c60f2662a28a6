import { join } from "node:path"
import { gzipSync } from "node:zlib"
import { build } from "vite"
import { describe, expect, it } from "vitest"

const entry = join(import.meta.dirname, "entry.ts")

/** Bundles `code` for a browser, minified, and fails if it reaches a Node module. */
const bundle = async (code: string, external: ReadonlyArray<RegExp>) => {
  const result = await build({
    configFile: false,
    logLevel: "silent",
    define: { "process.env.NODE_ENV": `"production"` },
    resolve: { conditions: ["@effect-realtime/source", "module", "browser", "production"] },
    plugins: [
      {
        name: "entry",
        enforce: "pre",
        resolveId(id, importer) {
          if (id.startsWith("node:") || id === "ws") {
            throw new Error(`${importer} imports ${id} in a browser`)
          }
          return id === entry ? entry : undefined
        },
        load: (id) => (id === entry ? code : undefined)
      }
    ],
    build: {
      write: false,
      target: "es2022",
      rolldownOptions: { input: entry, external: [...external], preserveEntrySignatures: "strict" }
    }
  })
  const [bundled] = Array.isArray(result) ? result : [result]
  if (bundled === undefined || !("output" in bundled)) throw new Error("nothing was bundled")
  const js = bundled.output.map((chunk) => (chunk.type === "chunk" ? chunk.code : "")).join("")
  const modules = bundled.output.flatMap((chunk) =>
    chunk.type === "chunk"
      ? Object.entries(chunk.modules).flatMap(([id, { renderedLength }]) =>
          renderedLength > 0 ? [id] : []
        )
      : []
  )
  return { modules, min: js.length, gzip: gzipSync(js, { level: 9 }).length }
}

const react = /^react($|\/|-dom)/
const effect = /^effect($|\/)/
const modules = "ClientError, createRealtimeClient, PlainClient, PublishQueue, RealtimeClient"
/** All of the client but the collector: the functions of each module come with these. */
const names = `
  ClientError.ConnectionStopped, ClientError.InvalidKey, ClientError.Refused, ClientError.TokenFailed,
  createRealtimeClient, PlainClient.fromClient,
  PublishQueue.Expired, PublishQueue.PublishQueue, PublishQueue.QueueFull,
  RealtimeClient.RealtimeClient
`
const client = `
  import { ${modules} } from "effect-realtime/client"
  export default [${names}]
`
const both = `
  import { Collector, ${modules} } from "effect-realtime/client"
  export * from "effect-realtime/react"
  export default [Collector.latest, Collector.make, ${names}]
`
const withSchema = `
  ${both}
  import { Channel } from "effect-realtime"
  import * as Schema from "effect/Schema"
  export const Moves = Channel.make("moves", Schema.Struct({ x: Schema.Finite, y: Schema.Finite }))
`

const withColumns = `
  ${withSchema}
  import * as PgType from "effect-realtime/pg-type"
  export const Ids = Channel.make("ids", Schema.Struct({ id: PgType.int8 }))
`

describe("the browser's share", () => {
  it.each([
    { name: "the client", code: client, external: [effect], budget: 9970 },
    { name: "the client and React hooks", code: both, external: [effect, react], budget: 11_330 },
    { name: "the same with effect", code: both, external: [react], budget: 27_460 },
    { name: "the same with a channel", code: withSchema, external: [react], budget: 40_720 },
    { name: "the same with a bigint column", code: withColumns, external: [react], budget: 42_000 }
  ])("$name: at most $budget bytes gzipped", async ({ name, code, external, budget }) => {
    const size = await bundle(code, external)
    console.log(`${name}: min ${size.min}, gzip ${size.gzip}`)
    expect(size.gzip).toBeLessThanOrEqual(budget)
  })

  it("holds no Schema, no Config and no socket where channels are strings", async () => {
    const { modules } = await bundle(both, [react])
    expect(
      modules.filter((id) => /effect\/.*\/((Schema|Config)\w*\.\w+|socket\/.+)$/.test(id))
    ).toEqual([])
  })

  it("fails when it reaches a Node module", async () => {
    await expect(bundle(`import "node:fs"`, [])).rejects.toThrow("imports node:fs in a browser")
  })
})
