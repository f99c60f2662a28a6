import { useCallback, useRef, useState } from "react"

export interface Action {
  /** Starts the action, unless it is running. */
  readonly run: (task: () => Promise<unknown>) => void
  readonly running: boolean
  /** The error of the last run, as a sentence for users. */
  readonly error: string | undefined
}

/** An action of a button that takes time and may fail. */
export const useAction = (): Action => {
  const isRunning = useRef(false)
  const [running, setRunning] = useState(false)
  const [error, setError] = useState<string>()
  const run = useCallback((task: () => Promise<unknown>) => {
    if (isRunning.current) return
    isRunning.current = true
    setRunning(true)
    setError(undefined)
    task()
      .catch((cause: unknown) => setError(cause instanceof Error ? cause.message : String(cause)))
      .finally(() => {
        isRunning.current = false
        setRunning(false)
      })
  }, [])
  return { run, running, error }
}
