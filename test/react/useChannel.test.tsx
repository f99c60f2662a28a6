import { act } from "@testing-library/react"
import { Backoff, Channel, type RealtimeEvent } from "effect-realtime"
import { Collector } from "effect-realtime/client"
import {
  type ChannelOptions,
  type Collected,
  useChannel,
  useLatest,
  useWebSocket
} from "effect-realtime/react"
import * as Schema from "effect/Schema"
import {
  Profiler,
  type ProfilerOnRenderCallback,
  startTransition,
  Suspense,
  use,
  useState
} from "react"
import { afterEach, describe, expect, it, vi } from "vitest"
import * as Cursor from "../../src/internal/cursorText.ts"
import * as FakeSocket from "../client/support/FakeSocket.ts"
import { page, settle } from "./support/page.tsx"

const Numbers = Channel.make("numbers", Schema.Finite)
const room = Channel.family("room_", Schema.String, Schema.Finite)
const { events } = FakeSocket
const gap = (cursor: string) => ({
  type: "gap" as const,
  channel: "numbers",
  reason: "source" as const,
  cursor
})

/** The cursor of a state that contains every transaction below `xmax`, except the open ones. */
const seen = (xmax: bigint, ...running: ReadonlyArray<bigint>) =>
  Cursor.formatDurable({
    identity: "AAAAAAAA",
    position: Cursor.whole({ xmax, running }),
    witness: { tx: xmax - 1n, id: 1n, at: 1n }
  })

/** The server's channel stands at a cursor when it is opened. */
const standsAt = (server: FakeSocket.FakeServer, cursor: string) => {
  server.heard = (socket, frame) => {
    if (frame.type !== "subscribe" || frame.cursor !== undefined) {
      return server.answer(socket, frame)
    }
    const { channel, id } = frame
    socket.say({ type: "subscribed", id, channel, state: "fresh", cursor })
  }
}

/** Events of a durable channel: each a number and its transaction. */
const committed = (...events: ReadonlyArray<readonly [data: number, tx: number]>) =>
  committedUpTo(seen(BigInt(Math.max(...events.map(([, tx]) => tx))) + 1n), ...events)

const committedUpTo = (
  cursor: string,
  ...events: ReadonlyArray<readonly [data: number, tx: number]>
) => ({
  type: "events" as const,
  channel: "numbers",
  cursor,
  events: events.map(([data, tx]) => ({
    id: String(data),
    at: "2026-11-22T00:00:00.000Z",
    data,
    tx: String(tx)
  }))
})

type Values = ReadonlyArray<number>

const List = ({
  give,
  ...options
}: Omit<Partial<ChannelOptions<Values, number>>, "key"> & {
  readonly give: (now: Collected<Values>) => void
}) => {
  give(useChannel(Numbers, { initial: [], reduce: (list, n) => [...list, n], ...options }))
  return null
}

/** Renders a list and exposes its handle. */
const lists = () => {
  let now: Collected<Values> | undefined
  let renders = 0
  const give = (given: Collected<Values>) => {
    now = given
    renders++
  }
  return {
    View: (options: Omit<Partial<ChannelOptions<Values, number>>, "key">) => (
      <List give={give} {...options} />
    ),
    list: () => now!,
    renders: () => renders
  }
}

/** A promise that the test settles. */
const promised = <A,>() => {
  const { promise, resolve } = Promise.withResolvers<A>()
  return { promise, resolve }
}

const SumOf = ({ id }: { readonly id: string }) =>
  useChannel(room(id), { initial: 0, reduce: (sum, n) => sum + n }).value

const Sum = () => useChannel("numbers", { initial: 0, reduce: (sum, n) => sum + Number(n) }).value

const Both = () => {
  const [seen, setSeen] = useState(0)
  useWebSocket(Numbers, (n) => setSeen(n))
  return (
    <>
      <Sum /> <Sum /> {seen}
    </>
  )
}

const Latest = () => {
  const { status, value } = useLatest(Numbers)
  return `${value} ${status}`
}

describe("useChannel", () => {
  it("reduces each of 1,000 events of one tick once, in order, in few renders", async () => {
    const { render, say, subscribed, types } = page()
    const { list, renders, View } = lists()
    render(<View />)
    await subscribed(1)
    const before = renders()
    const numbers = Array.from({ length: 1000 }, (_, n) => n)
    await say(...numbers.map((n) => events("numbers", n + 1, n)))
    await settle(() => list().value.length === 1000)
    expect(list().value).toEqual(numbers)
    // StrictMode renders twice.
    expect(renders() - before).toBeLessThanOrEqual(4)
    expect(types()).toEqual(["hello", "subscribe"])
  })

  describe("render timing", () => {
    const timers = [
      "setTimeout",
      "clearTimeout",
      "requestAnimationFrame",
      "cancelAnimationFrame"
    ] as const
    afterEach(() => vi.useRealTimers())

    /** A subscribed list, on a page whose frames and timers the test controls. */
    const framed = async () => {
      const { render, say, subscribed } = page()
      const { list, View } = lists()
      const onRender = vi.fn<ProfilerOnRenderCallback>()
      render(
        <Profiler id="list" onRender={onRender}>
          <View />
        </Profiler>
      )
      await subscribed(1)
      const before = onRender.mock.calls.length
      vi.useFakeTimers({ toFake: [...timers] })
      return { list, say, commits: () => onRender.mock.calls.length - before }
    }

    it("renders once per frame while 1,000 events arrive in 1 s, and drops no event", async () => {
      const { commits, list, say } = await framed()
      for (let n = 0; n < 1000; n++) {
        // oxlint-disable-next-line no-await-in-loop -- each in its own turn
        await say(events("numbers", n + 1, n))
        // React renders in a frame only, and then all events before it.
        if (n % 17 !== 16) continue
        expect(commits()).toBe((n - 16) / 17)
        // oxlint-disable-next-line no-await-in-loop -- one frame after the other
        await act(async () => vi.advanceTimersToNextFrame())
        expect(list().value).toHaveLength(n + 1)
      }
      await act(async () => vi.advanceTimersToNextFrame())
      expect(list().value).toEqual(Array.from({ length: 1000 }, (_, n) => n))
      expect(commits()).toBe(Math.ceil(1000 / 17))
      // Without events it does not render.
      await act(async () => vi.advanceTimersByTime(1000))
      expect(commits()).toBe(Math.ceil(1000 / 17))
    })

    it("renders events within 100 ms in a hidden page, which has no frames", async () => {
      const { commits, list, say } = await framed()
      vi.stubGlobal("requestAnimationFrame", () => 0)
      await say(events("numbers", 1, 1), events("numbers", 2, 2))
      await act(async () => vi.advanceTimersByTime(99))
      expect(commits()).toBe(0)
      await act(async () => vi.advanceTimersByTime(1))
      expect(list().value).toEqual([1, 2])
      expect(commits()).toBe(1)
      vi.unstubAllGlobals()
    })
  })

  it("is stale after a gap until the state is read again", async () => {
    const { render, say, subscribed } = page()
    const onGap = vi.fn<(gap: RealtimeEvent.Gap) => void>()
    const { list, View } = lists()
    render(<View onGap={onGap} />)
    await subscribed(1)
    await say(events("numbers", 1, 1), gap("f:0"))
    await settle(() => list().status === "stale")
    expect(onGap.mock.calls.map(([gap]) => gap.reason)).toEqual(["source"])
    await say(events("numbers", 2, 2))
    await settle(() => list().value.length === 2)
    expect(list().status).toBe("stale")
    await act(() => list().reload(() => [1, 1.5, 2]))
    await settle(() => list().status === "live")
    expect(list().value).toEqual([1, 1.5, 2])
  })

  it("applies events that arrive during a read, and stays stale when a gap arrives too", async () => {
    const { render, say, subscribed } = page()
    const { list, View } = lists()
    render(<View />)
    await subscribed(1)
    await say(gap("f:0"))
    const first = promised<ReadonlyArray<number>>()
    const reading = list().reload(() => first.promise)
    await say(events("numbers", 1, 7))
    await act(async () => {
      first.resolve([1, 2])
      await reading
    })
    await settle(() => list().status === "live")
    expect(list().value).toEqual([1, 2, 7])
    const second = promised<ReadonlyArray<number>>()
    const again = list().reload(() => second.promise)
    await say(gap("g:0"))
    await act(async () => {
      second.resolve([3])
      await again
    })
    await settle(() => list().value.length === 1)
    expect(list()).toMatchObject({ value: [3], status: "stale" })
  })

  it("takes the result of the later read, whichever ends first", async () => {
    const { render, subscribed } = page()
    const { list, View } = lists()
    render(<View />)
    await subscribed(1)
    const [slow, fast] = [promised<ReadonlyArray<number>>(), promised<ReadonlyArray<number>>()]
    const reads = [list().reload(() => slow.promise), list().reload(() => fast.promise)]
    await act(async () => {
      fast.resolve([2])
      await reads[1]
      slow.resolve([1])
      await reads[0]
    })
    await settle(() => list().value.length === 1)
    expect(list().value).toEqual([2])
  })

  it("stays stale when the read fails, and an ignored promise is no unhandled rejection", async () => {
    const { render, say, subscribed } = page()
    const { list, View } = lists()
    render(<View />)
    await subscribed(1)
    await say(gap("f:0"))
    void list().reload(() => Promise.reject(new Error("ignored")))
    await expect(act(() => list().reload(() => Promise.reject(new Error("no"))))).rejects.toThrow(
      "no"
    )
    expect(list().status).toBe("stale")
  })

  it("calls `load` once the channel is active, and after each gap", async () => {
    const { render, say, server, subscribed } = page()
    const { list, View } = lists()
    const read: Array<boolean> = []
    const load = () => {
      read.push(server.last.of("subscribe").length === 1)
      return [10 * read.length]
    }
    render(<View load={load} />)
    expect(read).toEqual([])
    await subscribed(1)
    await settle(() => list().value.length === 1)
    await say(gap("f:0"), events("numbers", 1, 5))
    await settle(() => list().value.length === 2 && list().status === "live")
    expect(list().value).toEqual([20, 5])
    expect(read).toEqual([true, true])
  })

  it("shows a `load` that failed, and tries it again by itself until it has the state", async () => {
    const { render, say, subscribed } = page({ backoff: { ...Backoff.client, first: 20, cap: 20 } })
    const { list, View } = lists()
    const onError = vi.fn<(error: unknown) => void>()
    let loads = 0
    /** Succeeds at the third and at the fifth call. */
    const load = async () => {
      if ([3, 5].includes(++loads)) return [loads]
      await Promise.resolve()
      throw new Error(`no ${loads}`)
    }
    render(<View load={load} onError={onError} />)
    expect(list()).toMatchObject({ value: [], status: "loading" })
    await subscribed(1)
    await settle(() => list().value[0] === 3)
    expect(list()).toMatchObject({ value: [3], status: "live", error: undefined })
    expect(onError.mock.calls).toEqual([[new Error("no 1")], [new Error("no 2")]])
    // What was read is not read again, until a gap; also that read is tried again.
    await say({ type: "cursor", channel: "numbers", cursor: "e:3" })
    expect(loads).toBe(3)
    await say(gap("f:0"))
    await settle(() => list().value[0] === 5)
    expect(list()).toMatchObject({ value: [5], status: "live", error: undefined })
    expect(loads).toBe(5)
  })

  it("tells a first read that failed from a later one, and reads again when the link is back", async () => {
    // The backoff is so long that only the link can cause the next read.
    const hour = 3_600_000
    const { render, say, server, store, subscribed } = page({
      backoff: { ...Backoff.client, first: hour, initial: hour, cap: hour }
    })
    const { list, View } = lists()
    let loads = 0
    const load = async () => {
      if ([2, 4].includes(++loads)) return [loads]
      throw new Error(`no ${loads}`)
    }
    const back = async () => {
      server.last.drop()
      await act(async () => store.reconnect())
    }
    render(<View load={load} onError={() => {}} />)
    await subscribed(1)
    await settle(() => list().error !== undefined)
    expect(list()).toMatchObject({ value: [], status: "error", error: new Error("no 1") })
    await say(events("numbers", 1, 7))
    await settle(() => list().value.length === 1)
    expect(loads).toBe(1)
    await back()
    await settle(() => list().value[0] === 2)
    expect(list()).toMatchObject({ value: [2], status: "live", error: undefined })
    await say(gap("f:0"))
    await settle(() => list().error !== undefined)
    expect(list()).toMatchObject({ value: [2], status: "stale", error: new Error("no 3") })
    await back()
    await settle(() => list().value[0] === 4)
    expect(list()).toMatchObject({ value: [4], status: "live", error: undefined })
  })

  it("shows when the read that took over the first `load` fails", async () => {
    const hour = 3_600_000
    const { render, subscribed } = page({ backoff: { ...Backoff.client, first: hour } })
    const { list, View } = lists()
    const first = promised<Values>()
    render(<View load={() => first.promise} />)
    await subscribed(1)
    void list().reload(() => Promise.reject(new Error("no")))
    await settle(() => list().status === "error")
    await act(async () => first.resolve([1]))
    expect(list()).toMatchObject({ value: [], status: "error", error: new Error("no") })
  })

  it("skips each event that the snapshot already contains, before and after the read", async () => {
    const { render, say, server, subscribed } = page()
    standsAt(server, seen(98n, 50n))
    const { list, View } = lists()
    // The state contains every transaction below 100, except 50, which was open.
    const cursor = seen(100n, 50n)
    const reading = promised<RealtimeEvent.Snapshot<Values>>()
    render(<View load={() => reading.promise} />)
    await subscribed(1)
    // 1 committed before the read and arrived during it; 98 is open.
    await say(committedUpTo(seen(100n, 50n, 98n), [1, 99]))
    await act(async () => {
      reading.resolve({ _tag: "Snapshot", value: [1000], cursor })
      await reading.promise
    })
    await settle(() => list().value.includes(1000))
    // After the read: the state contains 3. 2 committed later, and the transaction of 4 was open.
    await say(committedUpTo(seen(101n, 50n), [3, 98], [2, 100]), committed([4, 50], [5, 101]))
    await settle(() => list().value.includes(5))
    expect(list()).toMatchObject({ value: [1000, 2, 4, 5], status: "live" })
  })

  it("is exact in each of several components that share one subscription, even after `reset`", async () => {
    const { render, say, server, subscribed } = page({ backoff: { ...Backoff.client, first: 0 } })
    /** A component and its reads. */
    const loading = () => {
      const { list, View } = lists()
      const reads: Array<(value: Values, cursor: string) => Promise<void>> = []
      const load = () => {
        const { promise, resolve } = promised<RealtimeEvent.Snapshot<Values>>()
        reads.push((value, cursor) =>
          act(async () => {
            resolve({ _tag: "Snapshot", value, cursor })
            await promise
          })
        )
        return promise
      }
      return { list, reads, view: <View load={load} /> }
    }
    standsAt(server, seen(99n))
    const [one, two] = [loading(), loading()]
    const view = render(<>{one.view}</>)
    await subscribed(1)
    await settle(() => one.reads.length === 1)
    await say(committed([1, 99], [2, 100]))
    view.again(
      <>
        {one.view}
        {two.view}
      </>
    )
    await settle(() => two.reads.length === 1)
    await say(committed([3, 101]))
    // Each read contains what was committed at its answer.
    await two.reads[0]!([-2], seen(102n))
    await one.reads[0]!([-1], seen(100n))
    await say(committed([4, 102]))
    await settle(() => two.list().value.includes(4))
    expect([one.list(), two.list()]).toMatchObject([
      { value: [-1, 2, 3, 4], status: "live" },
      { value: [-2, 4], status: "live" }
    ])
    server.heard = (socket, frame) => {
      if (frame.type !== "subscribe") return server.answer(socket, frame)
      const { channel, id } = frame
      socket.say({ type: "subscribed", id, channel, state: "reset", cursor: seen(109n) })
    }
    server.last.drop()
    await settle(() => one.reads.length === 2 && two.reads.length === 2)
    await settle(() => [one, two].every(({ list }) => list().status === "stale"))
    await say(committed([5, 109], [6, 110]))
    await one.reads[1]!([-3], seen(110n))
    await two.reads[1]!([-4], seen(111n))
    await say(committed([7, 111]))
    await settle(() => two.list().value.includes(7))
    expect([one.list(), two.list()]).toMatchObject([
      { value: [-3, 6, 7], status: "live" },
      { value: [-4, 7], status: "live" }
    ])
    await subscribed(2)
    expect(server.sockets.map((socket) => socket.of("subscribe").length)).toEqual([1, 1])
    expect([one.reads.length, two.reads.length]).toEqual([2, 2])
  })

  it("shows a refused subscription as `error`", async () => {
    const { render, say, subscribed } = page()
    const onError = vi.fn<(error: unknown) => void>()
    const { list, View } = lists()
    render(<View onError={onError} />)
    await subscribed(1)
    const refusal = { code: "channel/forbidden", message: "no", retry: "never" } as const
    await say({ type: "ended", channel: "numbers", ...refusal })
    await settle(() => list().error !== undefined)
    expect(list().error).toMatchObject({ _tag: "Refused", code: "channel/forbidden" })
    expect(onError).toHaveBeenCalledTimes(1)
  })

  it("shows a stop as `error` until reconnect, and is stale when it cannot resume", async () => {
    const { render, say, server, store, subscribed } = page()
    const { list, View } = lists()
    render(<View onError={() => {}} />)
    await subscribed(1)
    await say(events("numbers", 1, 1))
    await act(async () => server.last.drop(4202))
    await settle(() => list().error !== undefined)
    expect(list().error).toMatchObject({ _tag: "ConnectionStopped", code: 4202 })
    act(() => store.reconnect())
    await subscribed(2)
    await settle(() => list().error === undefined)
    expect(list()).toMatchObject({ value: [1], status: "live" })
    server.heard = (socket, frame) => {
      if (frame.type !== "subscribe") return server.answer(socket, frame)
      const { channel, id } = frame
      socket.say({ type: "subscribed", id, channel, state: "reset", cursor: "f:0" })
    }
    await act(async () => server.last.drop(4202))
    await settle(() => list().error !== undefined)
    act(() => store.reconnect())
    await settle(() => list().status === "stale")
    expect(list()).toMatchObject({ value: [1], error: undefined })
  })

  it("uses the reducer of the latest render, and continues after a reducer throws", async () => {
    const { render, say, subscribed } = page()
    const onError = vi.fn<(error: unknown) => void>()
    const { list, View } = lists()
    const view = render(<View onError={onError} />)
    await subscribed(1)
    view.again(
      <View
        onError={onError}
        reduce={(list, n) => {
          if (n === 2) throw new Error("two")
          return [...list, -n]
        }}
      />
    )
    await say(events("numbers", 1, 1, 2, 3))
    await settle(() => list().value.length === 2)
    expect(list().value).toEqual([-1, -3])
    expect(onError.mock.calls).toEqual([[new Error("two")]])
  })

  it("starts from `initial` for another channel", async () => {
    const { render, say, subscribed } = page()
    const view = render(<SumOf id="a" />)
    await subscribed(1)
    await say(events("room_a", 1, 5))
    await settle(() => view.container.textContent === "5")
    view.again(<SumOf id="b" />)
    expect(view.container.textContent).toBe("0")
    await subscribed(2)
    await say(events("room_a", 2, 100), events("room_b", 1, 1))
    await settle(() => view.container.textContent === "1")
  })

  it("resumes from its cursor when it mounts again, or is stale", async () => {
    const { server, store, subscribed, say } = page({ linger: 5 })
    const reduce = (sum: number, n: number) => sum + n
    const collector = Collector.make(store, Numbers, { initial: 0, reduce })
    const stop = collector.subscribe(() => {})
    await subscribed(1)
    await say(events("numbers", 1, 1))
    stop()
    await settle(() => store.connection.getSnapshot().status === "idle")
    const again = collector.subscribe(() => {})
    await subscribed(2)
    expect(server.last.of("subscribe")[0]!.cursor).toBe("e:1")
    await say(events("numbers", 2, 2))
    await settle(() => collector.getSnapshot().value === 3)
    expect(collector.getSnapshot().status).toBe("live")
    const other = store.listen(Numbers, () => {})
    await act(async () => again())
    await say(events("numbers", 3, 4))
    const last = collector.subscribe(() => {})
    await settle(() => collector.getSnapshot().status === "stale")
    last()
    other()
  })

  it("counts each event once when it unmounts in the middle of a batch and mounts again", async () => {
    const { server, store, subscribed, say } = page({ linger: 5 })
    const reduced: Array<number> = []
    let stop = () => {}
    const reduce = (sum: number, n: number) => {
      reduced.push(n)
      if (n === 2) stop()
      return sum + n
    }
    const collector = Collector.make(store, Numbers, { initial: 0, reduce })
    stop = collector.subscribe(() => {})
    await subscribed(1)
    await say(events("numbers", 1, 1, 2, 3))
    await settle(() => store.connection.getSnapshot().status === "idle")
    const again = collector.subscribe(() => {})
    await subscribed(2)
    expect(server.last.of("subscribe")[0]!.cursor).toBe("e:3")
    await say(events("numbers", 4, 4))
    await settle(() => collector.getSnapshot().value === 10)
    expect(reduced).toEqual([1, 2, 3, 4])
    expect(collector.getSnapshot().status).toBe("live")
    again()
  })

  it("neither misses nor repeats an event when it mounts again within the batch", async () => {
    const { store, subscribed, say, types } = page({ linger: 5 })
    let stop = () => {}
    const reduce = (sum: number, n: number) => {
      if (n === 2) {
        stop()
        stop = collector.subscribe(() => {})
        stop()
        stop = collector.subscribe(() => {})
      }
      return sum + n
    }
    const collector = Collector.make(store, Numbers, { initial: 0, reduce })
    stop = collector.subscribe(() => {})
    await subscribed(1)
    await say(events("numbers", 1, 1, 2, 3))
    await say(events("numbers", 4, 4))
    await settle(() => collector.getSnapshot().value === 10)
    expect(collector.getSnapshot().status).toBe("live")
    expect(types()).toEqual(["hello", "subscribe"])
    stop()
    await settle(() => store.connection.getSnapshot().status === "idle")
  })

  it("keeps its value in a tree that suspends", async () => {
    const { render, say, subscribed, types } = page()
    const data = promised<number>()
    const Suspending = () => {
      const { value } = useChannel(Numbers, { initial: 0, reduce: (sum, n) => sum + n })
      return <p>{use(data.promise) + value}</p>
    }
    const view = await act(async () =>
      render(
        <Suspense fallback="...">
          <Suspending />
        </Suspense>
      )
    )
    expect(view.container.textContent).toBe("...")
    await act(async () => data.resolve(1))
    await subscribed(1)
    await say(events("numbers", 1, 2))
    await settle(() => view.container.textContent === "3")
    expect(types()).toEqual(["hello", "subscribe"])
  })

  it("applies events during a slow transition, and has them all after it", async () => {
    const { render, say, subscribed, types } = page()
    const data = promised<string>()
    const Page = ({ of }: { readonly of: string }) => (of === "b" ? use(data.promise) : "a")
    const App = () => {
      const [of, setOf] = useState("a")
      return (
        <>
          <button onClick={() => startTransition(() => setOf("b"))}>go</button>
          <p>
            <Page of={of} /> <Sum />
          </p>
        </>
      )
    }
    const view = render(<App />)
    const text = () => view.container.querySelector("p")!.textContent
    await subscribed(1)
    await say(events("numbers", 1, 1))
    await settle(() => text() === "a 1")
    await act(async () => view.getByText("go").click())
    await say(events("numbers", 2, 2))
    // React still shows the old page, with the new value.
    await settle(() => text() === "a 3")
    await act(async () => data.resolve("b"))
    await say(events("numbers", 3, 3))
    await settle(() => text() === "b 6")
    expect(types()).toEqual(["hello", "subscribe"])
  })

  it("shows the same value in two components of one channel", async () => {
    const { render, say, subscribed, types } = page()
    const view = render(<Both />)
    await subscribed(1)
    await say(events("numbers", 1, 1, 2))
    await settle(() => view.container.textContent === "3 3 2")
    expect(types()).toEqual(["hello", "subscribe"])
  })
})

describe("useLatest", () => {
  it("shows the last payload, and is stale from a gap until the next event", async () => {
    const { render, say, subscribed } = page()
    const view = render(<Latest />)
    expect(view.container.textContent).toBe("undefined loading")
    await subscribed(1)
    await say(events("numbers", 1, 1, 2))
    await settle(() => view.container.textContent === "2 live")
    await say(gap("f:0"))
    await settle(() => view.container.textContent === "2 stale")
    await say(events("numbers", 3, 3))
    await settle(() => view.container.textContent === "3 live")
  })

  it("begins with the last event that the server still has", async () => {
    const { render, say, server, subscribed } = page()
    const view = render(<Latest />)
    await subscribed(1)
    expect(server.last.of("subscribe")[0]).toMatchObject({ state: true })
    const { cursor } = gap("f:7")
    await say({ type: "state", channel: "numbers", cursor, rows: [41], more: false })
    await settle(() => view.container.textContent === "41 live")
  })
})

describe("a `load` that appears in a later render", () => {
  it("is called once, and its state is shown", async () => {
    const { render, server } = page()
    standsAt(server, seen(11n))
    let reads = 0
    const load = () => ({ _tag: "Snapshot" as const, value: [++reads], cursor: seen(11n) })
    const Show = ({ load }: { readonly load?: Collector.Load<ReadonlyArray<number>> }) => {
      const { status, value } = useChannel(Numbers, {
        initial: [] as ReadonlyArray<number>,
        load,
        reduce: (list, n) => [...list, n]
      })
      return <p>{`${status} ${value}`}</p>
    }
    const view = render(<Show />)
    await settle(() => view.container.textContent === "live ")
    view.again(<Show load={load} />)
    await settle(() => view.container.textContent === "live 1")
    view.again(<Show load={() => load()} />)
    expect(reads).toBe(1)
  })
})
