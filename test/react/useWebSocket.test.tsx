import { act, render } from "@testing-library/react"
import { Channel } from "effect-realtime"
import {
  RealtimeProvider,
  type Send,
  useConnection,
  useReconnect,
  useSource,
  useWebSocket,
  type WebSocketOptions
} from "effect-realtime/react"
import * as Schema from "effect/Schema"
import { StrictMode, useState } from "react"
import { describe, expect, it, vi } from "vitest"
import * as FakeSocket from "../client/support/FakeSocket.ts"
import { page, settle } from "./support/page.tsx"

const Order = Schema.Struct({ n: Schema.Finite })
const Orders = Channel.make("orders", Order, { publish: true })
const ReadOnly = Channel.make("read_only", Order)
const report = Channel.family("report_", Schema.String, Order, { publish: true })
const rows = Channel.table(
  "rows",
  Schema.Struct({ id: Schema.Finite, day: Schema.String, at: Schema.Date }),
  { key: "id", by: "day" }
)
const { events } = FakeSocket

const Listener = ({
  handler,
  ...options
}: WebSocketOptions & { readonly handler: (n: number) => void }) => {
  const { connection } = useWebSocket(Orders, ({ n }) => handler(n), options)
  return <p>{connection.status}</p>
}

type SendOrder = Send<{ readonly n: number }>

const Sender = ({
  give,
  ...options
}: WebSocketOptions & { readonly give: (send: SendOrder) => void }) => {
  give(useWebSocket(Orders, () => {}, options).sendNotification)
  return null
}

/** The latest function of a `Sender`. */
const taken = () => {
  let latest: SendOrder | undefined
  return {
    give: (send: SendOrder) => {
      latest = send
    },
    send: ((payload) => latest!(payload)) as SendOrder
  }
}

const Listening = () => {
  useWebSocket(Orders, () => {})
  return null
}

const Again = () => <button onClick={useReconnect()}>again</button>

const States = () => `${useConnection().status} ${useSource()}`

const DoesNotCompile = () => {
  const readOnly = useWebSocket(ReadOnly, () => {})
  const orders = useWebSocket(Orders, () => {})
  // @ts-expect-error the channel is not defined with publish: true
  void readOnly.sendNotification({ n: 1 })
  // @ts-expect-error the payload is not the channel's
  void orders.sendNotification({ n: "1" })
  // @ts-expect-error a string's payload is unknown
  useWebSocket("orders", (payload: { readonly n: number }) => payload)
  return null
}

/** The times of the rows on the route of a day. */
const Day = ({ day }: { readonly day: string }) => {
  const [times, setTimes] = useState<ReadonlyArray<number>>([])
  useWebSocket(rows(day), ({ data }) => setTimes((times) => [...times, data.at.getTime()]))
  return times.join()
}

describe("useWebSocket", () => {
  it("subscribes to the route of a table by its definition, and decodes its rows", async () => {
    const { render, say, server, subscribed } = page()
    const view = render(<Day day="today" />)
    await subscribed(1)
    const row = { id: 1, day: "today", at: "1970-01-01T00:00:07.000Z" }
    await say(
      events("table_updates_rows:today", 1, { operation: "INSERT", data: row, key: { id: 1 } })
    )
    expect(view.container.textContent).toBe("7000")
    view.again(<Day day="tomorrow" />)
    await subscribed(2)
    expect(server.sent).toContainEqual(
      expect.objectContaining({ type: "subscribe", channel: "table_updates_rows:tomorrow" })
    )
  })

  it("opens one socket, sends one subscribe frame and handles each event once in StrictMode", async () => {
    const { render, say, server, store, subscribed, types } = page()
    const seen: Array<number> = []
    const view = render(<Listener handler={(n) => seen.push(n)} />)
    await subscribed(1)
    await settle(() => view.container.textContent === "open")
    await say(events("orders", 1, { n: 1 }, { n: 2 }))
    expect(seen).toEqual([1, 2])
    expect(types()).toEqual(["hello", "subscribe"])
    view.unmount()
    server.last.say(events("orders", 3, { n: 3 }))
    await settle(() => store.connection.getSnapshot().status === "idle")
    expect(seen).toEqual([1, 2])
    expect(server.sockets.map(({ closedWith }) => closedWith)).toEqual([1000])
  })

  it("opens one socket and sends one subscribe frame for 50 StrictMode mounts, and then closes it", async () => {
    const { server, store, subscribed, types, wrap } = page({ linger: 100 })
    for (let i = 0; i < 50; i++) {
      const view = render(wrap(<Listener handler={() => {}} />))
      // oxlint-disable-next-line no-await-in-loop -- once
      if (i === 0) await subscribed(1)
      view.unmount()
    }
    expect(types()).toEqual(["hello", "subscribe"])
    await settle(() => store.connection.getSnapshot().status === "idle")
    expect(server.sockets.map(({ closedWith }) => closedWith)).toEqual([1000])
  })

  it("calls the handler for each of 1,000 events of one tick in order, in few renders", async () => {
    const { render, say, subscribed } = page()
    const seen: Array<number> = []
    let renders = 0
    const View = () => {
      const [last, setLast] = useState(0)
      renders++
      useWebSocket(Orders, ({ n }) => {
        seen.push(n)
        setLast(n)
      })
      return <p>{last}</p>
    }
    const view = render(<View />)
    await subscribed(1)
    const before = renders
    const numbers = Array.from({ length: 1000 }, (_, n) => n)
    await say(...numbers.map((n) => events("orders", n + 1, { n })))
    expect(seen).toEqual(numbers)
    expect(view.container.textContent).toBe("999")
    expect(renders - before).toBeLessThan(10)
  })

  it("calls the handler of the latest render without another subscribe", async () => {
    const { render, say, subscribed, types } = page()
    const seen: Array<string> = []
    const view = render(<Listener handler={(n) => seen.push(`first ${n}`)} />)
    await subscribed(1)
    for (const name of ["second", "third"]) {
      view.again(<Listener handler={(n) => seen.push(`${name} ${n}`)} />)
    }
    await say(events("orders", 1, { n: 1 }))
    expect(seen).toEqual(["third 1"])
    expect(types()).toEqual(["hello", "subscribe"])
  })

  it("keeps its subscription for a channel of equal name, and replaces it for another name", async () => {
    const { render, say, subscribed, types } = page()
    const seen: Array<number> = []
    const View = ({ id }: { readonly id: string }) => {
      useWebSocket(report(id), ({ n }) => seen.push(n))
      return null
    }
    const view = render(<View id="1" />)
    await subscribed(1)
    view.again(<View id="1" />)
    view.again(<View id="2" />)
    await subscribed(2)
    await say(events("report_1", 1, { n: 1 }), events("report_2", 1, { n: 2 }))
    expect(seen).toEqual([2])
    expect(types().filter((type) => type === "subscribe").length).toBe(2)
  })

  it("takes a string as channel, with any JSON in both directions", async () => {
    const { render, say, server, subscribed } = page()
    const seen: Array<unknown> = []
    let send: Send<unknown> | undefined
    const View = ({ give }: { readonly give: (send: Send<unknown>) => void }) => {
      give(useWebSocket("anything", (payload: unknown) => seen.push(payload)).sendNotification)
      return null
    }
    render(<View give={(given) => (send = given)} />)
    await subscribed(1)
    await say(events("anything", 1, { deep: [1] }))
    await act(() => send!({ also: null }))
    expect(seen).toEqual([{ deep: [1] }])
    expect(server.last.of("publish")[0]).toMatchObject({
      channel: "anything",
      data: { also: null }
    })
  })

  it("does not subscribe while enabled is false, but sends", async () => {
    const { render, subscribed, types } = page()
    const { give, send } = taken()
    const view = render(<Sender give={give} enabled={false} />)
    await act(() => send({ n: 1 }))
    expect(types()).toEqual(["hello", "publish"])
    view.again(<Sender give={give} enabled />)
    await subscribed(1)
  })

  it("calls onGap and onError of the latest render", async () => {
    const { render, say, subscribed } = page()
    const told: Array<unknown> = []
    const view = render(<Listener handler={() => {}} />)
    await subscribed(1)
    view.again(
      <Listener
        handler={() => {}}
        onGap={({ reason }) => told.push(reason)}
        onError={(error) => told.push((error as { readonly code: string }).code)}
      />
    )
    const refusal = { code: "channel/forbidden", message: "no", retry: "never" } as const
    await say(
      { type: "gap", channel: "orders", reason: "source", cursor: "f:0" },
      { type: "ended", channel: "orders", ...refusal }
    )
    expect(told).toEqual(["source", "channel/forbidden"])
  })

  it("calls onBatch of the latest render once per frame, with or without a handler", async () => {
    const { render, say, subscribed, types } = page()
    const seen: Array<string> = []
    const View = ({ name, single }: { readonly name: string; readonly single: boolean }) => {
      useWebSocket(Orders, single ? ({ n }) => seen.push(`${n}`) : undefined, {
        onBatch: (orders) => seen.push(`${name} ${orders.map(({ n }) => n)}`),
        onGap: ({ reason }) => seen.push(reason)
      })
      return null
    }
    const view = render(<View name="first" single />)
    await subscribed(1)
    await say(events("orders", 1, { n: 1 }, { n: 2 }))
    view.again(<View name="second" single={false} />)
    await say(
      events("orders", 3, { n: 3 }, { n: 4 }),
      { type: "gap", channel: "orders", reason: "source", cursor: "f:0" },
      events("orders", 5, { n: 5 })
    )
    expect(seen).toEqual(["1", "2", "first 1,2", "second 3,4", "source", "second 5"])
    expect(types()).toEqual(["hello", "subscribe"])
  })

  it("sends and receives all messages across a reconnect", async () => {
    const { render, say, server, store, subscribed } = page()
    const seen: Array<number> = []
    const view = render(<Listener handler={(n) => seen.push(n)} />)
    await subscribed(1)
    await say(events("orders", 1, { n: 1 }))
    await act(async () => server.last.drop(1006))
    await settle(() => view.container.textContent === "waiting")
    act(() => store.reconnect())
    await subscribed(2)
    expect(server.last.of("subscribe")[0]!.cursor).toBe("e:1")
    await say(events("orders", 2, { n: 2 }))
    expect(seen).toEqual([1, 2])
  })

  it("stops when the server rejects it, and resumes after reconnect", async () => {
    const { render, say, server, subscribed } = page()
    const seen: Array<unknown> = []
    const view = render(
      <>
        <Listener
          handler={(n) => seen.push(n)}
          onError={(error) => seen.push((error as { readonly code: number }).code)}
        />
        <Again />
      </>
    )
    await subscribed(1)
    await say(events("orders", 1, { n: 1 }))
    await act(async () => server.last.drop(4202, "not you"))
    await settle(() => view.container.textContent === "stoppedagain")
    act(() => view.getByText("again").click())
    await subscribed(2)
    expect(server.last.of("subscribe")[0]!.cursor).toBe("e:1")
    await say(events("orders", 2, { n: 2 }))
    expect(seen).toEqual([1, 4202, 2])
  })

  describe("sendNotification", () => {
    it("rejects and calls onError, without an unhandled rejection when you ignore the promise", async () => {
      const unhandled = vi.fn<() => void>()
      process.on("unhandledRejection", unhandled)
      const onError = vi.fn<(error: unknown) => void>()
      const { render, subscribed } = page({ queue: { maxMessages: 0 } })
      const { give, send } = taken()
      render(<Sender give={give} onError={onError} />)
      await subscribed(1)
      void send({ n: 1 })
      await expect(send({ n: 2 })).rejects.toMatchObject({ _tag: "QueueFull" })
      // Node reports an unhandled rejection after the microtasks of its turn.
      await new Promise((resolve) => setTimeout(resolve, 0))
      expect(unhandled).not.toHaveBeenCalled()
      expect(onError).toHaveBeenCalledTimes(2)
      process.off("unhandledRejection", unhandled)
    })

    it("is the same function in every render", async () => {
      const { render, subscribed } = page()
      const sends = new Set<unknown>()
      const give = (send: unknown) => sends.add(send)
      const view = render(<Sender give={give} />)
      await subscribed(1)
      sends.clear()
      view.again(<Sender give={give} />)
      view.again(<Sender give={give} />)
      expect(sends.size).toBe(1)
    })

    it("does not compile on a channel without publish: true", () => {
      expect(DoesNotCompile).toBeTypeOf("function")
    })
  })
})

describe("useConnection and useSource", () => {
  it("follow the state of the socket and of the server's database", async () => {
    const { render, say, subscribed } = page()
    const view = render(
      <>
        <States />
        <Listening />
      </>
    )
    await subscribed(1)
    await settle(() => view.container.textContent === "open up")
    await say({ type: "status", source: "down" })
    expect(view.container.textContent).toBe("open down")
  })
})

describe("RealtimeProvider", () => {
  it("makes one client per address, with the token of the latest render", async () => {
    const server = FakeSocket.make({ auto: true })
    const App = ({ token, url }: { readonly token: string; readonly url: string }) => (
      <StrictMode>
        <RealtimeProvider
          url={url}
          token={() => token}
          webSocket={server.webSocket}
          linger={1}
          backoff={{ initial: 1, cap: 1, resetAfter: 1000 }}
        >
          <Listening />
        </RealtimeProvider>
      </StrictMode>
    )
    const hellos = () => server.sockets.map(({ sent, url }) => [url, sent[0]])
    const view = render(<App url="ws://one/" token="a" />)
    await settle(() => hellos().length === 1 && server.last.sent.length === 2)
    view.rerender(<App url="ws://one/" token="b" />)
    await act(async () => server.last.drop(4100))
    await settle(() => server.sockets.length === 2 && server.last.sent.length === 2)
    view.rerender(<App url="ws://two/" token="c" />)
    await settle(() => server.sockets.length === 3 && server.last.sent.length === 2)
    expect(hellos()).toEqual([
      ["ws://one/", { type: "hello", version: 1, token: "a" }],
      ["ws://one/", { type: "hello", version: 1, token: "b" }],
      ["ws://two/", { type: "hello", version: 1, token: "c" }]
    ])
    view.unmount()
    await settle(() => server.sockets.every(({ readyState }) => readyState > 1))
  })

  it("keeps its client for a list with the same addresses", async () => {
    const server = FakeSocket.make({ auto: true })
    const App = ({ nodes }: { readonly nodes: ReadonlyArray<string> }) => (
      <RealtimeProvider url={nodes.map((node) => `ws://${node}/`)} webSocket={server.webSocket}>
        <Listening />
      </RealtimeProvider>
    )
    const view = render(<App nodes={["a", "b"]} />)
    await settle(() => server.sockets.length === 1 && server.last.sent.length === 2)
    view.rerender(<App nodes={["a", "b"]} />)
    view.rerender(<App nodes={["c"]} />)
    await settle(() => server.sockets.length === 2 && server.last.sent.length === 2)
    expect(server.last.url).toBe("ws://c/")
    view.unmount()
    await settle(() => server.sockets.every(({ readyState }) => readyState > 1))
  })

  it("reconnects when a token callback is added or removed", async () => {
    const server = FakeSocket.make({ auto: true })
    const App = ({ token }: { readonly token?: () => string }) => (
      <RealtimeProvider
        url="ws://one/"
        token={token}
        webSocket={server.webSocket}
        backoff={{ initial: 1, cap: 1, resetAfter: 1000 }}
      >
        <Listener handler={() => {}} onError={() => {}} />
        <Again />
      </RealtimeProvider>
    )
    const view = render(<App />)
    const became = (status: string) => settle(() => view.container.textContent === `${status}again`)
    await became("open")
    await act(async () => server.last.drop(4100))
    await became("stopped")
    view.rerender(<App token={() => "a"} />)
    act(() => view.getByText("again").click())
    await became("open")
    view.rerender(<App />)
    await act(async () => server.last.drop(1006))
    await settle(() => server.sockets.length === 3)
    await became("open")
    await act(async () => server.last.drop(4100))
    await became("stopped")
    expect(server.sockets.map(({ sent }) => sent[0])).toEqual([
      { type: "hello", version: 1 },
      { type: "hello", version: 1, token: "a" },
      { type: "hello", version: 1 }
    ])
    view.unmount()
  })

  it("calls a token callback that was added to an open socket before the next attempt", async () => {
    const server = FakeSocket.make({ auto: true })
    const App = ({ token }: { readonly token?: () => string }) => (
      <RealtimeProvider
        url="ws://one/"
        token={token}
        webSocket={server.webSocket}
        backoff={{ initial: 1, cap: 1, resetAfter: 1000 }}
      >
        <Listener handler={() => {}} />
      </RealtimeProvider>
    )
    const view = render(<App />)
    await settle(() => server.sent.length === 2)
    view.rerender(<App token={() => "a"} />)
    await act(async () => server.last.drop(1006))
    await settle(() => server.sent.length === 4)
    expect(server.last.sent[0]).toEqual({ type: "hello", version: 1, token: "a" })
    view.unmount()
  })

  it("is optional: hooks without it share one client at /realtime of the page's origin", async () => {
    const server = FakeSocket.make({ auto: true })
    vi.stubGlobal("WebSocket", server.webSocket)
    const view = render(
      <StrictMode>
        <Listening />
        <Listening />
      </StrictMode>
    )
    await settle(() => server.sockets.length === 1 && server.last.sent.length === 2)
    expect(server.last.url).toBe(new URL("/realtime", location.href).href.replace("http", "ws"))
    view.unmount()
    await settle(() => server.last.closedWith === 1000)
    vi.unstubAllGlobals()
  })

  it("probes the socket when the page is shown or online again", async () => {
    const { render, server, store, subscribed } = page()
    render(<Listening />)
    await subscribed(1)
    const wakeWith = async (wake: () => void, subscriptions: number) => {
      await act(async () => server.last.say({ type: "bye", reconnectAfter: 60_000 }).drop(4000))
      await settle(() => store.connection.getSnapshot().status === "waiting")
      wake()
      await subscribed(subscriptions)
    }
    await wakeWith(() => document.dispatchEvent(new Event("visibilitychange")), 2)
    await wakeWith(() => globalThis.dispatchEvent(new Event("online")), 3)
    await wakeWith(() => globalThis.dispatchEvent(new Event("pageshow")), 4)
    expect(server.sockets.length).toBe(4)
  })
})
