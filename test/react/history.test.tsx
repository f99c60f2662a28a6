import { Channel } from "effect-realtime"
import type { History } from "effect-realtime/client"
import { useHistory } from "effect-realtime/react"
import * as Schema from "effect/Schema"
import { renderToString } from "react-dom/server"
import { describe, expect, expectTypeOf, it } from "vitest"
import * as FakeSocket from "../client/support/FakeSocket.ts"
import { page, settle } from "./support/page.tsx"

const Numbers = Channel.make("numbers", Schema.Finite)
const at = "2026-11-22T00:00:00.000Z"

/** A page of a server that has the events 1 to 8. */
const historyPage = () => {
  const one = page()
  const { server } = one
  server.heard = (socket, frame) => {
    if (frame.type !== "history") return server.answer(socket, frame)
    const { before = "9", channel, id, limit } = frame
    const from = Math.max(1, Number(before) - limit)
    const events = Array.from({ length: Number(before) - from }, (_, n) => ({
      id: String(from + n),
      at,
      data: from + n
    }))
    socket.say({ type: "history", id, channel, events, more: from > 1 })
  }
  const shown: Array<History.History<number>> = []
  const View = ({ limit = 3, name = "numbers" }: { limit?: number; name?: string }) => {
    shown.push(
      useHistory(name === "numbers" ? Numbers : Channel.make(name, Schema.Finite), { limit })
    )
    return (
      <p>
        {shown
          .at(-1)!
          .events.map(({ payload }) => payload)
          .join()}
      </p>
    )
  }
  return { ...one, View, shown, now: () => shown.at(-1)! }
}

const payloads = ({ events }: History.History<number>) => events.map(({ payload }) => payload)

describe("useHistory", () => {
  it("shows the newest page under StrictMode, then new events and the pages that it loads", async () => {
    const { View, now, render, say, server, shown } = historyPage()
    render(<View />)
    expect(now()).toMatchObject({ status: "loading", events: [], more: false })
    await settle(() => now().status === "live")
    expect(payloads(now())).toEqual([6, 7, 8])
    expect(server.sent.filter(({ type }) => type === "history")).toHaveLength(1)
    const { loadMore } = now()
    await say(FakeSocket.events("numbers", 9, 9))
    await settle(() => now().events.length === 4)
    const kept = now().events[0]
    void now().loadMore()
    await settle(() => now().events.length === 7)
    expect(payloads(now())).toEqual([3, 4, 5, 6, 7, 8, 9])
    expect(now().events[3]).toBe(kept)
    expect(shown.every((one) => one.loadMore === loadMore)).toBe(true)
    expectTypeOf(now().events[0]!.payload).toEqualTypeOf<number>()
  })

  it("renders once for many frames between two frames of the page", async () => {
    const { View, now, render, say, shown } = historyPage()
    render(<View />)
    await settle(() => now().status === "live")
    const count = shown.length
    await say(
      FakeSocket.events("numbers", 9, 9),
      FakeSocket.events("numbers", 10, 10, 11),
      FakeSocket.events("numbers", 12, 12)
    )
    await settle(() => now().events.length === 7)
    // StrictMode renders twice.
    expect(shown.length - count).toBe(2)
  })

  it("shows nothing of one channel under another, and asks with the latest limit", async () => {
    const { View, now, render, server, shown } = historyPage()
    const view = render(<View />)
    await settle(() => now().status === "live")
    const count = shown.length
    view.again(<View name="others" limit={2} />)
    expect(shown.slice(count).every(({ events }) => events.length === 0)).toBe(true)
    await settle(() => now().status === "live")
    expect(payloads(now())).toEqual([7, 8])
    expect(server.sent.findLast(({ type }) => type === "history")).toMatchObject({
      channel: "others",
      limit: 2
    })
  })

  it("renders on a server as loading", () => {
    const { View, wrap } = historyPage()
    expect(renderToString(wrap(<View />))).toBe("<p></p>")
  })
})
