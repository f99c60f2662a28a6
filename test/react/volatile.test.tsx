import { Channel } from "effect-realtime"
import { type Send, useLatest, usePublish, useWebSocket } from "effect-realtime/react"
import * as Schema from "effect/Schema"
import { expectTypeOf, describe, expect, it } from "vitest"
import * as FakeSocket from "../client/support/FakeSocket.ts"
import { page, settle } from "./support/page.tsx"

const Typing = Channel.family("typing_", Schema.String, Schema.Struct({ user: Schema.String }), {
  delivery: "volatile",
  publish: true,
  latestBy: "user"
})
const Lobby = Typing("lobby")

type Typist = { readonly user: string }

/** A page whose server answers as on a volatile channel. */
const volatilePage = () => {
  const given = page({ backoff: { initial: 1, cap: 1, resetAfter: 1000 } })
  const answers: typeof given.server.heard = (socket, frame) => {
    if (frame.type !== "subscribe") return given.server.answer(socket, frame)
    const { channel, id } = frame
    socket.say({ type: "subscribed", id, channel, state: "fresh" })
  }
  given.server.heard = answers
  const say = async (seq: number, user: string) => {
    const { cursor: _, ...frame } = FakeSocket.events("typing_lobby", seq, { user })
    await given.say(frame)
  }
  return { ...given, answers, say }
}

describe("hooks of a volatile channel", () => {
  it("useWebSocket handles events and sends, and useLatest is live with the latest, also after a reconnect", async () => {
    const { answers, render, say, server, subscribed } = volatilePage()
    const seen: Array<string> = []
    const gaps: Array<unknown> = []
    const sends: Array<Send<Typist, "published" | "dropped">> = []
    const View = () => {
      const { sendNotification } = useWebSocket(Lobby, ({ user }) => seen.push(user), {
        onGap: (gap) => gaps.push(gap)
      })
      sends.push(sendNotification)
      const { status, value } = useLatest(Lobby)
      return <p>{`${status} ${value?.user}`}</p>
    }
    const view = render(<View />)
    await subscribed(1)
    await settle(() => view.container.textContent === "live undefined")
    await say(1, "ann")
    await settle(() => view.container.textContent === "live ann")
    const outcome = await sends[0]!({ user: "eve" })
    expectTypeOf(outcome).toEqualTypeOf<"published" | "dropped">()
    expect(outcome).toBe("published")
    server.heard = (socket) => socket.drop()
    server.last.drop()
    await settle(() => view.container.textContent === "stale ann")
    expect(await sends[0]!({ user: "eve" })).toBe("dropped")
    server.heard = answers
    await subscribed(2)
    await settle(() => view.container.textContent === "live ann")
    await say(2, "bob")
    await settle(() => view.container.textContent === "live bob")
    expect([seen, gaps]).toEqual([["ann", "bob"], []])
  })

  it("usePublish drops without an error while there is no connection", async () => {
    const { render, server } = volatilePage()
    const errors: Array<unknown> = []
    const given: Array<Send<Typist, "published" | "dropped">> = []
    const Sender = () => {
      given.push(usePublish(Lobby, { onError: (error) => errors.push(error) }))
      return null
    }
    render(<Sender />)
    expect(await given.at(-1)!({ user: "ann" })).toBe("dropped")
    await settle(() => server.sockets.length === 1 && server.last.readyState === 1)
    expect(await given.at(-1)!({ user: "ann" })).toBe("published")
    expect(errors).toEqual([])
    expect(server.last.of("publish").map(({ data }) => data)).toEqual([{ user: "ann" }])
  })
})
