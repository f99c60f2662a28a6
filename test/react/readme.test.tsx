/** Runs the components of the README. */
import { fireEvent, screen } from "@testing-library/react"
import { afterEach, expect, it, vi } from "vitest"
import { Price } from "../../examples/react/App.tsx"
import { Notice } from "../../examples/Notices.tsx"
import { AnswerText } from "../../examples/react/AnswerText.tsx"
import { Answer } from "../../examples/channels.ts"
import { Composer } from "../../examples/react/Composer.tsx"
import { OrderList } from "../../examples/react/OrderList.tsx"
import { events } from "../client/support/FakeSocket.ts"
import { page, settle } from "./support/page.tsx"

const answer = Answer("1")

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
