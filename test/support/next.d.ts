/** The repository has no Next.js; the long run builds `examples/next` with its real types. */
declare module "next" {
  import type { RequestListener, Server } from "node:http"

  const next: (options: { readonly dev: boolean; readonly httpServer: Server }) => {
    readonly prepare: () => Promise<void>
    readonly getRequestHandler: () => RequestListener
  }
  export default next
}
