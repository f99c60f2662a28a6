import { act, cleanup, render, screen } from "@testing-library/react"
import { Channel } from "effect-realtime"
import { ChannelStore } from "effect-realtime/client"
import { RealtimeProvider, useChannel, useWebSocket } from "effect-realtime/react"
import * as Schema from "effect/Schema"
import { StrictMode } from "react"
import { afterEach, expect, it } from "vitest"
import * as FakeSocket from "../client/support/FakeSocket.ts"

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true })
afterEach(cleanup)

const Orders = Channel.make("orders", Schema.Struct({ n: Schema.Finite }), { publish: true })

it("smoke", async () => {
  const server = FakeSocket.make({ auto: true })
  const store = ChannelStore.make({ url: "ws://host/realtime", webSocket: server.webSocket })
  const seen: Array<number> = []
  const View = () => {
    const { connection } = useWebSocket(Orders, (o) => seen.push(o.n))
    const { value } = useChannel(Orders, { initial: 0, reduce: (s, o) => s + o.n })
    return (
      <p>
        {connection.status} {value}
      </p>
    )
  }
  render(
    <StrictMode>
      <RealtimeProvider client={store}>
        <View />
      </RealtimeProvider>
    </StrictMode>
  )
  await act(async () => {
    await new Promise((r) => setTimeout(r, 20))
  })
  await act(async () => {
    server.last.say(FakeSocket.events("orders", 1, { n: 1 }, { n: 2 }))
    await new Promise((r) => setTimeout(r, 20))
  })
  expect(seen).toEqual([1, 2])
  expect(screen.getByText("open 3")).toBeTruthy()
  expect(server.sent.map((f) => f.type)).toEqual(["hello", "subscribe"])
})
