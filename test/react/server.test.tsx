import { Channel } from "effect-realtime"
import {
  RealtimeProvider,
  useChannel,
  useConnection,
  useLatest,
  useSource,
  useWebSocket
} from "effect-realtime/react"
import { StrictMode } from "react"
import { renderToString } from "react-dom/server"
import { afterEach, expect, it, vi } from "vitest"
import * as RealtimeClient from "../../src/client/RealtimeClient.ts"

vi.mock("../../src/client/RealtimeClient.ts", { spy: true })

afterEach(() => vi.unstubAllGlobals())

const asked = vi.fn<() => string>(() => "t")

const View = () => {
  const { connection } = useWebSocket(Channel.systemNotifications, () => {})
  const { value } = useChannel("numbers", { initial: [1], reduce: (list) => list })
  const latest = useLatest("numbers")
  return (
    <p>{[connection.status, useConnection().status, useSource(), value, latest.status].join()}</p>
  )
}

it.each([
  { name: "without a provider", page: <View /> },
  {
    name: "with one",
    page: (
      <RealtimeProvider url="wss://host/realtime" token={asked}>
        <View />
      </RealtimeProvider>
    )
  },
  {
    name: "with one whose address is a function",
    page: (
      <RealtimeProvider url={asked} token={asked}>
        <View />
      </RealtimeProvider>
    )
  }
])("rendering on a server $name does nothing", ({ page }) => {
  const opened = vi.fn<() => void>()
  const timed = vi.fn<() => void>()
  const complained = vi.spyOn(console, "error")
  vi.stubGlobal("WebSocket", opened)
  vi.stubGlobal("setTimeout", timed)
  vi.stubGlobal("setInterval", timed)
  expect(renderToString(<StrictMode>{page}</StrictMode>)).toBe("<p>idle,idle,up,1,loading</p>")
  expect(opened).not.toHaveBeenCalled()
  expect(timed).not.toHaveBeenCalled()
  expect(RealtimeClient.make).not.toHaveBeenCalled()
  expect(asked).not.toHaveBeenCalled()
  expect(complained).not.toHaveBeenCalled()
})
