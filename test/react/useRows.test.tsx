/** The rows of a table in a component: identities, renders, filters by content, and leaving. */
import { act } from "@testing-library/react"
import type { Rows } from "effect-realtime/client"
import { useRows } from "effect-realtime/react"
import { renderToString } from "react-dom/server"
import { describe, expect, it, vi } from "vitest"
import type { Where } from "../../src/Channel.ts"
import type { ServerFrame } from "../../src/Frame.ts"
import { at, channel, events, type Order, Orders, row, state } from "../client/support/rows.ts"
import { page, settle } from "./support/page.tsx"

type Shown = Rows.Loaded<typeof Order.Type>
interface Props {
  readonly where?: Where<typeof Orders>
  readonly name?: unknown
  readonly enabled?: boolean
}

/** A page whose server sends the state of 3 orders, or of the packed one. */
const ordersPage = () => {
  const one = page()
  const { server } = one
  let tx = 5
  server.heard = (socket, frame) => {
    if (frame.type !== "subscribe" && frame.type !== "state") return server.answer(socket, frame)
    const where = frame.type === "subscribe" ? frame.where : undefined
    const view = where === undefined ? {} : { view: JSON.stringify(where) }
    const rows = where === undefined ? [row(1), row(2), row(3, "packed")] : [row(3, "packed")]
    if (frame.type === "state") return void socket.say(state(++tx, rows, { id: frame.id }))
    const how = frame.cursor === undefined ? "fresh" : "recovered"
    const cursor = frame.cursor ?? at(tx)
    const answer = { type: "subscribed", id: frame.id, channel, state: how, cursor } as const
    const states: ReadonlyArray<ServerFrame> = how === "fresh" ? [state(tx, rows, view)] : []
    socket.say({ ...answer, ...view }, ...states)
  }
  const shown: Array<Shown> = []
  const others: Array<Shown> = []
  const View = ({ enabled, name, where }: Props) => {
    shown.push(useRows(Orders, { where, key: name, enabled }))
    return null
  }
  const Other = () => {
    others.push(useRows(Orders))
    return null
  }
  const now = () => shown.at(-1)!
  const ids = () => now().rows.map(({ id }) => Number(id))
  return { ...one, View, Other, shown, others, now, ids }
}

describe("useRows", () => {
  it("shows the state, then each change, with one render for all frames of one paint", async () => {
    const { View, ids, now, render, say, shown, types } = ordersPage()
    render(<View />)
    expect(now()).toMatchObject({ status: "loading", rows: [], error: undefined, invalid: [] })
    await settle(() => now().status === "live")
    expect(ids()).toEqual([1, 2, 3])
    expect(types().filter((type) => type === "subscribe")).toHaveLength(1)
    const before = now()
    shown.length = 0
    await say(
      events(6, [["UPDATE", row(2, "packed")]]),
      events(7, [["INSERT", row(4)]]),
      events(8, [["DELETE", row(3)]])
    )
    await settle(() => shown.length > 0)
    // StrictMode renders twice.
    expect(shown).toHaveLength(2)
    expect(ids()).toEqual([1, 2, 4])
    expect(now().rows[0]).toBe(before.rows[0])
    expect(now().rows[1]).toMatchObject({ id: 2n, status: "packed" })
    expect(now().reload).toBe(before.reload)
    shown.length = 0
    // Nothing that is shown changes.
    await say(events(9, [["UPDATE", row(1)]]))
    await act(() => new Promise((resolve) => requestAnimationFrame(() => resolve(undefined))))
    expect(shown).toEqual([])
  })

  it("subscribes to a filter once, however often it is written anew", async () => {
    const { View, again, ids, now, server, shown, subscribed } = (() => {
      const one = ordersPage()
      return {
        ...one,
        ...one.render(<one.View where={{ status: ["packed", "new"], owner: null }} />)
      }
    })()
    await settle(() => now().status === "live")
    const before = now()
    again(<View where={{ owner: null, status: ["new", "packed"] }} />)
    expect(now()).toBe(before)
    await subscribed(1)
    shown.length = 0
    again(<View where={{ status: "new" }} />)
    // No render shows the rows of one filter under another.
    expect(shown[0]).toMatchObject({ status: "loading", rows: [] })
    await subscribed(2)
    await settle(() => now().status === "live")
    expect(ids()).toEqual([3])
    await settle(() => server.last.of("unsubscribe").length === 1)
    expect(server.last.of("unsubscribe")[0]).toHaveProperty("view")
  })

  it("shows what another component has from the first render on, with the same rows", async () => {
    const { Other, View, now, others, render } = ordersPage()
    const { again } = render(<View />)
    await settle(() => now().status === "live")
    again(
      <>
        <View />
        <Other />
      </>
    )
    expect(others[0]).toMatchObject({ status: "live" })
    expect(others[0]!.rows).toBe(now().rows)
  })

  it("calls all subscribers of its rows, also where one throws", async () => {
    const { now, render, say, store, View } = ordersPage()
    render(<View />)
    await settle(() => now().status === "live")
    const reported = vi.fn<(error: unknown) => void>()
    vi.stubGlobal("reportError", reported)
    const rows = store.rows(Orders)
    const calls: Array<string> = []
    const stops = [
      rows.subscribe(() => {
        throw new Error("mine")
      }),
      rows.subscribe(() => calls.push(rows.getSnapshot().status))
    ]
    await say(events(6, [["UPDATE", row(2, "packed")]]))
    await settle(() => calls.length > 0)
    expect(reported).toHaveBeenCalled()
    for (const stop of stops) stop()
    vi.unstubAllGlobals()
  })

  it("begins anew under another key", async () => {
    const { View, now, render, shown, subscribed } = ordersPage()
    const { again } = render(<View name={["a", 1]} />)
    await settle(() => now().status === "live")
    again(<View name={["a", 1]} />)
    expect(now().status).toBe("live")
    shown.length = 0
    again(<View name={["b", 1]} />)
    expect(shown[0]).toMatchObject({ status: "loading", rows: [] })
    await settle(() => now().status === "live")
    await subscribed(1)
  })

  it("reloads, also by a function of an earlier render, and ignores it once it is gone", async () => {
    const { View, now, render, server } = ordersPage()
    const { again, unmount } = render(<View where={{ status: "new" }} />)
    await settle(() => now().status === "live")
    const { reload } = now()
    again(<View />)
    await settle(() => now().status === "live")
    const { rows } = now()
    await act(() => reload())
    expect(server.last.of("state")).toHaveLength(1)
    expect(server.last.of("state")[0]).not.toHaveProperty("view")
    expect(now().rows).toBe(rows)
    unmount()
    await reload()
    expect(server.last.of("state")).toHaveLength(1)
  })

  it("neither opens nor follows anything while it is not enabled", async () => {
    const { View, now, render, server, types } = ordersPage()
    const { again } = render(<View enabled={false} />)
    await act(async () => {})
    expect(server.sockets).toHaveLength(0)
    again(<View />)
    await settle(() => now().status === "live")
    again(<View enabled={false} />)
    await settle(() => now().status === "stale")
    expect(now().rows).toHaveLength(3)
    await settle(() => types().includes("unsubscribe"))
  })

  it("leaves nothing behind when it is unmounted", async () => {
    const { View, now, render, server, store } = ordersPage()
    const { unmount } = render(<View />)
    await settle(() => now().status === "live")
    unmount()
    await settle(() => server.last.of("unsubscribe").length === 1)
    await settle(() => server.last.closedWith !== undefined)
    const { stores } = store.sync().host
    await settle(() => stores.size === 0)
    expect(stores.size).toBe(0)
  })

  it("shows `loading` on a server", () => {
    const { View, now, server, wrap } = ordersPage()
    renderToString(wrap(<View />))
    expect(now()).toMatchObject({ status: "loading", rows: [] })
    expect(server.sockets).toHaveLength(0)
  })

  it("shows an error for a filter that the definition does not have", async () => {
    const { View, now, render } = ordersPage()
    const report = vi.spyOn(console, "error").mockImplementation(() => {})
    render(<View where={{ id: 1n } as never} />)
    await settle(() => now().status === "error")
    expect(now().error).toMatchObject({ _tag: "InvalidWhere", column: "id" })
    expect(report).not.toHaveBeenCalled()
    report.mockRestore()
  })
})
