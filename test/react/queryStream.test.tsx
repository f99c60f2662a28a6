import { Channel } from "effect-realtime"
import { type QueryStreamHandle, useQueryStream } from "effect-realtime/react"
import * as Schema from "effect/Schema"
import { renderToString } from "react-dom/server"
import { describe, expect, expectTypeOf, it } from "vitest"
import { formatDurable, whole } from "../../src/internal/cursorText.ts"
import { page, settle } from "./support/page.tsx"

const Answer = Channel.queryResults(Schema.String, { delivery: "durable", publish: true })
const answer = Answer("1")
const readOnly = Channel.queryResults(Schema.String, { delivery: "durable" })("1")
const channel = answer.name
type Shown = QueryStreamHandle<string, () => Promise<void>>

const cursorAt = (tx: number) =>
  formatDurable({
    identity: "AAAAAAAA",
    position: whole({ xmax: BigInt(tx) + 1n, running: [] }),
    witness: { tx: BigInt(tx), id: BigInt(tx), at: 1n }
  })

const events = (from: number, ...payloads: ReadonlyArray<Channel.QueryResult<string>>) => ({
  type: "events" as const,
  channel,
  cursor: cursorAt(from + payloads.length - 1),
  events: payloads.map((data, index) => ({
    id: String(from + index),
    at: "2026-11-22T00:00:00.000Z",
    data,
    tx: String(from + index)
  }))
})

const answerPage = () => {
  const one = page()
  const { server } = one
  server.heard = (socket, frame) => {
    if (frame.type !== "subscribe") return server.answer(socket, frame)
    const state = frame.cursor === undefined ? "fresh" : "recovered"
    socket.say({ type: "subscribed", id: frame.id, channel, state, cursor: cursorAt(1) })
  }
  const shown: Array<Shown> = []
  const View = () => {
    shown.push(useQueryStream(answer))
    return null
  }
  return { ...one, View, now: () => shown.at(-1)! }
}

describe("useQueryStream", () => {
  it("begins with the oldest event, joins chunks, and ends with the whole", async () => {
    const { View, now, render, say, server, subscribed } = answerPage()
    render(<View />)
    expect(now()).toMatchObject({ status: "loading", value: undefined, isStale: false })
    await subscribed(1)
    expect(server.last.of("subscribe")[0]).toMatchObject({ cursor: "oldest" })
    await settle(() => now().status === "waiting")
    await say(events(2, { status: "running" }, { status: "running", chunk: "a" }))
    await say(events(4, { status: "running", chunk: "b" }, { status: "stop" }))
    await settle(() => now().value === "ab")
    expect(now()).toMatchObject({ status: "running", error: undefined, isStale: false })
    await say(events(6, { status: "completed", data: "abc" }, { status: "running", chunk: "c" }))
    await settle(() => now().status === "completed")
    expect(now().value).toBe("abc")
    await say(events(8, { status: "running" }, { status: "error", error: "no", data: "" }))
    await settle(() => now().status === "error")
    expect(now()).toMatchObject({ error: "no", value: "" })
  })

  it("is stale after a gap until the work ends, and goes on from its position after a loss of the link", async () => {
    const { View, now, render, say, server, subscribed } = answerPage()
    render(<View />)
    await subscribed(1)
    await say(events(2, { status: "running" }, { status: "running", chunk: "a" }))
    await settle(() => now().value === "a")
    server.last.drop(1006)
    await settle(() => now().isStale)
    await subscribed(2)
    expect(server.last.of("subscribe")[0]).toMatchObject({ cursor: cursorAt(3) })
    await settle(() => !now().isStale)
    await say({ type: "gap", channel, reason: "slow", cursor: cursorAt(5) })
    await settle(() => now().isStale)
    await say(events(6, { status: "stopped", data: "abc" }))
    await settle(() => now().status === "stopped")
    expect(now()).toMatchObject({ value: "abc", isStale: false, error: undefined })
  })

  it("publishes stop, with one function per channel, where the channel allows it", async () => {
    const { View, now, render, server, subscribed } = answerPage()
    render(<View />)
    await subscribed(1)
    const { stop } = now()
    await stop()
    expect(server.last.of("publish")).toMatchObject([{ channel, data: { status: "stop" } }])
    expect(now().stop).toBe(stop)
    const stopOf = () => useQueryStream(readOnly).stop
    expectTypeOf<ReturnType<typeof stopOf>>().not.toBeFunction()
  })

  it("is loading on a server", () => {
    const { View, now, wrap } = answerPage()
    renderToString(wrap(<View />))
    expect(now()).toMatchObject({ status: "loading", value: undefined })
  })
})
