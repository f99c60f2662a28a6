/** What a page shows of a state and its stream: cases from the field, each with its right value. */
import { act, cleanup } from "@testing-library/react"
import { Backoff, Channel, type RealtimeEvent } from "effect-realtime"
import { createRealtimeClient } from "effect-realtime/client"
import {
  type ChannelOptions,
  RealtimeProvider,
  useChannel,
  useConnection,
  useLatest,
  useReconnect,
  useSource,
  useWebSocket
} from "effect-realtime/react"
import * as Schema from "effect/Schema"
import { Activity, Profiler, StrictMode, Suspense, use, useState } from "react"
import { hydrateRoot } from "react-dom/client"
import { renderToString } from "react-dom/server"
import { afterEach, describe, expect, it, vi } from "vitest"
import * as Cursor from "../../src/internal/cursorText.ts"
import type { ServerFrame } from "../../src/Frame.ts"
import * as FakeSocket from "../client/support/FakeSocket.ts"
import { page, settle } from "./support/page.tsx"

const Numbers = Channel.make("numbers", Schema.Finite)
const room = Channel.family("room_", Schema.String, Schema.Finite)
const { events } = FakeSocket
type Values = ReadonlyArray<number>
type Options = Omit<ChannelOptions<Values, number>, "key">

/** The cursor of a state that has seen every transaction up to `tx`. */
const cursorAt = (tx: number) =>
  Cursor.formatDurable({
    identity: "AAAAAAAA",
    position: Cursor.whole({ xmax: BigInt(tx) + 1n, running: [] }),
    witness: { tx: BigInt(tx), id: 1n, at: 1n }
  })
const stateAt = (tx: number, ...value: Values): RealtimeEvent.Snapshot<Values> => ({
  _tag: "Snapshot",
  value,
  cursor: cursorAt(tx)
})
/** Events of transactions, whose payload is the transaction. */
const commits = (...txs: ReadonlyArray<number>): ServerFrame => ({
  type: "events",
  channel: "numbers",
  cursor: cursorAt(txs.at(-1)!),
  events: txs.map((tx) => ({
    id: `${tx}`,
    at: "2026-11-22T00:00:00.000Z",
    data: tx,
    tx: `${tx}`
  }))
})

/** A server of a durable channel that is at a transaction, and what it replays to a cursor. */
const durable = (server: FakeSocket.FakeServer, present: number) => {
  const asked: Array<string | undefined> = []
  const outbox = { asked, present, kept: 0 }
  server.heard = (socket, frame) => {
    if (frame.type !== "subscribe") return server.answer(socket, frame)
    const { channel, cursor, id } = frame
    asked.push(cursor)
    const subscribed = { type: "subscribed", id, channel } as const
    if (cursor === undefined) {
      return void socket.say({ ...subscribed, state: "fresh", cursor: cursorAt(outbox.present) })
    }
    const from = Number(Cursor.readDurable(cursor)!.position.base.xmax) - 1
    if (from < outbox.kept) {
      return void socket.say({ ...subscribed, state: "reset", cursor: cursorAt(outbox.present) })
    }
    socket.say({ ...subscribed, state: "recovered", cursor })
    const missed = Array.from({ length: outbox.present - from }, (_, n) => from + 1 + n)
    if (missed.length > 0) socket.say(commits(...missed))
  }
  return outbox
}

const reduce = (list: Values, n: number): Values => [...list, n]

/** A list of numbers that says how it is, and how often it was committed with what. */
const List = ({
  options,
  name = "list"
}: {
  readonly options: Options
  readonly name?: string
}) => {
  const { error, status, value } = useChannel(Numbers, options)
  return (
    <p data-testid={name} data-error={error === undefined ? "" : String((error as Error).message)}>
      {status} {value.join(" ")}
    </p>
  )
}

const promised = <A,>() => Promise.withResolvers<A>()

describe("a state of a page and the events behind it", () => {
  it("goes on from the snapshot that it was rendered with, without a request for the state", async () => {
    const { render, say, server, subscribed } = page()
    const { asked } = durable(server, 13)
    const load = vi.fn<() => Values>()
    const view = render(<List options={{ initial: stateAt(10, 1, 2), load, reduce }} />)
    const text = () => view.getByTestId("list").textContent
    expect(text()).toBe("loading 1 2")
    await subscribed(1)
    await settle(() => text() === "live 1 2 11 12 13")
    await say(commits(14))
    await settle(() => text() === "live 1 2 11 12 13 14")
    expect(asked).toEqual([cursorAt(10)])
    expect(load).not.toHaveBeenCalled()
  })

  it("out of a cache after the retention, it reads the state again in one commit", async () => {
    const { render, server } = page()
    durable(server, 20).kept = 15
    const reading = promised<RealtimeEvent.Snapshot<Values>>()
    const view = render(
      <List options={{ initial: stateAt(10, 1, 2), load: () => reading.promise, reduce }} />
    )
    const seen: Array<string> = []
    const text = () => view.getByTestId("list").textContent
    const look = () => {
      if (seen.at(-1) !== text()) seen.push(text())
      return seen
    }
    await settle(() => look().length === 2)
    await act(async () => reading.resolve(stateAt(20, 7, 8, 9)))
    await settle(() => look().length === 3)
    expect(seen).toEqual(["loading 1 2", "stale 1 2", "live 7 8 9"])
  })

  it("brings a read that is older than an open subscription up to date, without a gap for another component", async () => {
    const { render, say, server, subscribed } = page()
    const { asked } = durable(server, 20)
    const first = { initial: [], reduce }
    const view = render(<List options={first} />)
    await subscribed(1)
    await say(commits(21, 22))
    await settle(() => view.getByTestId("list").textContent === "live 21 22")
    const onGap = vi.fn<() => void>()
    view.again(
      <>
        <List options={{ ...first, onGap }} />
        <List name="late" options={{ ...first, load: async () => stateAt(18, 18), onGap }} />
      </>
    )
    // The server is where it told, and goes back for the one that reads from a cache.
    durable(server, 22)
    await settle(() => view.getByTestId("late").textContent === "live 18 19 20 21 22")
    await say(commits(23))
    await settle(() => view.getByTestId("late").textContent === "live 18 19 20 21 22 23")
    expect(view.getByTestId("list").textContent).toBe("live 21 22 23")
    expect(onGap).not.toHaveBeenCalled()
    expect(asked).toEqual([undefined])
  })

  it("takes a snapshot as JSON, as an API answers it", async () => {
    const { render, server } = page()
    durable(server, 12)
    const load = async () => JSON.parse(JSON.stringify(stateAt(11, 5))) as Values
    const view = render(<List options={{ initial: [], load, reduce }} />)
    await settle(() => view.getByTestId("list").textContent === "live 5 12")
    expect(view.getByTestId("list").dataset["error"]).toBe("")
  })
})

describe("a channel that the server refuses for now", () => {
  const later = {
    code: "subscribe/limit",
    message: "The session has as many subscriptions as it may have: leave one first.",
    retry: "later"
  } as const

  const refusing = () => {
    const made = page()
    let refusals = 2
    made.server.heard = (socket, frame) => {
      if (frame.type !== "subscribe" || refusals-- <= 0) return made.server.answer(socket, frame)
      socket.say({ type: "error", id: frame.id, ...later, retryAfter: 30 })
    }
    return made
  }

  it("is stale, with the limit as its error, told once, and goes on by itself", async () => {
    const { render } = refusing()
    const onError = vi.fn<(error: unknown) => void>()
    const view = render(<List options={{ initial: [], reduce, onError }} />)
    const list = () => view.getByTestId("list")
    await settle(() => list().textContent === "stale ")
    expect(list().dataset["error"]).toBe(later.message)
    await settle(() => list().textContent === "live ")
    expect(list().dataset["error"]).toBe("")
    expect(onError).toHaveBeenCalledTimes(1)
    expect(onError.mock.calls[0]).toMatchObject([{ ...later, retryAfter: 30 }])
  })

  it("tells a handler so once", async () => {
    const { render, say, subscribed } = refusing()
    const onError = vi.fn<(error: unknown) => void>()
    const handled: Array<number> = []
    const Handler = () => {
      useWebSocket(Numbers, (n) => handled.push(n), { onError })
      return null
    }
    render(<Handler />)
    await subscribed(3)
    await say(events("numbers", 1, 1))
    expect(handled).toEqual([1])
    expect(onError.mock.calls).toMatchObject([[later]])
  })

  it("is what `authorize` that throws looks like, on a subscription that was active", async () => {
    const { render, say, subscribed } = page()
    const onError = vi.fn<(error: unknown) => void>()
    const view = render(<List options={{ initial: [], reduce, onError }} />)
    await subscribed(1)
    await settle(() => view.getByTestId("list").textContent === "live ")
    const ended = { code: "server/overloaded", message: "Later.", retry: "later" } as const
    await say({ type: "ended", channel: "numbers", ...ended })
    await settle(() => view.getByTestId("list").textContent === "stale ")
    expect(onError.mock.calls).toMatchObject([[ended]])
    await settle(() => view.getByTestId("list").textContent === "live ")
  })
})

describe("a read of the state", () => {
  it("tells what is not read yet from what is empty", async () => {
    const { render, server, subscribed } = page()
    durable(server, 12)
    const reading = promised<Values>()
    const view = render(<List options={{ initial: [], load: () => reading.promise, reduce }} />)
    const text = () => view.getByTestId("list").textContent
    await subscribed(1)
    expect(text()).toBe("loading ")
    await act(async () => reading.resolve([]))
    await settle(() => text() === "live ")
  })

  it("is tried again by itself when it failed, without another position", async () => {
    const { render, server } = page({ backoff: { ...Backoff.client, first: 10 } })
    durable(server, 12)
    let reads = 0
    const load = async () => {
      if (++reads < 3) throw new Error("502")
      return stateAt(12, 1)
    }
    const onError = vi.fn<() => void>()
    const view = render(<List options={{ initial: [], load, reduce, onError }} />)
    await settle(() => view.getByTestId("list").textContent === "live 1")
    expect([reads, onError.mock.calls.length]).toEqual([3, 2])
  })

  it("`reload()` reads at once, as `load` says, and is the same function for ever", async () => {
    const { render, subscribed } = page()
    const reloads = new Set<unknown>()
    let reads = 0
    const Reloading = ({ from }: { readonly from: number }) => {
      const { reload, value } = useChannel(Numbers, {
        initial: 0,
        load: async () => from + ++reads,
        reduce: (_, n) => n
      })
      reloads.add(reload)
      return <button onClick={() => void reload()}>{value}</button>
    }
    const view = render(<Reloading from={10} />)
    await subscribed(1)
    await settle(() => view.container.textContent === "11")
    view.again(<Reloading from={20} />)
    await act(async () => view.getByRole("button").click())
    await settle(() => view.container.textContent === "22")
    // StrictMode made a second one, which was never shown.
    expect(reloads.size).toBeLessThanOrEqual(2)
  })

  it("a `reload` of an earlier render reads what is shown now, and nothing once the component is gone", async () => {
    const { render, subscribed } = page()
    const reloads = new Set<(load?: () => string) => Promise<void>>()
    const read: Array<string> = []
    const Reloading = ({ id }: { readonly id: string }) => {
      const { reload, value } = useChannel(Numbers, {
        key: id,
        initial: "",
        load: async () => `${id}${read.push(id)}`,
        reduce: (text) => text
      })
      reloads.add(reload)
      return value
    }
    const view = render(<Reloading id="a" />)
    await subscribed(1)
    await settle(() => view.container.textContent === "a1")
    const [first] = Array.from(reloads).slice(-1)
    view.again(<Reloading id="b" />)
    await settle(() => view.container.textContent === "b2")
    await act(() => first!())
    await settle(() => view.container.textContent === "b3")
    await act(() => first!(() => "given"))
    await settle(() => view.container.textContent === "given")
    view.again(null)
    await expect(first!()).resolves.toBeUndefined()
    expect(read).toEqual(["a", "b", "b"])
    // StrictMode made a second one, which was never shown.
    expect(reloads.size).toBeLessThanOrEqual(2)
  })

  it("`reload()` without a `load` says what is missing", async () => {
    const { render } = page()
    const reloads: Array<() => Promise<void>> = []
    const Reloading = () => {
      const given = useChannel(Numbers, { initial: 0, reduce: (_, n) => n })
      reloads.push(given.reload)
      return given.status
    }
    const view = render(<Reloading />)
    await settle(() => view.container.textContent === "live")
    await act(() => expect(reloads.at(-1)!()).rejects.toThrow("the option `load`"))
    // Nothing was read, so nothing is known to be missing.
    expect(view.container.textContent).toBe("live")
  })
})

describe("a key", () => {
  const Filtered = ({ filter }: { readonly filter: string }) => {
    const { status, value } = useChannel(Numbers, {
      key: ["open", filter],
      initial: `none of ${filter}`,
      load: async () => `all of ${filter}`,
      reduce: (text, n) => `${text}, ${n} of ${filter}`
    })
    return `${filter}: ${status} ${value}`
  }

  it("begins anew when it changes, and not when it is an equal array", async () => {
    const { render, say, subscribed, types } = page()
    const view = render(<Filtered filter="a" />)
    await subscribed(1)
    await settle(() => view.container.textContent === "a: live all of a")
    view.again(<Filtered filter="a" />)
    expect(view.container.textContent).toBe("a: live all of a")
    view.again(<Filtered filter="b" />)
    expect(view.container.textContent).toBe("b: loading none of b")
    await settle(() => view.container.textContent === "b: live all of b")
    await say(events("numbers", 1, 5))
    await settle(() => view.container.textContent === "b: live all of b, 5 of b")
    expect(types()).toEqual(["hello", "subscribe"])
  })

  it("of useLatest begins anew, and goes on with the shared last value", async () => {
    const { render, say, subscribed } = page()
    const Latest = ({ name }: { readonly name: unknown }) => {
      const { error, status, value } = useLatest(Numbers, { key: name })
      return `${status} ${value} ${error === undefined ? "" : (error as { readonly _tag: string })._tag}`
    }
    const view = render(<Latest name={NaN} />)
    await subscribed(1)
    await say(events("numbers", 1, 1))
    await settle(() => view.container.textContent === "live 1 ")
    await say({ type: "gap", channel: "numbers", reason: "source", cursor: "f:0" })
    await settle(() => view.container.textContent!.startsWith("stale 1"))
    // NaN is the same key as NaN.
    view.again(<Latest name={NaN} />)
    expect(view.container.textContent).toMatch(/^stale 1/)
    view.again(<Latest name={[NaN]} />)
    expect(view.container.textContent).toMatch(/^stale 1/)
    await say(events("numbers", 2, 2))
    await settle(() => view.container.textContent === "live 2 ")
  })

  it.each([
    [
      ["a", "b"],
      ["b", "a"]
    ],
    [["a"], ["a", undefined]],
    [undefined, []],
    [{ filter: "a" }, { filter: "a" }]
  ])("%j becomes %j: the value begins anew", async (one, other) => {
    const { render, subscribed } = page()
    let initial = "first"
    const Value = ({ of }: { readonly of: unknown }) =>
      useChannel(Numbers, { key: of, initial, reduce: String as never }).value
    const view = render(<Value of={one} />)
    await subscribed(1)
    initial = "second"
    view.again(<Value of={one} />)
    expect(view.container.textContent).toBe("first")
    view.again(<Value of={other} />)
    expect(view.container.textContent).toBe("second")
  })

  it("in 200 switches shows nothing of one under the other, and calls no handler of the old one", async () => {
    const { render, server, subscribed } = page({ linger: 50 })
    const faults: Array<string> = []
    let shown = ""
    const Room = ({ id }: { readonly id: string }) => {
      const { value } = useChannel(room(id), {
        key: id,
        initial: [] as ReadonlyArray<string>,
        load: async () => {
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 20))
          return [`${id}0`]
        },
        reduce: (list, n) => [...list, `${id}${n}`],
        onGap: () => shown !== id && faults.push(`gap of ${id} under ${shown}`)
      })
      useWebSocket(room(id), (_, { channel }) => {
        if (channel !== `room_${shown}`) faults.push(`${channel} under ${shown}`)
      })
      const commit = () => {
        shown = id
        const other = value.find((text) => !text.startsWith(id))
        if (other !== undefined) faults.push(`${other} under ${id}`)
      }
      return (
        <Profiler id={id} onRender={commit}>
          <p>{value.join()}</p>
        </Profiler>
      )
    }
    const view = render(<Room id="a" />)
    await subscribed(1)
    for (let n = 0; n < 200; n++) {
      view.again(<Room id={n % 2 === 0 ? "b" : "a"} />)
      for (const id of ["a", "b"]) {
        server.last.say(events(`room_${id}`, n + 1, n))
        if (n % 10 === 0) {
          server.last.say({ type: "gap", channel: `room_${id}`, reason: "slow", cursor: `e:${n}` })
        }
      }
      if (n % 20 === 0) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await act(() => new Promise((resolve) => setTimeout(resolve, Math.random() * 20)))
      }
    }
    await settle(() => view.container.textContent.startsWith("a0"))
    expect(faults).toEqual([])
  })

  it("1,000 renders with literal options send no frame", async () => {
    const { render, subscribed, types } = page()
    const Literal = ({ n }: { readonly n: number }) => {
      const { value } = useChannel(Numbers, { key: [1], initial: [n], reduce: (list) => [...list] })
      const latest = useLatest(Numbers, { key: { of: 1 }.of, onGap: () => {} })
      useWebSocket(Numbers, () => {}, { onGap: () => {} })
      return `${value.join()} ${latest.status}`
    }
    const view = render(<Literal n={0} />)
    await subscribed(1)
    for (let n = 1; n <= 1000; n++) view.again(<Literal n={n} />)
    await settle(() => view.container.textContent === "0 live")
    expect(types()).toEqual(["hello", "subscribe"])
  })
})

describe("the last value", () => {
  const Latest = ({ name }: { readonly name: string }) => {
    const { status, value } = useLatest(Numbers)
    return <p data-testid={name}>{`${status} ${value}`}</p>
  }

  it("is shown by a component that mounts later, from its first render on", async () => {
    const { render, say, subscribed } = page()
    const view = render(<Latest name="one" />)
    await subscribed(1)
    await say(events("numbers", 1, 41, 42))
    await settle(() => view.getByTestId("one").textContent === "live 42")
    const both = (
      <>
        <Latest name="one" />
        <Latest name="two" />
      </>
    )
    view.again(both)
    expect(view.getByTestId("two").textContent).toMatch(/ 42$/)
    await settle(() => view.getByTestId("two").textContent === "live 42")
    await say(events("numbers", 3, 43))
    for (const name of ["one", "two"]) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await settle(() => view.getByTestId(name).textContent === "live 43")
    }
  })

  it.each(["gap", "reset"])(
    "is stale after a %s in a component that mounts later",
    async (kind) => {
      const { render, say, server, subscribed } = page()
      const view = render(<Latest name="one" />)
      const texts = () => Array.from(view.container.children, ({ textContent }) => textContent)
      await subscribed(1)
      await say(events("numbers", 1, 1))
      await settle(() => texts()[0] === "live 1")
      if (kind === "gap") {
        await say({ type: "gap", channel: "numbers", reason: "source", cursor: "f:0" })
      } else {
        server.heard = (socket, frame) => {
          if (frame.type !== "subscribe") return server.answer(socket, frame)
          const { channel, id } = frame
          socket.say({ type: "subscribed", id, channel, state: "reset", cursor: "f:0" })
        }
        await act(async () => server.last.drop())
      }
      await settle(() => texts()[0] === "stale 1" && server.last.of("subscribe").length === 1)
      view.again(
        <>
          <Latest name="one" />
          <Latest name="two" />
        </>
      )
      await settle(() => texts()[1] !== "loading 1")
      expect(texts()).toEqual(["stale 1", "stale 1"])
      await say(events("numbers", 2, 2))
      await settle(() => texts().join() === "live 2,live 2")
    }
  )

  it.each([null, 0, { _tag: "Snapshot", value: 3, cursor: "x" }])(
    "is any JSON in a component that mounts later: %j",
    async (payload) => {
      const { render, say, subscribed } = page()
      const Any = () => {
        const { status, value } = useLatest("numbers")
        return <p>{`${status} ${JSON.stringify(value)}`}</p>
      }
      const view = render(<Any key="one" />)
      const texts = () => Array.from(view.container.children, ({ textContent }) => textContent)
      await subscribed(1)
      await say(events("numbers", 1, payload))
      const text = `live ${JSON.stringify(payload)}`
      await settle(() => texts()[0] === text)
      view.again([<Any key="one" />, <Any key="two" />])
      await settle(() => !texts()[1]!.startsWith("loading"))
      expect(texts()).toEqual([text, text])
    }
  )

  it("is shown at once by a component that did not receive it while React hid it", async () => {
    const { render, say, subscribed, types } = page()
    const Two = ({ isHidden }: { readonly isHidden: boolean }) => (
      <>
        <Latest name="one" />
        <Activity mode={isHidden ? "hidden" : "visible"}>
          <Latest name="two" />
        </Activity>
      </>
    )
    const view = render(<Two isHidden={false} />)
    const text = (name: string) => view.getByTestId(name).textContent
    await subscribed(1)
    await say(events("numbers", 1, 1))
    await settle(() => text("two") === "live 1")
    view.again(<Two isHidden />)
    await act(async () => {})
    await say(events("numbers", 2, 2))
    await settle(() => text("one") === "live 2")
    view.again(<Two isHidden={false} />)
    expect(text("two")).toBe("live 2")
    await say(events("numbers", 3, 3))
    await settle(() => text("one") === "live 3" && text("two") === "live 3")
    expect(types()).toEqual(["hello", "subscribe"])
  })

  it("is read by its own definition, and where a handler had it only", async () => {
    const { render, say, subscribed } = page()
    const Handler = () => {
      useWebSocket(Numbers, () => {})
      return null
    }
    const Text = () => String(useLatest(Channel.make("numbers", Schema.String)).value)
    const view = render(<Handler />)
    await subscribed(1)
    await say(events("numbers", 1, 7))
    view.again(
      <>
        <Handler />
        <Latest name="late" />
        <Text />
      </>
    )
    // What is no text is no value of a channel of texts.
    expect(view.container.textContent).toMatch(/ 7undefined$/)
  })

  it("is forgotten with the channel", async () => {
    const { render, say, store, subscribed } = page({ linger: 1 })
    const view = render(<Latest name="one" />)
    await subscribed(1)
    await say(events("numbers", 1, 42))
    view.again(null)
    await settle(() => store.connection.getSnapshot().status === "idle")
    view.again(<Latest name="two" />)
    expect(view.getByTestId("two").textContent).toBe("loading undefined")
  })
})

describe("a state that is read again", () => {
  it("shows 500 rows all the while, and swaps them in one commit", async () => {
    const { render, say, server, subscribed } = page()
    const outbox = durable(server, 10)
    const rows = (count: number) => Array.from({ length: count }, (_, n) => n)
    const reads = [
      promised<RealtimeEvent.Snapshot<Values>>(),
      promised<RealtimeEvent.Snapshot<Values>>()
    ]
    let read = 0
    const counts: Array<number> = []
    const Rows = () => {
      const { value } = useChannel(Numbers, {
        initial: [],
        load: () => reads[read++]!.promise,
        reduce
      })
      return (
        <Profiler
          id="rows"
          onRender={() => counts.at(-1) !== value.length && counts.push(value.length)}
        >
          <p>{value.length}</p>
        </Profiler>
      )
    }
    const view = render(<Rows />)
    await subscribed(1)
    await act(async () => reads[0]!.resolve(stateAt(10, ...rows(500))))
    await settle(() => view.container.textContent === "500")
    outbox.kept = 100
    outbox.present = 200
    server.last.drop()
    await settle(() => read === 2)
    // It takes its time, and events come meanwhile.
    await say(commits(201))
    await settle(() => view.container.textContent === "501")
    await act(async () => reads[1]!.resolve(stateAt(200, ...rows(450))))
    await settle(() => view.container.textContent === "451")
    expect(counts).toEqual([0, 500, 501, 451])
  })
})

describe("what a hook reads", () => {
  afterEach(() => vi.useRealTimers())

  const Everything = ({ look }: { readonly look: (all: ReadonlyArray<unknown>) => void }) => {
    const [, again] = useState(0)
    const options = { initial: 0, reduce: (_: number, n: unknown) => Number(n) }
    look([
      useChannel(Numbers, options),
      useChannel("unheard", options),
      useLatest(Numbers),
      useLatest("unheard_of"),
      useConnection(),
      useSource(),
      useReconnect(),
      useWebSocket(Numbers, () => {}).connection
    ])
    return <button onClick={() => again((n) => n + 1)}>again</button>
  }

  it("is the same object in 1,000 reads without an event, also when the clock changes", async () => {
    const { render, say, subscribed } = page()
    let seen: ReadonlyArray<unknown> = []
    const view = render(<Everything look={(all) => (seen = all)} />)
    await subscribed(3)
    await say(events("numbers", 1, 1))
    await settle(() => (seen[2] as { value: unknown }).value === 1)
    await settle(() =>
      [0, 1, 2, 3].every((at) => (seen[at] as { status: string }).status === "live")
    )
    const first = seen
    vi.useFakeTimers({ toFake: ["Date"] })
    for (let n = 0; n < 1000; n++) {
      vi.setSystemTime(Date.now() + (n % 2 === 0 ? 600_000 : -1_200_000))
      view.getByRole("button").click()
      expect(seen.every((value, index) => Object.is(value, first[index]))).toBe(true)
    }
    act(() => view.getByRole("button").click())
    expect(seen).not.toBe(first)
    expect(seen.every((value, index) => Object.is(value, first[index]))).toBe(true)
  })

  it("makes no client while a server renders", () => {
    const client = createRealtimeClient({ url: "ws://host/realtime" })
    const sync = vi.fn<typeof client.sync>()
    const html = renderToString(
      <StrictMode>
        <RealtimeProvider client={{ ...client, sync }}>
          <Everything look={() => {}} />
        </RealtimeProvider>
      </StrictMode>
    )
    expect(html).toBe("<button>again</button>")
    expect(sync).not.toHaveBeenCalled()
  })
})

describe("a page that a server rendered", () => {
  it("hydrates each part with the server's rows, and shows the events after that", async () => {
    const { say, server, store, subscribed } = page()
    const outbox = durable(server, 12)
    const late = promised<string>()
    let isLate = false
    const Late = ({ snapshot }: { readonly snapshot: RealtimeEvent.Snapshot<Values> }) => {
      if (isLate) use(late.promise)
      return <List name="late" options={{ initial: snapshot, reduce }} />
    }
    const App = () => (
      <RealtimeProvider client={store}>
        <List options={{ initial: stateAt(10, 1), reduce }} />
        <Suspense fallback="...">
          <Late snapshot={stateAt(10, 2)} />
        </Suspense>
        <Latest />
      </RealtimeProvider>
    )
    const Latest = () => <p>{String(useLatest(Numbers).value)}</p>
    const container = document.createElement("div")
    document.body.append(container)
    container.innerHTML = renderToString(<App />)
    const texts = () => [...container.querySelectorAll("p")].map(({ textContent }) => textContent)
    expect(texts()).toEqual(["loading 1", "loading 2", "undefined"])
    isLate = true
    const complained = vi.spyOn(console, "error")
    const onRecoverableError = vi.fn<() => void>()
    const root = await act(async () => hydrateRoot(container, <App />, { onRecoverableError }))
    await subscribed(1)
    await settle(() => texts()[0] === "live 1 11 12")
    await say(commits(13))
    await settle(() => texts()[0] === "live 1 11 12 13")
    // The second part is as the server left it until it hydrates.
    expect(texts()[1]).toBe("loading 2")
    outbox.present = 13
    await act(async () => late.resolve(""))
    await settle(() => texts()[1] === "live 2 11 12 13")
    expect(complained).not.toHaveBeenCalled()
    expect(onRecoverableError).not.toHaveBeenCalled()
    act(() => root.unmount())
    container.remove()
    complained.mockRestore()
    cleanup()
  })
})
