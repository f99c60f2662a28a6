/**
 * A page and its server: the page bundled by Vite, a real door over the source in memory, and a hop in
 * between that a test can silence or cut.
 */
import react from "@vitejs/plugin-react"
import { Context, Effect, Layer } from "effect"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { extname, join } from "node:path"
import { build, type Rolldown } from "vite"
import * as Door from "../../../src/server/internal/door/door.ts"
import { attach } from "../../../src/server/internal/door/attach.ts"
import { MemoryOutbox, layer as outboxLayer } from "../../../src/server/MemoryOutbox.ts"
import * as MemoryBus from "../../../src/server/MemoryBus.ts"
import * as MemorySource from "../../../src/server/MemorySource.ts"
import * as Realtime from "../../../src/server/Realtime.ts"
import { allowAll, type Authorize, type DoorOptions } from "../../../src/server/ServerOptions.ts"
import { hop } from "../../support/hop.ts"
import { OrderUpdates } from "../../../examples/channels.ts"
import { Entries } from "../page/entries.ts"
import { guestsIn } from "../page/guests.ts"
import { Item } from "../page/items.ts"
import { Numbers } from "../page/numbers.ts"

/** Bundled once for all tests of a file. */
const bundle = Effect.runSync(
  Effect.cached(
    Effect.promise(async () => {
      const built = await build({
        root: join(import.meta.dirname, "../page"),
        configFile: false,
        logLevel: "error",
        // StrictMode mounts twice only in a development build.
        mode: "development",
        define: { "process.env.NODE_ENV": `"development"` },
        plugins: [react()],
        resolve: { conditions: ["@effect-realtime/source", "module", "browser", "development"] },
        build: {
          write: false,
          minify: false,
          rolldownOptions: {
            input: ["index", "cases", "rows", "guests"].map((name) =>
              join(import.meta.dirname, `../page/${name}.html`)
            )
          }
        }
      })
      const { output } = built as Rolldown.RolldownOutput
      return new Map(output.map((file) => [`/${file.fileName}`, file]))
    })
  )
)

const types: Record<string, string> = { ".html": "text/html", ".js": "text/javascript" }

/** What a test has of its own. */
interface Made {
  readonly authorize?: Authorize
  readonly limits?: DoorOptions["limits"]
  /** Answers a request for anything but the page, as JSON. A rejection is a 500. */
  readonly answer?: (url: string) => Promise<unknown>
  /** Connects the server with those of other sites. */
  readonly network?: MemoryBus.Network
}

export const site = ({ answer, authorize = allowAll, limits, network }: Made = {}) =>
  Effect.gen(function* () {
    const files = yield* bundle
    const http = createServer(async ({ url = "/" }, response) => {
      const file = files.get(url === "/" ? "/index.html" : url)
      if (file === undefined) {
        if (answer === undefined) return response.writeHead(404).end()
        return answer(url).then(
          (value) => response.end(JSON.stringify(value)),
          () => response.writeHead(500).end()
        )
      }
      return (
        response
          // An isolated page has a clock of 5 microseconds; that of others has 100.
          .setHeader("cross-origin-opener-policy", "same-origin")
          .setHeader("cross-origin-embedder-policy", "require-corp")
          .setHeader("content-type", `${types[extname(file.fileName)] ?? ""}; charset=utf-8`)
          .end(file.type === "chunk" ? file.code : file.source)
      )
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        http.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.sync(() => {
          http.close()
          http.closeAllConnections()
        })
    )
    const hub = yield* Layer.build(
      Realtime.layer({ presenceGrace: 500 }).pipe(
        Layer.provideMerge(Layer.merge(outboxLayer(), MemorySource.layer)),
        Layer.provide(network === undefined ? Layer.empty : MemoryBus.layer(network))
      )
    )
    const realtime = Context.get(hub, Realtime.Realtime)
    const door = yield* Door.make({
      channels: [Numbers, Item, OrderUpdates, Entries, guestsIn],
      authorize,
      limits
    }).pipe(Effect.provideContext(hub))
    yield* attach(door, http)
    const path = yield* hop({ host: "127.0.0.1", port: (http.address() as AddressInfo).port })
    return {
      url: `http://127.0.0.1:${path.port}/`,
      path,
      sessions: door.size,
      realtime,
      /** The tables of the database. */
      outbox: Context.get(hub, MemoryOutbox),
      /** Publishes this many events, numbered from `first`, each in its own commit. */
      publish: (first: number, count: number) =>
        Effect.forEach(
          Array.from({ length: count }, (_, index) => first + index),
          (n) => realtime.publish(Numbers, { n }),
          { discard: true }
        )
    }
  })
