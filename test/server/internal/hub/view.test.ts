import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Schema } from "effect"
import * as Channel from "../../../../src/Channel.ts"
import { Batch } from "../../../../src/server/internal/hub/batch.ts"
import { LiveChannel } from "../../../../src/server/internal/hub/liveChannel.ts"
import { Told } from "../../../../src/server/internal/hub/gapCounter.ts"
import { View, type ViewJoin } from "../../../../src/server/internal/hub/view.ts"
import { Budget } from "../../../../src/server/internal/ring.ts"

const Orders = Channel.make("orders", Schema.Int)
const Words = Channel.make("orders", Schema.String)

/** A view, and three sinks that record the tick of each batch. */
const viewed = () => {
  const view = new View<never>(Orders, () => Effect.die("nobody joins"), false)
  const ticks = new Map<object, Array<number>>()
  const sinkOf = () => {
    const seen: Array<number> = []
    const sink = { offer: ({ tick }: Batch) => void seen.push(tick) }
    ticks.set(sink, seen)
    return sink
  }
  const sinks = [sinkOf(), sinkOf(), sinkOf()] as const
  let tick = 0
  return {
    view,
    sinks,
    hand: () => view.hand(new Batch(view, ++tick, "e:0", "e:1", [])),
    seen: () => sinks.map((sink) => ticks.get(sink))
  }
}

describe("View", () => {
  it("a view offers each batch once to each sink, however often the sink subscribed", () => {
    const { hand, seen, sinks, view } = viewed()
    expect(view.subscribed).toBe(false)
    for (const sink of [...sinks, ...sinks]) view.subscribe(sink)
    hand()
    expect(seen()).toEqual([[1], [1], [1]])
    expect(view.subscribed).toBe(true)
  })

  it("a view offers nothing to a sink that unsubscribed, and goes on for the others", () => {
    for (const leaver of [0, 1, 2]) {
      const { hand, seen, sinks, view } = viewed()
      for (const sink of sinks) view.subscribe(sink)
      view.unsubscribe(sinks[leaver]!)
      hand()
      view.subscribe(sinks[leaver]!)
      hand()
      expect(seen()).toEqual([0, 1, 2].map((index) => (index === leaver ? [2] : [1, 2])))
      for (const sink of [...sinks, ...sinks]) view.unsubscribe(sink)
      hand()
      expect([view.subscribed, seen().flat().includes(3)]).toEqual([false, false])
    }
  })

  it("a sink may unsubscribe all sinks while the view offers a batch", () => {
    const { hand, seen, sinks, view } = viewed()
    const leaver = { offer: () => sinks.forEach((sink) => view.unsubscribe(sink)) }
    for (const sink of [leaver, ...sinks]) view.subscribe(sink)
    hand()
    expect(seen()).toEqual([[], [], []])
  })
})

describe("The views of a channel", () => {
  const channel = (events = 9) =>
    new LiveChannel("orders", new Budget({ events, maxAge: 1000, bytes: 1_000_000 }), new Told())

  it("subscribers with the same definition share one view until the last releases it", () => {
    const orders = channel()
    const view = orders.view(Orders)
    expect(orders.view(Orders)).toBe(view)
    orders.release(view)
    expect(orders.view(Orders)).toBe(view)
    orders.release(view)
    orders.release(view)
    expect(orders.view(Orders)).not.toBe(view)
  })

  it.effect("a subscriber that joins during a delivery receives each event exactly once", () =>
    Effect.gen(function* () {
      const orders = channel(1000)
      const view = orders.view(Orders)
      const { cursor: from } = yield* view.join(undefined)
      const joined = Deferred.makeUnsafe<ViewJoin>()
      const offered: Array<Batch> = []
      view.subscribe({
        offer: (batch) => {
          // Runs inside the delivery, as the consumer of a Stream does.
          if (offered.push(batch) === 1) Deferred.doneUnsafe(joined, view.join(from))
        }
      })
      const joining = yield* Effect.forkChild(Deferred.await(joined), { startImmediately: true })
      // Three frames and a gap.
      for (let n = 1; n <= 600; n++) orders.push(n === 300 ? "?" : String(n))
      orders.deliver(0)
      const { replay, tick } = yield* Fiber.join(joining)
      const replayed = (yield* Effect.forEach(replay, ({ open }) => open)).flat()
      const heard = [...replayed, ...offered.filter((batch) => batch.tick > tick)]
      expect(heard.flatMap(({ events }) => events.map(({ payload }) => payload))).toEqual(
        Array.from({ length: 600 }, (_, index) => index + 1).filter((n) => n !== 300)
      )
    })
  )

  it("each view decodes every event by its own schema, and a released view receives nothing", () => {
    for (const released of [0, 1]) {
      const orders = channel()
      const heard: ReadonlyArray<Array<unknown>> = [[], []]
      const views = [Orders, Words].map((definition, index) => {
        const view = orders.view(definition)
        view.subscribe({
          offer: ({ events, gap }) =>
            void heard[index]!.push(gap ?? events.map(({ payload }) => payload))
        })
        return view
      })
      orders.push("1")
      expect(orders.deliver(0)).toHaveLength(1)
      expect(heard).toEqual([[[1]], ["invalid"]])
      orders.release(views[released]!)
      orders.push('"two"')
      orders.deliver(0)
      expect(heard[released]).toHaveLength(1)
      expect(heard[1 - released]).toHaveLength(2)
    }
  })
})
