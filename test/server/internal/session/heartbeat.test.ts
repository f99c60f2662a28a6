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

/** Times of a session that opened at `start`, changed to others: those are milliseconds after it. */
const after = (changes: { readonly [Name in keyof Times]?: number } = {}): Times => {
  const later = Object.entries(changes).map(([name, millis]) => [name, start + millis])
  return { ...begin(start), ...Object.fromEntries(later) }
}

describe("a heartbeat", () => {
  const table: ReadonlyArray<readonly [string, Times, SessionNow, number, Action]> = [
    ["waits for hello", after(), fresh, 9999, "nothing"],
    ["closes a session without hello in time", after(), fresh, 10_000, "noHello"],
    [
      "waits as long as the token is checked",
      after(),
      { ...open, phase: "greeting" },
      1e9,
      "nothing"
    ],
    ["is still while the client was heard", after({ received: 1000 }), open, 24_999, "nothing"],
    ["pings a client that is quiet", after({ sent: 20_000 }), open, 25_000, "ping"],
    [
      "pings a client to which nothing was sent",
      after({ received: 24_000, sent: 1 }),
      open,
      25_001,
      "ping"
    ],
    [
      "does not ping again before the answer is due",
      after({ pinged: 25_000, sent: 25_000 }),
      open,
      34_000,
      "nothing"
    ],
    [
      "closes a client that was pinged and is not heard",
      after({ pinged: 25_000, sent: 25_000 }),
      open,
      35_000,
      "nothingHeard"
    ],
    ["pings first when the process slept", after(), open, 3_600_000, "ping"],
    [
      "does not close a client that the server does not read",
      after({ pinged: 25_000, sent: 25_000 }),
      { ...open, paused: true },
      35_000,
      "nothing"
    ],
    [
      "closes a session whose token ended",
      after(),
      { ...open, expiresAt: start + 5000 },
      5000,
      "tokenExpired"
    ],
    [
      "keeps a session whose token has a millisecond left",
      after(),
      { ...open, expiresAt: start + 5001 },
      5000,
      "nothing"
    ],
    ["waits for the answer to a close frame", after({ closing: 1000 }), open, 2999, "nothing"],
    ["cuts a socket that does not close", after({ closing: 1000 }), open, 3000, "cut"],
    [
      "does nothing but wait once it closes",
      after({ closing: 1000 }),
      { ...fresh, expiresAt: 0 },
      2000,
      "nothing"
    ]
  ]
  it.each(table)("%s", (_, times, seen, now, action) => {
    expect(beat(times, seen, limits, start + now).action).toBe(action)
  })

  it("counts the grace from when the peer was seen to close", () => {
    const closing = { ...open, closing: true }
    const first = beat(after(), closing, limits, start + 500)
    expect([first.action, first.times.closing]).toEqual(["nothing", start + 500])
    expect(beat(first.times, closing, limits, start + 2499).action).toBe("nothing")
    expect(beat(first.times, closing, limits, start + 2500).action).toBe("cut")
  })

  it("notes what was written, when it sees it", () => {
    const { times } = beat(after(), { ...open, written: 7 }, limits, start + 20_000)
    expect([times.written, times.sent]).toEqual([7, start + 20_000])
  })

  it("gives the same times where nothing has changed", () => {
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
    "changes nothing that it is given, never lies in the future, and closes only after a ping",
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
          // Whatever the clock did, a client is pinged when it was neither heard nor told in time.
          else expect(now - sent).toBeLessThan(limits.pingInterval)
        }
      }),
    { arbitrary: { runs: 500, seed: 13 } }
  )
})
