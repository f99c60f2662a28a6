"use client"
/**
 * Which client the hooks below it use.
 *
 * Without a provider all hooks of a page share one client of the page's own origin, at `/realtime`.
 * Rendering never opens anything: a client connects when a hook is mounted in a browser and lets go
 * when the last one is gone.
 *
 * @since 0.1.0
 */
import { createElement, type ReactNode, useMemo } from "react"
import * as PlainClient from "../client/PlainClient.ts"
import type { Options } from "../client/RealtimeClient.ts"
import { ClientContext, useLatestRef } from "./internal/client.ts"

/**
 * Props of `RealtimeProvider`: a client that you own, or the options of one that the provider makes.
 *
 * Of the options, a new `url` text, or a list with other addresses, makes a new client; `token`, `onError` and a `url` function may be new
 * with each render, the latest is used, and the first two may come and go; the others count when the
 * client is made. `onError` receives a stopped connection once, however many hooks there are; by default it
 * is one `console.error`.
 *
 * @category models
 * @since 0.1.0
 */
export type RealtimeProviderProps = { readonly children?: ReactNode } & (
  | { readonly client: PlainClient.PlainClient }
  | ({ readonly client?: undefined } & Options)
)

/**
 * Gives the hooks below it their client.
 *
 * **Example** (Connecting to another origin with a token)
 *
 * ```tsx
 * <RealtimeProvider url="wss://api.example.com/realtime" token={() => session.token()}>
 *   <App />
 * </RealtimeProvider>
 * ```
 *
 * @category components
 * @since 0.1.0
 */
export const RealtimeProvider = (props: RealtimeProviderProps): ReactNode => {
  const latest = useLatestRef(props as Options)
  const { children, client, url } = props as Partial<Options> & typeof props
  // A list may be a new one with each render.
  const fixed = typeof url === "function" ? undefined : JSON.stringify(url)
  const made = useMemo(
    () =>
      PlainClient.make(() => ({
        ...latest.current,
        url: fixed ? JSON.parse(fixed) : () => (latest.current.url as () => string)(),
        get token() {
          return latest.current.token
        },
        get onError() {
          return latest.current.onError
        }
      })),
    [latest, fixed]
  )
  return createElement(ClientContext.Provider, { value: client ?? made }, children)
}
