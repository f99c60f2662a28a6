/**
 * The page, bundled by Vite when the server starts and served from memory.
 */
import react from "@vitejs/plugin-react"
import { Context, Effect, Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { extname } from "node:path"
import { fileURLToPath } from "node:url"
import { build, type Rolldown } from "vite"

type File = Rolldown.OutputChunk | Rolldown.OutputAsset

export class Bundle extends Context.Service<Bundle, ReadonlyArray<File>>()("live-board/Bundle") {
  static readonly layer = Layer.effect(
    Bundle,
    Effect.promise(() =>
      build({
        root: fileURLToPath(new URL("page", import.meta.url)),
        configFile: false,
        logLevel: "error",
        plugins: [react()],
        resolve: { conditions: ["@effect-realtime/source", "module", "browser", "production"] },
        build: { write: false }
      })
    ).pipe(Effect.map((built) => (built as Rolldown.RolldownOutput).output))
  )
}

const contentTypes: Record<string, string> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8"
}

const route = (file: File) => {
  const content = file.type === "chunk" ? file.code : file.source
  const isPage = file.fileName === "index.html"
  const response = HttpServerResponse.uint8Array(Buffer.from(content), {
    contentType: contentTypes[extname(file.fileName)],
    // Vite names the other files by a hash of their content.
    headers: { "cache-control": isPage ? "no-cache" : "public, max-age=31536000, immutable" }
  })
  return HttpRouter.route("GET", isPage ? "/" : `/${file.fileName}`, response)
}

export const layer = HttpRouter.addAll(Bundle.useSync((files) => files.map(route)))
