/** Runs the recipes for batches, TanStack Query and zustand: one call, one request, or one change for many rows. */
import { QueryClient, QueryClientProvider } from "@tanstack/react-query"
import { screen } from "@testing-library/react"
import { act } from "react"
import { afterEach, expect, it, vi } from "vitest"
import { useStore } from "zustand"
import { Changes } from "../../examples/react/Changes.tsx"
import { makeOrdersStore } from "../../examples/react/ordersStore.ts"
import { NewOrders } from "../../examples/react/Queries.tsx"
import { events } from "../client/support/FakeSocket.ts"
import { page, settle } from "./support/page.tsx"

afterEach(() => vi.unstubAllGlobals())

const order = (id: number) => ({ id, customer: "Ada", status: "new" })
const ids = Array.from({ length: 200 }, (_, index) => index + 1)

const changes = ids.map((id) => ({ operation: "INSERT", data: order(id) }))
const channel = "table_updates_orders"

/** What 200 inserted rows are on the wire, when one statement or 200 transactions insert them. */
const frames = {
  "one frame": [events(channel, 2, ...changes)],
  "200 frames": changes.map((change, index) => events(channel, 2 + index, change))
}
const ways = Object.keys(frames) as ReadonlyArray<keyof typeof frames>

/** An API that counts its requests. */
const serving = (answer: () => unknown) => {
  const fetched = vi.fn<() => Promise<{ readonly json: () => Promise<unknown> }>>(() =>
    Promise.resolve({ json: () => Promise.resolve(answer()) })
  )
  vi.stubGlobal("fetch", fetched)
  return fetched
}

/** Long enough for any request that a timer would send. */
const rest = () => act(() => new Promise((resolve) => setTimeout(resolve, 300)))

it.each(ways)(
  "Queries.tsx sends one request for 200 rows in %s, and one after a gap",
  async (way) => {
    let answer: ReadonlyArray<object> = []
    const fetched = serving(() => answer)
    const { render, say, subscribed } = page()
    const queries = new QueryClient()
    render(
      <QueryClientProvider client={queries}>
        <NewOrders />
      </QueryClientProvider>
    )
    await subscribed(1)
    await settle(() => screen.queryByText("0 new orders") !== null)
    await rest()
    // The component reads when it mounts, and once more when its subscription is active.
    expect(fetched.mock.calls.length).toBeLessThanOrEqual(2)
    fetched.mockClear()

    answer = ids.map(order)
    await say(...frames[way])
    await settle(() => screen.queryByText("200 new orders") !== null)
    await rest()
    expect(fetched).toHaveBeenCalledTimes(1)

    answer = []
    await say({ type: "gap", channel, reason: "source", cursor: "e:201" })
    await settle(() => screen.queryByText("0 new orders") !== null)
    await rest()
    expect(fetched).toHaveBeenCalledTimes(2)
    queries.clear()
  }
)

it.each(ways)(
  "ordersStore.ts changes the store once for 200 rows in %s, without a request",
  async (way) => {
    const state = { _tag: "Snapshot", value: [order(0)], cursor: "e:1" }
    const fetched = serving(() => state)
    const { render, say, store: client, subscribed } = page()
    const { stop, store } = makeOrdersStore(client)
    const Count = () => <p>{useStore(store, ({ value }) => value.size)} orders</p>
    render(<Count />)
    await subscribed(1)
    await settle(() => screen.queryByText("1 orders") !== null)
    const changed = vi.fn<() => void>()
    store.subscribe(changed)
    await say(...frames[way])
    await settle(() => screen.queryByText("201 orders") !== null)
    await rest()
    expect(changed).toHaveBeenCalledTimes(1)
    expect(fetched).toHaveBeenCalledTimes(1)
    expect(store.getState().status).toBe("live")
    stop()
  }
)

it("Changes.tsx shows one message for 200 rows in one frame, and one for a gap", async () => {
  const { render, say, subscribed } = page()
  render(<Changes />)
  await subscribed(1)
  const shown = vi.fn<(text: string | null) => void>()
  const watch = new MutationObserver(() => shown(document.body.textContent))
  watch.observe(document.body, { characterData: true, childList: true, subtree: true })
  await say(...frames["one frame"])
  await settle(() => screen.queryByText("200 orders have changed") !== null)
  await say({ type: "gap", channel, reason: "source", cursor: "e:201" })
  await settle(() => screen.queryByText("Orders may have changed") !== null)
  expect(shown.mock.calls).toEqual([["200 orders have changed"], ["Orders may have changed"]])
  watch.disconnect()
})
