/** A `Collector` and `last` of a plain client, without React: what they show of a state and its stream. */
import { Backoff, Channel, type RealtimeEvent } from "effect-realtime"
import { Collector, type PlainClient } from "effect-realtime/client"
import * as Schema from "effect/Schema"
import { describe, expect, it } from "vitest"
import { untilAsync } from "../support/until.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const Numbers = Channel.make("numbers", Schema.Finite)
type Values = ReadonlyArray<number>
const { events } = FakeSocket

const make = () => {
  const server = FakeSocket.make({ auto: true })
  const client = Client.plain(server, {
    backoff: { ...Backoff.client, first: 10 },
    linger: 1
  })
  const errors: Array<unknown> = []
  const collected = (options: Partial<Collector.Options<Values, number>>) => {
    const collector = Collector.make(client, Numbers, {
      initial: [],
      reduce: (list, n) => [...list, n],
      onError: (error) => errors.push(error),
      ...options
    })
    collector.subscribe(() => {})
    return () => {
      const { status, value } = collector.getSnapshot()
      return `${status} ${value}`
    }
  }
  return { client, collected, errors, server }
}

const emptyState: RealtimeEvent.Snapshot<Values> = { _tag: "Snapshot", value: [], cursor: "e:0" }

describe("a Collector", () => {
  it("is loading before the first read and live with an empty list after it", async () => {
    const { collected } = make()
    const reading = Promise.withResolvers<Values>()
    let reads = 0
    const now = collected({ load: () => (reads++, reading.promise) })
    await untilAsync(() => reads === 1)
    expect(now()).toBe("loading ")
    reading.resolve([])
    await untilAsync(() => now() === "live ")
  })

  it("is loading with an empty Snapshot until its subscription is active, and reads nothing", async () => {
    const { collected, server } = make()
    let reads = 0
    server.heard = (socket, frame) => frame.type === "hello" && server.answer(socket, frame)
    const now = collected({ initial: emptyState, load: () => (reads++, emptyState) })
    await untilAsync(() => server.last?.of("subscribe").length === 1)
    expect(now()).toBe("loading ")
    server.answer(server.last, server.last.of("subscribe")[0]!)
    await untilAsync(() => now() === "live ")
    expect(reads).toBe(0)
  })

  it("shows a first read that fails as error, and retries it by itself", async () => {
    const { collected, errors } = make()
    let reads = 0
    let works = false
    const now = collected({
      load: () => {
        reads++
        if (!works) throw new Error(`read ${reads}`)
        return [1]
      }
    })
    await untilAsync(() => now() === "error ")
    works = true
    await untilAsync(() => now() === "live 1")
    expect(errors).toHaveLength(reads - 1)
  })

  it("retries a read after a gap that fails, and shows the old value as stale until then", async () => {
    const { collected, errors, server } = make()
    const second = Promise.withResolvers<Values>()
    const answers = [[1], second.promise, [1, 2]]
    const now = collected({ load: () => answers.shift()! })
    await untilAsync(() => now() === "live 1")
    server.last.say({ type: "gap", channel: "numbers", reason: "source", cursor: "f:0" })
    await untilAsync(() => now() === "stale 1")
    second.reject(new Error("502"))
    await untilAsync(() => now() === "live 1,2")
    expect(errors).toMatchObject([{ message: "502" }])
  })

  it("is stale with the limit as its error while the server rejects it for now, and goes on", async () => {
    const { collected, errors, server } = make()
    let rejects = 2
    server.heard = (socket, frame) => {
      if (frame.type !== "subscribe" || rejects-- <= 0) return server.answer(socket, frame)
      const message = "A session has at most 100 subscriptions."
      const later = {
        code: "limit/subscriptions",
        message,
        retry: "later",
        retryAfter: 250
      } as const
      socket.say({ type: "error", id: frame.id, ...later })
    }
    const now = collected({})
    await untilAsync(() => now() === "stale ")
    await untilAsync(() => now() === "live ")
    expect(errors).toMatchObject([
      { _tag: "Refused", code: "limit/subscriptions", channel: "numbers", retryAfter: 250 }
    ])
  })
})

describe("the last value of a channel", () => {
  it("is what a later Collector begins with, and a plain client returns", async () => {
    const { client, server } = make()
    expect(client.last(Numbers)).toBeUndefined()
    client.listen(Numbers, () => {})
    await untilAsync(() => server.last?.of("subscribe").length === 1)
    server.last.say(events("numbers", 1, 41, 42))
    expect(client.last(Numbers)).toMatchObject({ payload: 42, id: "2" })
    expect(client.last("numbers")?.payload).toBe(42)
    expect(Collector.latest(client, Numbers).getSnapshot().value).toBe(42)
    expect(Collector.latest(client, Numbers).getServerSnapshot().value).toBeUndefined()
  })

  it("is that of the channel of the Collector, and not of another one", async () => {
    const { client, server } = make()
    client.listen("others", undefined)
    client.listen(Numbers, undefined)
    await untilAsync(() => server.last?.of("subscribe").length === 2)
    server.last.say(events("others", 1, 7))
    expect(Collector.latest(client, Numbers).getSnapshot().value).toBeUndefined()
    expect(Collector.latest(client, "others").getSnapshot().value).toBe(7)
  })
})

describe("the latest of a channel that is remembered", () => {
  const latest = (client: PlainClient.PlainClient, channel: typeof Numbers | string = Numbers) => {
    const collector = Collector.latest(client, channel)
    collector.subscribe(() => {})
    return () => `${collector.getSnapshot().status} ${collector.getSnapshot().value}`
  }
  const state = (seq: number, rows: ReadonlyArray<unknown>, more = false) =>
    ({ type: "state", channel: "numbers", cursor: `e:${seq}`, rows, more }) as const
  const hello = (server: FakeSocket.FakeServer) => {
    server.heard = (socket, frame) => {
      if (["hello", "unsubscribe"].includes(frame.type)) server.answer(socket, frame)
    }
    return async (seq: number) => {
      await untilAsync(() => server.last?.of("subscribe").length === 1)
      const [{ channel, id, state } = fail()] = server.last.of("subscribe")
      server.last.say({ type: "subscribed", id, channel, state: "fresh", cursor: `e:${seq}` })
      return state
    }
  }
  const fail = () => {
    throw new Error("no frame")
  }

  it("is loading until the state is here, and stale from a gap until the next", async () => {
    const { client, server } = make()
    const now = latest(client)
    expect(await hello(server)(4)).toBe(true)
    server.last.say(state(4, [0], true))
    await new Promise((resolve) => setImmediate(resolve))
    expect(now()).toBe("loading undefined")
    server.last.say(state(5, [42]))
    await untilAsync(() => now() === "live 42")
    // A later one has it at once, and asks for nothing.
    const other = latest(client, "numbers")
    await untilAsync(() => other() === "live 42")
    server.last.say({ type: "gap", channel: "numbers", reason: "slow", cursor: "e:6" })
    await untilAsync(() => now() === "stale 42")
    server.last.say(state(6, [43]))
    await untilAsync(() => now() === "live 43" && other() === "live 43")
    server.last.say(events("numbers", 7, 44))
    await untilAsync(() => now() === "live 44" && other() === "live 44")
    expect(server.last.of("state")).toEqual([])
  })

  it("stays stale after a gap behind which nothing is remembered, and does not ask again", async () => {
    const { client, server } = make()
    const now = latest(client)
    await hello(server)(0)
    server.last.say(state(0, [1]))
    await untilAsync(() => now() === "live 1")
    server.last.say({ type: "gap", channel: "numbers", reason: "source", cursor: "f:0" })
    server.last.say({ ...state(0, []), cursor: "f:0" })
    await untilAsync(() => now() === "stale 1")
    server.last.say({ ...events("numbers", 1, 2), cursor: "f:1" })
    await untilAsync(() => now() === "live 2")
    expect(server.last.of("state")).toEqual([])
  })

  it("goes on without a state that the server rejects, or does not have", async () => {
    const { client, server } = make()
    let asked = 0
    server.heard = (socket, frame) => {
      if (frame.type !== "subscribe" || frame.state === undefined) {
        return server.answer(socket, frame)
      }
      asked++
      const why = { code: "state/too-large", message: "It is large.", retry: "never" } as const
      socket.say({ type: "error", id: frame.id, ...why })
    }
    const now = latest(client)
    await untilAsync(() => now() === "live undefined")
    server.last.say(events("numbers", 1, 5))
    await untilAsync(() => now() === "live 5")
    expect(asked).toBe(1)
  })

  it("of an older server, which sends none, is the next event", async () => {
    const { client, server } = make()
    const now = latest(client)
    expect(await hello(server)(0)).toBe(true)
    server.last.say(events("numbers", 1, 5))
    await untilAsync(() => now() === "live 5")
  })

  it("asks for no state of a volatile channel or of a table, also by its name", async () => {
    const { client, server } = make()
    Collector.latest(client, Channel.make("p", Schema.Finite, { delivery: "volatile" })).subscribe(
      () => {}
    )
    Collector.latest(client, "table_updates_orders").subscribe(() => {})
    const Row = Schema.Struct({ id: Schema.Int })
    const Named = Channel.table("orders", Row, { key: "id", channel: "orders" })
    Collector.latest(client, Named).subscribe(() => {})
    await untilAsync(() => server.last?.of("subscribe").length === 3)
    expect(server.last.of("subscribe").map(({ state }) => state)).toEqual(Array(3).fill(undefined))
  })
})

describe("a Collector of a client that is closed", () => {
  it("is quiet, and shows that the connection stopped", async () => {
    const { client, server } = make()
    const reported: Array<unknown> = []
    const before = globalThis.reportError
    globalThis.reportError = (error) => void reported.push(error)
    try {
      const collector = Collector.make(client, Numbers, { initial: 0, reduce: (_, n) => n })
      collector.subscribe(() => {})
      const latest = Collector.latest(client, "numbers")
      latest.subscribe(() => {})
      await untilAsync(() => server.last?.of("subscribe").length === 1)
      await client.close()
      await untilAsync(() => collector.getSnapshot().status === "error")
      expect(collector.getSnapshot().error).toMatchObject({ _tag: "ConnectionStopped", code: 1000 })
      expect(reported).toEqual([])
    } finally {
      globalThis.reportError = before
    }
  })
})
