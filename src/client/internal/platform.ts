/**
 * What a browser and Node do differently: the socket class, the address of the page, the signals
 * that a page gives, where an unexpected error goes.
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

/** How long `inNextFrame` waits where there are no frames, in milliseconds. */
const frameless = 100

/** Runs `run` before the next frame is painted; after 100 ms where none is: in Node, in a hidden page. */
export const inNextFrame = (run: () => void): void => {
  const once = () => {
    clearTimeout(timer)
    globalThis.cancelAnimationFrame?.(frame)
    run()
  }
  const timer = setTimeout(once, frameless)
  const frame = globalThis.requestAnimationFrame?.(once)
}

/**
 * Shows an error that has no `onError` where uncaught errors are shown, and stops nothing. Not that of a
 * connection that stopped (`ConnectionStopped`), however many listen: its client reports that once.
 */
export const report = (error: unknown): void => {
  if ((error as { readonly _tag?: unknown } | null)?._tag === "ConnectionStopped") return
  if (globalThis.reportError) globalThis.reportError(error)
  else {
    queueMicrotask(() => {
      throw error
    })
  }
}

/** Runs what the application wrote, and calls `failed` with what it throws. */
export const attempt = (run: () => void, failed: (error: unknown) => void): void => {
  try {
    run()
  } catch (error) {
    failed(error)
  }
}
