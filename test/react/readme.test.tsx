/** Runs the components of the README. */
import { act, fireEvent, screen } from "@testing-library/react"
import type { Root } from "react-dom/client"
import { afterEach, expect, it, vi } from "vitest"
import { Price } from "../../examples/react/App.tsx"
import { Notice } from "../../examples/Notices.tsx"
import { AnswerText } from "../../examples/react/AnswerText.tsx"
import { Chat } from "../../examples/react/Chat.tsx"
import { Answer } from "../../examples/channels.ts"
import { Composer } from "../../examples/react/Composer.tsx"
import { OrderList } from "../../examples/react/OrderList.tsx"
import { followOpen } from "../../examples/tables/plainRows.ts"
import { TicketList } from "../../examples/tables/TicketList.tsx"
import { events } from "../client/support/FakeSocket.ts"
import { page, settle } from "./support/page.tsx"

const answer = Answer("1")

/** The talk about a ticket. Its newest page has the message 3, and the page before it 1 and 2. */
const chat = () => {
  const shown = page()
  const { render, server } = shown
  const at = new Date(0).toISOString()
  server.heard = (socket, frame) => {
    if (frame.type !== "history") return server.answer(socket, frame)
    const { before, channel, id } = frame
    const ids = before === undefined ? ["3"] : ["1", "2"]
    const events = ids.map((id) => ({ id, at, data: { sender: "Ada", text: id } }))
    socket.say({ type: "history", id, channel, events, more: before === undefined })
  }
  return { ...shown, ...render(<Chat ticket={5} />) }
}

afterEach(() => vi.unstubAllGlobals())

it("Notices.tsx shows the last notice, and sends hello", async () => {
  const { render, say, server, subscribed } = page()
  render(<Notice />)
  await subscribed(1)
  await say(events("system_notifications", 1, { type: "info", message: "Grinder 2 is back" }))
  const shown = "Say hello. The last notice: Grinder 2 is back"
  await settle(() => screen.queryByText(shown) !== null)
  fireEvent.click(screen.getByText(shown))
  await settle(() => server.sent.some(({ type }) => type === "publish"))
  expect(server.sent.find(({ type }) => type === "publish")).toMatchObject({
    channel: "system_notifications",
    data: { type: "info", message: "hello" }
  })
})

it("App.tsx shows the last payload of an untyped channel, and the connection", async () => {
  const { render, say, subscribed } = page()
  render(<Price />)
  expect(screen.getByText("none yet (idle)").getAttribute("aria-busy")).toBe("false")
  await subscribed(1)
  await say(events("prices", 1, 42))
  await settle(() => screen.queryByText("42 (open)") !== null)
})

it("Composer.tsx shows what is not sent yet, until the server has answered", async () => {
  const { render, server } = page()
  server.heard = (socket, frame) => {
    if (frame.type !== "publish") server.answer(socket, frame)
  }
  const { container } = render(<Composer />)
  fireEvent.click(screen.getByText("Hello"))
  await settle(() => container.textContent?.includes("1 not sent yet") === true)
  await settle(() => server.last?.of("publish").length === 1)
  const [frame] = server.last.of("publish")
  expect(frame).toMatchObject({ channel: "room_lobby", data: { text: "hello" } })
  server.last.say({ type: "published", id: frame!.id })
  await settle(() => container.textContent?.includes("not sent") === false)
})

it("OrderList.tsx reads the orders, and applies their events", async () => {
  const order = { id: 1, customer: "Ada", status: "new" }
  const snapshot = { _tag: "Snapshot", value: [order], cursor: "e:1" }
  vi.stubGlobal("fetch", () => Promise.resolve({ json: () => Promise.resolve(snapshot) }))
  const { render, say, subscribed } = page()
  render(<OrderList />)
  await subscribed(1)
  await settle(() => screen.queryByText("1 orders") !== null)
  const update = { operation: "INSERT", data: { ...order, id: 2 } }
  await say(events("table_updates_orders", 1, update))
  await settle(() => screen.queryByText("2 orders") !== null)
  expect(screen.queryByText("1 orders")).toBeNull()
})

it("AnswerText.tsx shows a text while it arrives, and stops it", async () => {
  const { render, say, server, subscribed } = page()
  const { container } = render(<AnswerText channel={answer} />)
  await subscribed(1)
  await say(events("query_results_1", 1, { status: "running" }))
  await say(events("query_results_1", 2, { status: "running", chunk: "Once upon" }))
  await settle(() => container.textContent?.includes("Once upon") === true)
  fireEvent.click(screen.getByText("Stop"))
  await settle(() => server.last.of("publish").length === 1)
  await say(events("query_results_1", 3, { status: "error", error: "too tired" }))
  await settle(() => screen.queryByText("Stop") === null)
  expect(container.textContent?.trim()).toBe("Once upon too tired")
})

/** A page whose server sends these rows for a filter, and where they are. */
const rowsPage = (channel: string, status: string, ...rows: ReadonlyArray<object>) => {
  const shown = page()
  const { server } = shown
  const told = { channel, view: "v", cursor: "e:1" }
  server.heard = (socket, frame) => {
    if (frame.type !== "subscribe") return server.answer(socket, frame)
    expect(frame).toMatchObject({ channel, state: true, where: { status } })
    socket.say(
      { type: "subscribed", id: frame.id, state: "fresh", ...told },
      { type: "state", rows, more: false, ...told }
    )
  }
  return { ...shown, told }
}

it("main.tsx renders the page, and NewOrders counts the rows of its filter", async () => {
  const place = document.body.appendChild(document.createElement("div"))
  place.id = "root"
  let root: Root | undefined
  vi.doMock(import("react-dom/client"), async (original) => {
    const real = await original()
    return { ...real, createRoot: (...args) => (root = real.createRoot(...args)) }
  })
  const { NewOrders } = await act(() => import("../../examples/main.tsx"))
  expect(place.textContent).toBe("0 new ordersSay hello. The last notice: nothing yet")
  act(() => root!.unmount())
  place.remove()
  vi.doUnmock("react-dom/client")
  const order = { id: 7, customer: "Ada", status: "new" }
  const { render } = rowsPage("table_updates_orders", "new", order)
  render(<NewOrders />)
  await settle(() => screen.queryByText("1 new orders") !== null)
  expect(screen.getByText("1 new orders").getAttribute("aria-busy")).toBe("false")
})

it("TicketList.tsx, plainRows.ts: show the rows of a filter, and each change of them", async () => {
  const ticket = { id: 7, status: "open", team: "east" }
  const { render, say, store, told } = rowsPage("table_updates_tickets", "open", ticket)
  render(<TicketList status="open" />)
  expect(screen.getByText("Loading")).toBeDefined()
  await settle(() => screen.queryByText("Ticket 7 of east") !== null)
  const counts: Array<number> = []
  const stop = followOpen(store, (count) => void counts.push(count))
  const at = new Date(0).toISOString()
  const data = { operation: "DELETE", key: { id: 7 } }
  await say({ type: "events", ...told, cursor: "e:2", events: [{ id: "1", at, data }] })
  await settle(() => screen.queryAllByRole("listitem").length === 0)
  await settle(() => counts.at(-1) === 0)
  stop()
})

it("Chat.tsx shows the newest messages, those before them, and each new one", async () => {
  const { container, server, say, subscribed } = chat()
  await subscribed(1)
  await settle(() => container.textContent === "EarlierAda: 3")
  fireEvent.click(screen.getByText("Earlier"))
  await settle(() => container.textContent === "Ada: 1Ada: 2Ada: 3")
  await say(events("talk_5", 4, { sender: "Bob", text: "4" }))
  await settle(() => container.textContent?.endsWith("Ada: 3Bob: 4") === true)
  expect(server.sent.filter(({ type }) => type === "history")).toMatchObject([
    { channel: "talk_5", limit: 50 },
    { channel: "talk_5", limit: 50, before: "3" }
  ])
})
