import * as Schema from "effect/Schema"
import { Effect } from "effect"
import { Channel } from "effect-realtime"
import { createRealtimeClient, PlainClient, type RealtimeClient } from "effect-realtime/client"
import { describe, expect, it, vi } from "vitest"
import * as FakeSocket from "./support/FakeSocket.ts"
import * as Client from "./support/client.ts"
import { untilAsync } from "../support/until.ts"

const Orders = Channel.make("orders", Schema.Struct({ n: Schema.Finite }), { publish: true })
const Notes = Channel.make("notes", Schema.String)

const make = (options?: Partial<RealtimeClient.Options>) => {
  const server = FakeSocket.make({ auto: true })
  const store = Client.plain(server, {
    linger: 5,
    ...options
  })
  const subscribed = (count: number) =>
    untilAsync(() => server.sent.filter(({ type }) => type === "subscribe").length === count)
  return { server, store, subscribed }
}

describe("PlainClient", () => {
  it("calls a handler for each event, in the turn in which the frame arrived", async () => {
    const { server, store, subscribed } = make()
    const seen: Array<unknown> = []
    store.listen(Orders, ({ n }, { id }) => seen.push([n, id]))
    store.listen("anything", (payload) => seen.push(payload))
    await subscribed(2)
    server.last.say(
      FakeSocket.events("orders", 1, { n: 1 }, { n: 2 }),
      FakeSocket.events("anything", 1, { deep: [true] })
    )
    expect(seen).toEqual([[1, "1"], [2, "2"], { deep: [true] }])
  })

  it("calls a handler no more after stop, even in the middle of a batch, and closes the socket", async () => {
    const { server, store, subscribed } = make()
    const seen: Array<number> = []
    const stop = store.listen(Orders, ({ n }) => {
      seen.push(n)
      if (n === 2) stop()
    })
    await subscribed(1)
    server.last.say(FakeSocket.events("orders", 1, { n: 1 }, { n: 2 }, { n: 3 }))
    expect(seen).toEqual([1, 2])
    await untilAsync(() => store.connection.getSnapshot().status === "idle")
    expect(server.last.closedWith).toBe(1000)
  })

  it("calls a handler that another handler adds from the next batch on", async () => {
    const { server, store, subscribed } = make()
    const late: Array<number> = []
    const stop = store.listen(Orders, () => {
      stop()
      store.listen(Orders, ({ n }) => late.push(n))
    })
    await subscribed(1)
    server.last.say(FakeSocket.events("orders", 1, { n: 1 }))
    server.last.say(FakeSocket.events("orders", 2, { n: 2 }))
    expect(late).toEqual([2])
  })

  it("reports an error that a handler throws, and calls all handlers for the next event", async () => {
    const { server, store, subscribed } = make()
    const errors: Array<unknown> = []
    const seen: Array<string> = []
    store.listen(
      Orders,
      ({ n }) => {
        seen.push(`a${n}`)
        throw new Error(`on ${n}`)
      },
      { onError: (error) => errors.push(String(error)) }
    )
    store.listen(Orders, ({ n }) => seen.push(`b${n}`))
    await subscribed(1)
    server.last.say(FakeSocket.events("orders", 1, { n: 1 }, { n: 2 }))
    expect(seen).toEqual(["a1", "a2", "b1", "b2"])
    expect(errors).toEqual(["Error: on 1", "Error: on 2"])
  })

  it("calls onBatch once per frame with all its events, after the handler of single events", async () => {
    const { server, store, subscribed } = make()
    const seen: Array<unknown> = []
    store.listen(Orders, ({ n }) => seen.push(n), {
      onBatch: (orders, events) => seen.push([orders.map(({ n }) => n), events.map(({ id }) => id)])
    })
    store.listen("orders", undefined, { onBatch: (payloads) => seen.push(payloads.length) })
    await subscribed(1)
    server.last.say(
      FakeSocket.events("orders", 1, { n: 1 }, { n: 2 }),
      FakeSocket.events("orders", 3, { n: 3 })
    )
    expect(seen).toEqual([
      1,
      2,
      [
        [1, 2],
        ["1", "2"]
      ],
      2,
      3,
      [[3], ["3"]],
      1
    ])
  })

  it("calls onBatch before and after a gap inside a frame, and not for a gap alone", async () => {
    const { server, store, subscribed } = make()
    const seen: Array<unknown> = []
    store.listen(Orders, undefined, {
      onBatch: (orders) => seen.push(orders.map(({ n }) => n)),
      onGap: ({ reason }) => seen.push(reason)
    })
    await subscribed(1)
    server.last.say(
      FakeSocket.events("orders", 1, { n: 1 }, { n: 2 }, "no order", { n: 4 }),
      { type: "gap", channel: "orders", reason: "source", cursor: "f:0" },
      FakeSocket.events("orders", 5, "no order", { n: 6 })
    )
    expect(seen).toEqual([[1, 2], "invalid", [4], "source", "invalid", [6]])
  })

  it("reports what onBatch throws, and calls it for the next frame unless it has stopped", async () => {
    const { server, store, subscribed } = make()
    const seen: Array<unknown> = []
    const stop = store.listen(Orders, ({ n }) => n === 5 && stop(), {
      onBatch: (orders) => {
        seen.push(orders.length)
        throw new Error("mine")
      },
      onError: (error) => seen.push(String(error))
    })
    await subscribed(1)
    server.last.say(
      FakeSocket.events("orders", 1, { n: 1 }, { n: 2 }),
      FakeSocket.events("orders", 3, { n: 3 }),
      FakeSocket.events("orders", 4, { n: 4 }, { n: 5 })
    )
    expect(seen).toEqual([2, "Error: mine", 1, "Error: mine"])
  })

  it("passes an error to reportError when there is no onError", async () => {
    const report = vi.fn<(error: unknown) => void>()
    vi.stubGlobal("reportError", report)
    const { server, store, subscribed } = make()
    store.listen(Orders, () => {
      throw new Error("mine")
    })
    await subscribed(1)
    server.last.say(FakeSocket.events("orders", 1, { n: 1 }))
    vi.unstubAllGlobals()
    expect(report.mock.calls).toEqual([[new Error("mine")]])
  })

  it("reports gaps, cursors and refusals after listen has returned", async () => {
    const { server, store, subscribed } = make()
    const told: Array<unknown> = []
    const options = {
      onGap: ({ reason }: { readonly reason: string }) => told.push(reason),
      onCursor: (cursor: string) => told.push(cursor),
      onError: (error: unknown) => told.push((error as { readonly _tag: string })._tag)
    }
    store.listen("not a name", () => {}, options)
    expect(told).toEqual([])
    await untilAsync(() => told.length > 0)
    store.listen(Orders, () => {}, options)
    await subscribed(1)
    server.last.say({ type: "gap", channel: "orders", reason: "source", cursor: "f:0" })
    store.listen(Orders, () => {}, { ...options, from: "e:0" })
    expect(told).toEqual(["InvalidChannelName", "e:0", "source"])
    await untilAsync(() => told.length > 4)
    expect(told.slice(3)).toEqual(["retention", "f:0"])
  })

  it("reports a gap with an unknown reason, and passes the reason on", async () => {
    const { server, store, subscribed } = make()
    const told: Array<unknown> = []
    store.listen(Orders, () => {}, { onGap: ({ cursor, reason }) => told.push([reason, cursor]) })
    await subscribed(1)
    for (const reason of ["truncate", "rights", "of a newer server"]) {
      server.last.say({ type: "gap", channel: "orders", reason, cursor: "e:7" })
    }
    expect(told).toEqual([
      ["truncate", "e:7"],
      ["rights", "e:7"],
      ["of a newer server", "e:7"]
    ])
  })

  it("reports cursors and events in order to a listener that a handler adds", async () => {
    const { server, store, subscribed } = make()
    const told: Array<unknown> = []
    const stop = store.listen(Orders, () => {
      stop()
      store.listen(Orders, ({ n }) => told.push(n), { onCursor: (cursor) => told.push(cursor) })
      expect(told).toEqual([])
    })
    await subscribed(1)
    server.last.say(
      FakeSocket.events("orders", 1, { n: 1 }),
      FakeSocket.events("orders", 2, { n: 2 }),
      { type: "cursor", channel: "orders", cursor: "e:3" }
    )
    await untilAsync(() => told.length === 3)
    expect(told).toEqual(["e:1", 2, "e:3"])
    // Nothing is held back now.
    server.last.say(FakeSocket.events("orders", 4, { n: 4 }))
    expect(told.at(-1)).toBe(4)
  })

  it("publishes to typed channels and to strings", async () => {
    const { server, store } = make()
    await store.publish(Orders, { n: 1 })
    await store.publish("anything", [1])
    expect(server.last.of("publish").map(({ channel, data }) => [channel, data])).toEqual([
      ["orders", { n: 1 }],
      ["anything", [1]]
    ])
    // @ts-expect-error the channel is not defined with publish: true
    const wrong = () => store.publish(Notes, "x")
    expect(wrong).toBeTypeOf("function")
  })

  it("rejects a publish with the typed error", async () => {
    const { store } = make({ queue: { maxMessages: 0 } })
    await expect(store.publish(Orders, { n: 1 })).rejects.toMatchObject({
      _tag: "QueueFull",
      limit: 0
    })
  })

  it("subscribes again after a stop, for each listener that stayed or was added since", async () => {
    const { server, store, subscribed } = make()
    const told: Array<unknown> = []
    const listen = (name: string) =>
      store.listen(Orders, ({ n }) => told.push(`${name} ${n}`), {
        onCursor: (cursor) => told.push(`${name} at ${cursor}`),
        onError: (error) => told.push(`${name} ${(error as { readonly _tag: string })._tag}`)
      })
    listen("stays")
    const leave = listen("leaves")
    await subscribed(1)
    server.last.say(FakeSocket.events("orders", 1, { n: 1 }))
    told.length = 0
    server.last.drop(4202, "not you")
    await untilAsync(() => told.length === 2)
    leave()
    listen("comes")
    await untilAsync(() => told.length === 3)
    expect(told.splice(0)).toEqual([
      "stays ConnectionStopped",
      "leaves ConnectionStopped",
      "comes ConnectionStopped"
    ])
    expect(server.sockets.length).toBe(1)
    store.reconnect()
    await subscribed(2)
    expect(server.last.of("subscribe")[0]!.cursor).toBe("e:1")
    server.last.say(FakeSocket.events("orders", 2, { n: 2 }))
    expect(told).toEqual(["stays at e:1", "comes at e:1", "stays 2", "comes 2"])
  })

  it("opens no socket after a stop when no listener is left", async () => {
    const { server, store, subscribed } = make()
    const leave = store.listen(Orders, () => {}, { onError: () => {} })
    await subscribed(1)
    server.last.drop(4202)
    await untilAsync(() => store.connection.getSnapshot().status === "stopped")
    leave()
    store.reconnect()
    await untilAsync(() => store.connection.getSnapshot().status === "idle")
    expect(server.sockets.length).toBe(1)
  })

  it("makes no client until its first use", () => {
    const options = vi.fn<() => RealtimeClient.Options>(() => ({ url: "ws://host/realtime" }))
    createRealtimeClient(options)
    expect(options).not.toHaveBeenCalled()
  })

  it("calls no handler after close, and opens no socket again", async () => {
    const { server, store, subscribed } = make()
    const told = vi.fn<(..._: Array<unknown>) => void>()
    store.listen(Orders, told, { onError: told, onGap: told })
    await subscribed(1)
    await store.close()
    expect(server.last.closedWith).toBe(1000)
    expect(store.connection.getSnapshot()).toMatchObject({ status: "stopped", code: 1000 })
    await expect(store.publish(Orders, { n: 1 })).rejects.toMatchObject({
      _tag: "ConnectionStopped"
    })
    store.listen(Orders, told, { onError: told })
    await new Promise((resolve) => setTimeout(resolve, 0))
    expect(told).not.toHaveBeenCalled()
    expect(server.sockets.length).toBe(1)
  })

  it("rejects a publish when it was closed before its first use", async () => {
    const { store } = make()
    await store.close()
    await expect(store.publish(Orders, { n: 1 })).rejects.toMatchObject({
      _tag: "ConnectionStopped"
    })
  })

  it("uses the client of an Effect application, and leaves it open", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* Client.make(server)
      const store = PlainClient.fromClient(client)
      yield* Effect.promise(() => store.publish(Orders, { n: 1 }))
      yield* Effect.promise(() => store.close())
      yield* client.publish(Orders, { n: 2 })
      expect(server.sent.filter(({ type }) => type === "publish").length).toBe(2)
    }).pipe(Effect.scoped, Effect.runPromise))
})
