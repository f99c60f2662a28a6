import { act, cleanup, render } from "@testing-library/react"
import { createRealtimeClient, type PlainClient, type RealtimeClient } from "effect-realtime/client"
import { RealtimeProvider } from "effect-realtime/react"
import { type ReactNode, StrictMode } from "react"
import { afterEach } from "vitest"
import type { ServerFrame } from "../../../src/Frame.ts"
import * as FakeSocket from "../../client/support/FakeSocket.ts"

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true })

const stores: Array<PlainClient.PlainClient> = []
afterEach(async () => {
  cleanup()
  await Promise.all(stores.splice(0).map((store) => store.close()))
})

/** A server, a store of it, and a function that renders under StrictMode with both. */
export const page = (options?: Partial<RealtimeClient.Options>) => {
  const server = FakeSocket.make({ auto: true })
  const store = createRealtimeClient({
    url: "ws://host/realtime",
    webSocket: server.webSocket,
    linger: 20,
    ...options
  })
  stores.push(store)
  const wrap = (children: ReactNode) => (
    <StrictMode>
      <RealtimeProvider client={store}>{children}</RealtimeProvider>
    </StrictMode>
  )
  const types = () => server.sent.map(({ type }) => type)
  return {
    server,
    store,
    types,
    wrap,
    render: (children: ReactNode) => {
      const view = render(wrap(children))
      return { ...view, again: (children: ReactNode) => view.rerender(wrap(children)) }
    },
    /** Waits until the client sent this many subscribe frames. */
    subscribed: (count: number) =>
      settle(() => types().filter((type) => type === "subscribe").length === count),
    say: (...frames: ReadonlyArray<ServerFrame>) =>
      act(async () => {
        server.last.say(...frames)
      })
  }
}

/** Lets React and the client run until `condition` holds, and fails after 2 s. */
export const settle = async (condition: () => boolean): Promise<void> => {
  const end = performance.now() + 2000
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within 2 s: ${String(condition)}`)
    // React 18 renders when an `act` ends, so each look has its own `act`.
    // oxlint-disable-next-line no-await-in-loop -- each look follows a wait
    await act(() => new Promise((resolve) => setTimeout(resolve, 1)))
  }
}
