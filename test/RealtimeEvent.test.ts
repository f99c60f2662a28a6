import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { type Event, Gap, match, type RealtimeEvent } from "../src/RealtimeEvent.ts"

const event: Event<number> = {
  _tag: "Event",
  channel: "ticks",
  id: "e:1",
  at: new Date(0),
  payload: 7,
  cursor: "e:1",
  tx: undefined
}
const gap = new Gap({ channel: "ticks", reason: "source", cursor: "f:0" })

describe("RealtimeEvent", () => {
  it("match calls onEvent for an event and onGap for a gap", () => {
    const describeIt = match({
      onEvent: ({ payload }: Event<number>) => ["event", payload] as const,
      onGap: ({ reason }) => ["gap", reason] as const
    })
    const both: ReadonlyArray<RealtimeEvent<number>> = [event, gap]
    expect(both.map(describeIt)).toEqual([
      ["event", 7],
      ["gap", "source"]
    ])
  })

  it.effect("a gap is an error that catchTag catches", () =>
    Effect.gen(function* () {
      const told = yield* Effect.fail(gap).pipe(
        Effect.catchTag("Gap", ({ channel, cursor, reason }) =>
          Effect.succeed({ channel, cursor, reason })
        )
      )
      expect(told).toEqual({ channel: "ticks", cursor: "f:0", reason: "source" })
    })
  )

  it.each(["source", "slow", "retention", "invalid"] as const)(
    "the message of a gap (%s) names the channel, the reason and the cure",
    (reason) => {
      expect(new Gap({ channel: "ticks", reason, cursor: "f:0" }).message).toBe(
        `Events of channel "ticks" may be missing (${reason}). Re-read the state, then go on from here.`
      )
    }
  )
})
