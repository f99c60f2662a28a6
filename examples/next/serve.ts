/** Next.js and the door in one process on one port. */
// #region serve
import { RealtimeServer } from "effect-realtime/node"
import { createServer, type RequestListener, type Server } from "node:http"

/** The type of `import next from "next"`. */
type Next = (options: { readonly dev: boolean; readonly httpServer: Server }) => {
  readonly prepare: () => Promise<void>
  readonly getRequestHandler: () => RequestListener
}

export const serve = async (
  next: Next,
  url: string | undefined,
  options: RealtimeServer.Options
) => {
  // Next.js handles the sockets of this server, which never listens. It would close the sockets of
  // the door if a page such as app/[slug] matched the path.
  const forNext = createServer()
  const dev = process.env["NODE_ENV"] !== "production"
  const app = next({ dev, httpServer: forNext })
  await app.prepare()

  const http = createServer(app.getRequestHandler())
  http.on("upgrade", (request, socket, head) => {
    if (request.url?.startsWith("/_next/")) forNext.emit("upgrade", request, socket, head)
  })
  return { http, realtime: new RealtimeServer(http, url, options) }
}
// #endregion
