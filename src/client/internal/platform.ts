/**
 * What a browser and Node do differently: the socket class, the address of the page, the signals
 * that a page gives.
 *
 * @since 0.1.0
 */

/**
 * The part of a WebSocket that the client uses. The classes of browsers, of Node and of `ws` have it.
 *
 * @category models
 * @since 0.1.0
 */
export interface WebSocketLike {
  readonly readyState: number
  onopen: ((event: never) => void) | null
  onmessage: ((event: never) => void) | null
  onclose: ((event: never) => void) | null
  onerror: ((event: never) => void) | null
  send(text: string): void
  close(code?: number): void
  /** Destroys the connection without waiting for the peer. Only `ws` has it. */
  terminate?(): void
}

/**
 * The class of a WebSocket: that of a browser, of Node, or of `ws`.
 *
 * @category models
 * @since 0.1.0
 */
export type WebSocketConstructor = new (url: string, protocols: Array<string>) => WebSocketLike

/** The absolute `ws` or `wss` address, on this page or on `page`; throws when there is none. */
export const resolveUrl = (url: string, page = globalThis.location?.href): string =>
  new URL(url, page).href.replace(/^http/, "ws")

/** Whether the platform knows that there is no network. `false` where it cannot know. */
export const isOffline = (): boolean => globalThis.navigator?.onLine === false

/** Calls `check` when the page is shown or restored, goes offline, or is online again. */
export const onPageSignal = (check: () => void): (() => void) => {
  const listening = new AbortController()
  for (const type of ["visibilitychange", "pageshow", "offline", "online"]) {
    globalThis.addEventListener?.(
      type,
      () => {
        if (type.endsWith("line") || !document.hidden) check()
      },
      // The window hears what happens to its document only while capturing.
      { capture: true, signal: listening.signal }
    )
  }
  return () => listening.abort()
}
