/**
 * How a hook finds its client, what it makes once, and how it calls what the latest render gave.
 */
import {
  createContext,
  useContext,
  useInsertionEffect,
  useMemo,
  useRef,
  useSyncExternalStore
} from "react"
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

export const nameOf = (channel: { readonly name: string } | string): string =>
  typeof channel === "string" ? channel : channel.name

const isSame = (one: unknown, other: unknown): boolean =>
  Array.isArray(one) && Array.isArray(other)
    ? one.length === other.length && one.every((value, index) => Object.is(value, other[index]))
    : Object.is(one, other)

/**
 * Made once for a client, a channel and a key: a family makes a new channel with each call, and an equal
 * name is the same.
 */
export const useMade = <Made>(
  channel: { readonly name: string } | string,
  key: unknown,
  make: (client: PlainClient) => Made
): Made => {
  const client = useClient()
  const name = nameOf(channel)
  const shown = useRef(key)
  const sameKey = isSame(shown.current, key) ? shown.current : key
  useInsertionEffect(() => {
    shown.current = sameKey
  })
  // oxlint-disable-next-line react-hooks/exhaustive-deps -- only another name or key is another one
  return useMemo(() => make(client), [client, name, sameKey])
}
