import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import {
  type Action,
  beat,
  begin,
  type SessionNow,
  type Times
} from "../../../../src/server/internal/session/heartbeat.ts"

const limits = { helloTimeout: 10_000, pingInterval: 25_000, pingTimeout: 10_000 }
const start = 1_000_000
const open: SessionNow = {
  phase: "open",
  closing: false,
  paused: false,
  written: 0,
  expiresAt: Infinity
}
const fresh: SessionNow = { ...open, phase: "new" }

/** Times of a session that opened at `start`, with changes in milliseconds after it. */
const after = (changes: { readonly [Name in keyof Times]?: number } = {}): Times => {
  const later = Object.entries(changes).map(([name, millis]) => [name, start + millis])
  return { ...begin(start), ...Object.fromEntries(later) }
}

describe("The heartbeat of a session", () => {
  const table: ReadonlyArray<readonly [string, Times, SessionNow, number, Action]> = [
    ["waits under 10 s for hello", after(), fresh, 9999, "nothing"],
    ["closes a session that sent no hello in 10 s", after(), fresh, 10_000, "noHello"],
    [
      "waits as long as the token is being checked",
      after(),
      { ...open, phase: "greeting" },
      1e9,
      "nothing"
    ],
    ["does not ping a client heard in 25 s", after({ received: 1000 }), open, 24_999, "nothing"],
    ["pings a client not heard for 25 s", after({ sent: 20_000 }), open, 25_000, "ping"],
    [
      "pings a client to which the server sent nothing for 25 s",
      after({ received: 24_000, sent: 1 }),
      open,
      25_001,
      "ping"
    ],
    [
      "does not ping again while a pong is due",
      after({ pinged: 25_000, sent: 25_000 }),
      open,
      34_000,
      "nothing"
    ],
    [
      "closes a client that did not answer a ping in 10 s",
      after({ pinged: 25_000, sent: 25_000 }),
      open,
      35_000,
      "nothingHeard"
    ],
    ["pings a client first after the process slept", after(), open, 3_600_000, "ping"],
    [
      "does not close a client while its socket is paused",
      after({ pinged: 25_000, sent: 25_000 }),
      { ...open, paused: true },
      35_000,
      "nothing"
    ],
    [
      "closes a session with an expired token",
      after(),
      { ...open, expiresAt: start + 5000 },
      5000,
      "tokenExpired"
    ],
    [
      "keeps a session with a token that expires in 1 ms",
      after(),
      { ...open, expiresAt: start + 5001 },
      5000,
      "nothing"
    ],
    ["waits 2 s for the answer to a close frame", after({ closing: 1000 }), open, 2999, "nothing"],
    ["cuts a socket that answers no close in 2 s", after({ closing: 1000 }), open, 3000, "cut"],
    [
      "only waits while a session closes, although its hello is overdue",
      after({ closing: 1000 }),
      { ...fresh, expiresAt: 0 },
      2000,
      "nothing"
    ]
  ]
  it.each(table)("the server %s", (_, times, seen, now, action) => {
    expect(beat(times, seen, limits, start + now).action).toBe(action)
  })

  it("the 2 s for a close frame's answer count from when the server first sees the peer close", () => {
    const closing = { ...open, closing: true }
    const first = beat(after(), closing, limits, start + 500)
    expect([first.action, first.times.closing]).toEqual(["nothing", start + 500])
    expect(beat(first.times, closing, limits, start + 2499).action).toBe("nothing")
    expect(beat(first.times, closing, limits, start + 2500).action).toBe("cut")
  })

  it("a heartbeat records the time at which it sees new bytes written", () => {
    const { times } = beat(after(), { ...open, written: 7 }, limits, start + 20_000)
    expect([times.written, times.sent]).toEqual([7, start + 20_000])
  })

  it("a heartbeat returns the same times object when nothing has changed", () => {
    const times = after()
    expect(beat(times, open, limits, start + 1000).times).toBe(times)
  })

  const Run = Schema.Struct({
    steps: Schema.Array(
      Schema.Struct({
        pause: Schema.Int.check(Schema.isBetween({ minimum: -60_000, maximum: 60_000 })),
        heard: Schema.Boolean,
        wrote: Schema.Boolean,
        paused: Schema.Boolean
      })
    ).check(Schema.isMaxLength(40))
  })
  it.effect.prop(
    "a heartbeat never changes its input, returns no future time, and closes a client only after a ping",
    { run: Run },
    ({ run: { steps } }) =>
      Effect.sync(() => {
        let times: Times = begin(start)
        let now = start
        let written = 0
        let unanswered = false
        for (const { heard, pause, paused, wrote } of steps) {
          now += pause
          if (heard) {
            times.received = now
            unanswered = false
          }
          if (wrote) written++
          const before = Object.freeze({ ...times })
          const given = beat(before, { ...open, paused, written }, limits, now)
          expect(given).toEqual(beat(before, { ...open, paused, written }, limits, now))
          times = { ...given.times }
          const { pinged, received, sent } = times
          expect(Math.max(received, sent, pinged)).toBeLessThanOrEqual(now)
          if (given.action === "nothingHeard") {
            expect([unanswered, paused]).toEqual([true, false])
            return
          }
          if (given.action === "ping") unanswered = true
          // Whatever the clock does, the server sends a ping or sent something within the interval.
          else expect(now - sent).toBeLessThan(limits.pingInterval)
        }
      }),
    { arbitrary: { runs: 500, seed: 13 } }
  )
})
