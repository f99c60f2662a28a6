/** The bytes that a page loads, by the bundler of its app: by Vite, esbuild and Rollup. */
import * as Path from "node:path"
import { describe, expect, it } from "vitest"
import { type Bundler, bundlers } from "./support/bundle.ts"

const react = /^react($|\/|-dom)/
const effect = /^effect($|\/)/
const modules = "ClientError, createRealtimeClient, PlainClient, PublishQueue, RealtimeClient"
/** All of the client but the collector: the functions of each module come with these. */
const names = `
  ClientError.ConnectionStopped, ClientError.HelloRefused, ClientError.InvalidKey,
  ClientError.Refused, ClientError.TokenFailed,
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
  import * as Channel from "effect-realtime/Channel"
  import * as Schema from "effect/Schema"
  export const Moves = Channel.make("moves", Schema.Struct({ x: Schema.Finite, y: Schema.Finite }))
`

const withColumns = `
  ${withSchema}
  import * as PgType from "effect-realtime/pg-type"
  export const Ids = Channel.make("ids", Schema.Struct({ id: PgType.int8 }))
`

const root = Path.resolve(import.meta.dirname, "..")
/** A component of the README with its definitions, and what the guides import in a page. */
const readme = ["channels.ts", "Notices.tsx"]
const guides = [
  ...readme,
  "orders.ts",
  "columns/columns.ts",
  "react/App.tsx",
  "react/OrderList.tsx",
  "security/rooms.ts",
  "schema/versions.ts",
  "volatile/Composer.tsx"
]
const page = (paths: ReadonlyArray<string>) =>
  paths
    .map((path) => `export * from ${JSON.stringify(Path.join(root, "examples", path))}`)
    .join("\n")

/** Gzipped bytes at most. */
interface Budget {
  readonly name: string
  readonly code: string
  readonly external: ReadonlyArray<RegExp>
  readonly vite: number
  readonly esbuild: number
  readonly rollup: number
}

const budgets: ReadonlyArray<Budget> = [
  {
    name: "the client",
    code: client,
    external: [effect],
    vite: 12_900,
    esbuild: 14_200,
    rollup: 13_800
  },
  {
    name: "the client and React hooks",
    code: both,
    external: [effect, react],
    vite: 15_700,
    esbuild: 17_300,
    rollup: 16_800
  },
  {
    name: "the same with effect",
    code: both,
    external: [react],
    vite: 31_800,
    esbuild: 37_800,
    rollup: 33_400
  },
  {
    name: "the same with a channel",
    code: withSchema,
    external: [react],
    vite: 45_100,
    esbuild: 52_600,
    rollup: 46_300
  },
  {
    name: "the same with a bigint column",
    code: withColumns,
    external: [react],
    vite: 46_400,
    esbuild: 53_800,
    rollup: 47_500
  },
  {
    name: "a hook and the channels of the README",
    code: page(readme),
    external: [react],
    vite: 44_400,
    esbuild: 48_300,
    rollup: 45_500
  },
  {
    name: "the page of the README",
    code: page(["main.tsx"]),
    external: [react],
    vite: 47_900,
    esbuild: 51_900,
    rollup: 49_100
  }
]

const barrel = /\/effect\/(dist|src)\/index\.[jt]s$/

describe.each(Object.keys(bundlers) as ReadonlyArray<keyof typeof bundlers>)("by %s", (name) => {
  const bundle: Bundler = bundlers[name]

  it.each(budgets)("$name has at most its budget of bytes", async (budget) => {
    const size = await bundle(budget.code, budget.external)
    console.log(`${name}, ${budget.name}: min ${size.min}, gzip ${size.gzip}`)
    expect(size.gzip).toBeLessThanOrEqual(budget[name])
  })

  it("a page whose channels are strings has no Schema, no Config and no socket", async () => {
    const { modules } = await bundle(both, [react])
    expect(modules.length).toBeGreaterThan(20)
    expect(
      modules.filter((id) => /effect\/.*\/((Schema|Config)\w*\.\w+|socket\/.+)$/.test(id))
    ).toEqual([])
  })

  it("a page without the definition of a table has nothing that collects rows", async () => {
    const collects = (id: string) => /internal\/rowStores\./.test(id)
    expect((await bundle(withSchema, [react])).modules.filter(collects)).toEqual([])
    const table = `
      ${withSchema}
      export const Rows = Channel.table("moves", Schema.Struct({ x: Schema.Finite }), { key: "x" })
    `
    expect((await bundle(table, [react])).modules.filter(collects)).toHaveLength(1)
  })

  it("a page without the definition of a presence channel has nothing that keeps members", async () => {
    const keeps = (id: string) => /internal\/presenceRooms\./.test(id)
    expect((await bundle(withSchema, [react])).modules.filter(keeps)).toEqual([])
    const presence = `
      ${withSchema}
      export const Here = Channel.presence("here", Schema.Struct({ name: Schema.String }))
    `
    const { gzip, modules } = await bundle(presence, [react])
    expect(modules.filter(keeps)).toHaveLength(1)
    console.log(`${name}, with a presence channel: gzip ${gzip}`)
  })

  it("a bundle that reaches a Node module fails", async () => {
    await expect(bundle(`import "node:fs"`, [])).rejects.toThrow("imports node:fs in a browser")
  })
})

describe("the rules of a server", () => {
  const ofServer = (id: string) => /src\/(server|node)\/|\/rules\.ts$/.test(id)

  it("reach no page, which loads the definitions that they are for", async () => {
    const { modules, read } = await bundlers.esbuild(page(guides), [react])
    expect(read.filter(ofServer)).toEqual([])
    expect(modules.some((id) => id.endsWith("security/rooms.ts"))).toBe(true)
  })

  it("are checked by a rule that finds them", async () => {
    const { read } = await bundlers.esbuild(
      `export * from ${JSON.stringify(Path.join(root, "src/server/Rule.ts"))}`,
      []
    )
    expect(read.some(ofServer)).toBe(true)
  })
})

describe("the imports of the README and the guides", () => {
  /** Other bundlers drop what a page does not use of a barrel. */
  const bundle = bundlers.esbuild

  it("reach no barrel of effect", async () => {
    const { read } = await bundle(page(guides), [react])
    expect(read.filter((id) => barrel.test(id))).toEqual([])
    expect(read.length).toBeGreaterThan(20)
  })

  it("are checked by a rule that finds a barrel, which costs more than 60 kB", async () => {
    const small = await bundle(page(readme), [react])
    const { gzip, read } = await bundle(
      `${page(readme)}\nimport { Schema } from "effect"\nexport const Id = Schema.Int`,
      [react]
    )
    expect(read.filter((id) => barrel.test(id))).toHaveLength(1)
    expect(gzip).toBeGreaterThan(small.gzip + 60_000)
  })
})
