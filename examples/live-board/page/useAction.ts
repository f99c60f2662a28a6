import { useCallback, useState } from "react"

export interface Action {
  /** Starts it, unless it is still running. */
  readonly run: (task: () => Promise<unknown>) => void
  readonly running: boolean
  /** Why the last run failed, in words for people. */
  readonly error: string | undefined
}

/** Something that takes a while and may fail, started by a button. */
export const useAction = (): Action => {
  const [running, setRunning] = useState(false)
  const [error, setError] = useState<string>()
  const run = useCallback((task: () => Promise<unknown>) => {
    setRunning(true)
    setError(undefined)
    task()
      .catch((cause: unknown) => setError(cause instanceof Error ? cause.message : String(cause)))
      .finally(() => setRunning(false))
  }, [])
  return { run, running, error }
}
