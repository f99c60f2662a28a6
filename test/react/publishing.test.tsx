import { act, render as renderBare } from "@testing-library/react"
import { Channel } from "effect-realtime"
import {
  RealtimeProvider,
  type Send,
  useChannel,
  useConnection,
  usePublish,
  usePublishQueue,
  useReconnect,
  useWebSocket
} from "effect-realtime/react"
import * as Schema from "effect/Schema"
import { renderToString } from "react-dom/server"
import { afterEach, describe, expect, it, vi } from "vitest"
import * as FakeSocket from "../client/support/FakeSocket.ts"
import { page, settle } from "./support/page.tsx"

const Order = Schema.Struct({ n: Schema.Finite })
const Orders = Channel.make("orders", Order, { publish: true })
const room = Channel.family("room_", Schema.String, Order, { publish: true })

afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllGlobals()
})

const range = (length: number) => Array.from({ length }, (_, index) => index)

describe("usePublish", () => {
  it("sends without a subscription, and gives one function per channel", async () => {
    const { render, server, types } = page()
    const given: Array<Send<{ readonly n: number }>> = []
    const Sender = ({ name }: { readonly name: string }) => {
      given.push(usePublish(room(name)))
      return null
    }
    const view = render(<Sender name="a" />)
    view.again(<Sender name="a" />)
    expect(new Set(given).size).toBe(1)
    expect(server.sockets.length).toBe(0)
    await given.at(-1)!({ n: 1 }, { key: "mine" })
    expect(types()).toEqual(["hello", "publish"])
    expect(server.last.of("publish")).toMatchObject([
      { channel: "room_a", key: "mine", data: { n: 1 } }
    ])
    view.again(<Sender name="b" />)
    await given.at(-1)!({ n: 2 })
    expect(server.last.of("publish")[1]).toMatchObject({ channel: "room_b", data: { n: 2 } })
  })

  it("reports a failed publish to the onError of the latest render, and to its promise", async () => {
    const { render } = page()
    const failures: Array<string> = []
    const given: Array<Send<unknown>> = []
    const Sender = ({ prefix }: { readonly prefix: string }) => {
      const onError = (error: unknown) =>
        failures.push(`${prefix} ${(error as { readonly _tag: string })._tag}`)
      given.push(usePublish("bad name", { onError }))
      return null
    }
    const view = render(<Sender prefix="first" />)
    view.again(<Sender prefix="second" />)
    await expect(given[0]!(1)).rejects.toMatchObject({ _tag: "InvalidChannelName" })
    await settle(() => failures.length === 1)
    expect(failures).toEqual(["second InvalidChannelName"])
  })

  it("does not compile for a channel without publish, or another payload", () => {
    const ReadOnly = Channel.make("read_only", Order)
    const DoesNotCompile = () => {
      // @ts-expect-error the channel is not defined with publish: true
      usePublish(ReadOnly)
      // @ts-expect-error the payload is not the channel's
      void usePublish(Orders)({ n: "1" })
      return null
    }
    expect(DoesNotCompile).toBeTypeOf("function")
  })
})

describe("usePublishQueue", () => {
  const Waiting = () => {
    const { bytes, messages } = usePublishQueue()
    return `${messages} ${bytes}`
  }

  it("shows what waits, and nothing after the answers", async () => {
    const { render, server, store } = page()
    server.heard = (socket, frame) => {
      if (frame.type !== "publish") server.answer(socket, frame)
    }
    const view = render(<Waiting />)
    expect(view.container.textContent).toBe("0 0")
    const sent = [1, 2].map((n) => store.publish(Orders, { n }))
    await settle(() => view.container.textContent === "2 14")
    await settle(() => server.last?.of("publish").length === 2)
    const answer = (index: number) =>
      act(async () => {
        server.last.say({ type: "published", id: server.last.of("publish")[index]!.id })
      })
    await answer(0)
    expect(view.container.textContent).toBe("1 7")
    await answer(1)
    expect(view.container.textContent).toBe("0 0")
    await Promise.all(sent)
  })

  it("gives one object for 1,000 reads, and after each change that adds up to nothing", async () => {
    const { store } = page()
    const first = store.queue.getSnapshot()
    for (const _ of range(1000)) expect(store.queue.getSnapshot()).toBe(first)
    const told: Array<number> = []
    store.queue.subscribe(() => told.push(store.queue.getSnapshot().messages))
    await store.publish(Orders, { n: 1 })
    expect(told).toEqual([1, 0])
  })

  it("renders nothing that waits on a server, without a client", () => {
    const { server, wrap } = page()
    expect(renderToString(wrap(<Waiting />))).toBe("0 0")
    expect(server.sockets.length).toBe(0)
  })
})

describe("a connection that has stopped", () => {
  const Hook = ({ n }: { readonly n: number }) => {
    useWebSocket(Orders, () => {})
    useChannel(Orders, { initial: n, reduce: (sum, order) => sum + order.n })
    return null
  }
  const State = () => {
    const connection = useConnection()
    return `${connection.status} ${connection.reason} ${connection.message}`
  }
  const Again = () => <button onClick={useReconnect()}>again</button>

  it("is one console.error for 20 hooks, with its message for people", async () => {
    const errors = vi.spyOn(console, "error").mockImplementation(() => {})
    const reported = vi.fn<(error: unknown) => void>()
    vi.stubGlobal("reportError", reported)
    const { render, server, subscribed } = page()
    const view = render(
      <>
        {range(10).map((n) => (
          <Hook key={n} n={n} />
        ))}
        <State />
        <Again />
      </>
    )
    await subscribed(1)
    await act(async () => server.last.drop(4202, "The server does not let the client in: sales"))
    expect(view.container.textContent).toContain(
      "stopped server The server does not let the client in: sales"
    )
    expect(errors.mock.calls.map(([error]) => [error._tag, error.code, error.message])).toEqual([
      [
        "ConnectionStopped",
        4202,
        "The connection stopped (4202: The server does not let the client in: sales). Call reconnect when the cause is gone."
      ]
    ])
    expect(reported.mock.calls).toEqual([])
    // Asked for again, and stopped again: once more.
    await act(async () => view.getByText("again").click())
    await settle(() => server.sockets.length === 2)
    await subscribed(2)
    await act(async () => server.last.drop(4205))
    expect(errors.mock.calls.length).toBe(2)
  })

  it("is one call of the provider's latest onError, and no console.error", async () => {
    const errors = vi.spyOn(console, "error").mockImplementation(() => {})
    const server = FakeSocket.make({ auto: true })
    const calls: Array<string> = []
    const provided = (name: string) => (
      <RealtimeProvider
        url="ws://host/realtime"
        webSocket={server.webSocket}
        onError={(error) => calls.push(`${name} ${error._tag}`)}
      >
        <Hook n={1} />
        <Hook n={2} />
      </RealtimeProvider>
    )
    const view = renderBare(provided("first"))
    await settle(() => server.sockets.length === 1 && server.last.of("subscribe").length === 1)
    view.rerender(provided("second"))
    await act(async () => server.last.drop(1009))
    expect(calls).toEqual(["second ConnectionStopped"])
    expect(errors.mock.calls).toEqual([])
    view.unmount()
  })

  it("a hello that is rejected for now is one call of onError, and the page says why", async () => {
    const server = FakeSocket.make({ auto: true })
    let rejects = true
    server.heard = (socket, frame) => {
      if (frame.type !== "hello" || !rejects) return server.answer(socket, frame)
      const refusal = { code: "server/internal", message: "Later.", retry: "later" } as const
      socket.say({ type: "error", ...refusal })
      socket.drop(1011, "The server failed: authenticate failed")
    }
    const told: Array<string> = []
    const view = renderBare(
      <RealtimeProvider
        url="ws://host/realtime"
        webSocket={server.webSocket}
        backoff={{ initial: 1, cap: 1, resetAfter: 1000 }}
        onError={(error) => told.push(`${error._tag} ${error.message}`)}
      >
        <Hook n={1} />
        <State />
      </RealtimeProvider>
    )
    await settle(() => server.sockets.length > 3)
    await settle(() =>
      view.container.textContent!.endsWith("server The server failed: authenticate failed")
    )
    rejects = false
    await settle(() => view.container.textContent!.startsWith("open"))
    expect(told).toEqual(["HelloRefused Later."])
    view.unmount()
  })

  it("a token callback that throws keeps its cause for onError and for the page", async () => {
    const server = FakeSocket.make({ auto: true })
    const cause = new Error("the session has ended")
    const errors: Array<{ readonly _tag: string; readonly cause?: unknown }> = []
    let calls = 0
    const view = renderBare(
      <RealtimeProvider
        url="ws://host/realtime"
        webSocket={server.webSocket}
        backoff={{ initial: 1, cap: 1, resetAfter: 1000 }}
        token={() => {
          calls++
          throw cause
        }}
        onError={(error) => errors.push(error)}
      >
        <Hook n={1} />
        <State />
      </RealtimeProvider>
    )
    await settle(() => /token.*the session has ended/.test(view.container.textContent ?? ""))
    // It is tried again, and reported once.
    await settle(() => calls > 3)
    expect(errors).toMatchObject([{ _tag: "TokenFailed", cause }])
    expect(server.sockets.length).toBe(0)
    view.unmount()
  })
})
