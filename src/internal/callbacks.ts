/** Calls of what the application wrote, and where the errors of those go. */

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
