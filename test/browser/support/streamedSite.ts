/**
 * A page that React streams from a server, on a real database: the server half of the class of ./node,
 * the page bundled by Vite in React's development build, which names what does not hydrate.
 */
import react from "@vitejs/plugin-react"
import { RealtimeServer } from "effect-realtime/node"
import { PgInstaller } from "effect-realtime/server"
import { Effect } from "effect"
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { createElement, StrictMode, use } from "react"
import { renderToPipeableStream } from "react-dom/server"
import { build, type Rolldown } from "vite"
import { execute, TestDatabase } from "../../support/database.ts"
import { Order, Orders } from "../page/orders.ts"
import { type Rows, Streamed } from "../page/Streamed.tsx"

const bundle = Effect.promise(async () => {
  const built = await build({
    configFile: false,
    logLevel: "error",
    mode: "development",
    define: { "process.env.NODE_ENV": `"development"` },
    plugins: [react()],
    resolve: { conditions: ["@effect-realtime/source", "module", "browser", "development"] },
    build: {
      write: false,
      minify: false,
      rolldownOptions: { input: join(import.meta.dirname, "../page/hydrate.tsx") }
    }
  })
  const { output } = built as Rolldown.RolldownOutput
  return output[0].code
}).pipe(Effect.cached, Effect.runSync)

export const streamedSite = Effect.gen(function* () {
  const script = yield* bundle
  const { url } = yield* TestDatabase
  yield* execute(url, "create table orders (id int primary key, status text)")
  yield* execute(url, "insert into orders values (1, 'new'), (2, 'new'), (3, 'new')")
  yield* PgInstaller.watch({ channel: Orders.name, table: "orders", delivery: "durable" })

  const problems: Array<unknown> = []
  /** The late boundary waits for it. */
  const gate = Promise.withResolvers<void>()
  const snapshot = (): Promise<Rows> =>
    realtime.snapshot("select * from orders order by id", [], { row: Order })

  const page = (response: ServerResponse) => {
    const late = snapshot()
    const rows = { early: snapshot(), late: gate.promise.then(() => late) }
    response.setHeader("content-type", "text/html; charset=utf-8")
    const element = createElement(Streamed, { read: (name) => use(rows[name]) })
    const { pipe } = renderToPipeableStream(createElement(StrictMode, null, element), {
      bootstrapModules: ["/hydrate.js"],
      onError: (error) => void problems.push(error)
    })
    pipe(response)
  }
  const http = createServer((request, response) => {
    if (request.url === "/") return page(response)
    return response.setHeader("content-type", "text/javascript; charset=utf-8").end(script)
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
  const realtime = yield* Effect.acquireRelease(
    Effect.sync(() => new RealtimeServer(http, url, { channels: [Orders], authorize: () => true })),
    (server) => Effect.promise(() => server.close())
  )
  yield* Effect.promise(() => realtime.ready)
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/`,
    problems,
    release: Effect.sync(() => gate.resolve()),
    sql: (statement: string) => execute(url, statement)
  }
})
