/**
 * Bundles code for a browser as an app does: by Vite, by esbuild and by Rollup, each minified.
 *
 * In: the code of a page, and what stays outside of its bundle. Out: the bytes, and the modules inside.
 */
import { nodeResolve } from "@rollup/plugin-node-resolve"
import { build as esbuild, type Plugin as EsbuildPlugin, transform } from "esbuild"
import { dirname, join } from "node:path"
import { gzipSync } from "node:zlib"
import { type Plugin, rollup } from "rollup"
import { build as vite } from "vite"

interface Bundle {
  /** Paths of the modules of which something is in the bundle. */
  readonly modules: ReadonlyArray<string>
  /** Paths of the modules that the bundler has read; by Vite and Rollup those of its chunks. */
  readonly read: ReadonlyArray<string>
  readonly min: number
  readonly gzip: number
}

export type Bundler = (code: string, external: ReadonlyArray<RegExp>) => Promise<Bundle>

const entry = join(import.meta.dirname, "..", "entry.ts")
const conditions = ["@effect-realtime/source", "module", "browser", "production"]
const define = { "process.env.NODE_ENV": `"production"` }
const target = "es2022"

/** The browser has none of these. */
const isOfNode = (id: string) => id.startsWith("node:") || id === "ws"

const refuse = (id: string, importer: string | undefined): never => {
  throw new Error(`${importer} imports ${id} in a browser`)
}

const measured = (
  js: string,
  modules: ReadonlyArray<string>,
  read: ReadonlyArray<string>
): Bundle => ({
  modules,
  read,
  min: js.length,
  gzip: gzipSync(js, { level: 9 }).length
})

/** Vite and Rollup know the same plugins. */
const page = (code: string) =>
  ({
    name: "page",
    resolveId: (id: string, importer: string | undefined) =>
      isOfNode(id) ? refuse(id, importer) : id === entry ? entry : undefined,
    load: (id: string) => (id === entry ? code : undefined)
  }) satisfies Plugin

interface Chunk {
  readonly code: string
  readonly modules: Readonly<Record<string, { readonly renderedLength: number }>>
}

const ofChunks = (chunks: ReadonlyArray<Chunk>, js = chunks.map(({ code }) => code).join("")) => {
  const read = chunks.flatMap(({ modules }) => Object.entries(modules))
  return measured(
    js,
    read.flatMap(([id, { renderedLength }]) => (renderedLength > 0 ? [id] : [])),
    read.map(([id]) => id)
  )
}

const byVite: Bundler = async (code, external) => {
  const result = await vite({
    configFile: false,
    logLevel: "silent",
    define,
    resolve: { conditions },
    plugins: [{ ...page(code), enforce: "pre" }],
    build: {
      write: false,
      target,
      rolldownOptions: { input: entry, external: [...external], preserveEntrySignatures: "strict" }
    }
  })
  const [bundled] = Array.isArray(result) ? result : [result]
  if (bundled === undefined || !("output" in bundled)) throw new Error("nothing was bundled")
  return ofChunks(bundled.output.filter((chunk) => chunk.type === "chunk"))
}

const byEsbuild: Bundler = async (code, external) => {
  const outside: EsbuildPlugin = {
    name: "outside",
    setup: ({ onResolve }) => {
      onResolve({ filter: /.*/ }, ({ importer, path }) => {
        if (isOfNode(path)) refuse(path, importer)
        return external.some((one) => one.test(path)) ? { path, external: true } : undefined
      })
    }
  }
  const { metafile, outputFiles } = await esbuild({
    stdin: { contents: code, loader: "ts", resolveDir: dirname(entry), sourcefile: entry },
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    logLevel: "silent",
    format: "esm",
    platform: "browser",
    target,
    define,
    conditions,
    jsx: "automatic",
    plugins: [outside]
  })
  const inputs = Object.values(metafile.outputs).flatMap(({ inputs }) => Object.entries(inputs))
  return measured(
    outputFiles[0]!.text,
    inputs.flatMap(([path, { bytesInOutput }]) => (bytesInOutput > 0 ? [path] : [])),
    Object.keys(metafile.inputs)
  )
}

/** Rollup leaves types and the minifier to plugins; esbuild does both here. */
const byRollup: Bundler = async (code, external) => {
  const bundled = await rollup({
    input: entry,
    external: [...external],
    preserveEntrySignatures: "strict",
    plugins: [
      page(code),
      nodeResolve({
        exportConditions: conditions,
        browser: true,
        extensions: [".js", ".ts", ".tsx"]
      }),
      {
        name: "types",
        transform: async (source, id) =>
          /\.tsx?$/.test(id)
            ? (
                await transform(source, {
                  loader: id.endsWith("x") ? "tsx" : "ts",
                  jsx: "automatic",
                  target,
                  define
                })
              ).code
            : undefined
      }
    ]
  })
  const { output } = await bundled.generate({ format: "es" })
  const chunks = output.filter((chunk) => chunk.type === "chunk")
  const { code: js } = await transform(chunks.map(({ code }) => code).join(""), {
    minify: true,
    target,
    define,
    format: "esm"
  })
  return ofChunks(chunks, js)
}

export const bundlers = { vite: byVite, esbuild: byEsbuild, rollup: byRollup }
