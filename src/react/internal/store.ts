/**
 * How a hook finds its client, and how it calls what the latest render gave.
 */
import { createContext, useContext, useInsertionEffect, useRef } from "react"
import { ChannelStore } from "../../client/ChannelStore.ts"

export const StoreContext = /* @__PURE__ */ createContext<ChannelStore | undefined>(undefined)

let shared: ChannelStore | undefined

/** The client of the nearest provider, or the one of the page. */
export const useStore = (): ChannelStore =>
  useContext(StoreContext) ?? (shared ??= ChannelStore.make({ url: "/realtime" }))

/** Holds what the last committed render gave, for callbacks that must not change. */
export const useLatestRef = <A>(value: A): { current: A } => {
  const ref = useRef(value)
  useInsertionEffect(() => {
    ref.current = value
  })
  return ref
}
