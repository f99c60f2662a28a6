/**
 * How a hook finds its client, and how it calls what the latest render gave.
 */
import { createContext, useContext, useInsertionEffect, useRef, useSyncExternalStore } from "react"
import { make, type PlainClient } from "../../client/PlainClient.ts"
import type { Readable } from "../../client/Readable.ts"

export const ClientContext = /* @__PURE__ */ createContext<PlainClient | undefined>(undefined)

let shared: PlainClient | undefined

/** The client of the nearest provider, or the one of the page. */
export const useClient = (): PlainClient =>
  useContext(ClientContext) ?? (shared ??= make({ url: "/realtime" }))

/** What a readable has now, and what it is said to have while rendering on a server. */
export const useReadable = <A>({ getSnapshot, subscribe }: Readable<A>, onServer: A): A =>
  useSyncExternalStore(subscribe, getSnapshot, () => onServer)

/** Holds what the last committed render gave, for callbacks that must not change. */
export const useLatestRef = <A>(value: A): { current: A } => {
  const ref = useRef(value)
  useInsertionEffect(() => {
    ref.current = value
  })
  return ref
}
