import { useConnection, useSource } from "effect-realtime/react"
import { useLayoutEffect, useReducer } from "react"

interface Change {
  readonly isBroken: boolean
  readonly at: Date
}

const reduce = (since: Date | undefined, { at, isBroken }: Change): Date | undefined =>
  isBroken ? (since ?? at) : undefined

/** The path from the database to this page, as its two halves, and as a whole. */
export const useLink = () => {
  const connection = useConnection()
  const source = useSource()
  const isBroken = connection.status !== "open" || source !== "up"
  const [since, dispatch] = useReducer(reduce, undefined)
  useLayoutEffect(() => dispatch({ isBroken, at: new Date() }), [isBroken])
  return {
    connection,
    source,
    /** Since when a half is broken, `undefined` if the page is live. */
    since
  }
}

export type Link = ReturnType<typeof useLink>
