import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Unanswered } from "../../../../src/server/internal/session/unanswered.ts"

const limits = { maxUnanswered: 3, maxUnansweredBytes: 100 }

describe("Unanswered requests", () => {
  it("an id is taken until its request is answered, and free then", () => {
    const unanswered = new Unanswered<string>(limits)
    expect([unanswered.begin(1, 10), unanswered.begin(1, 10)]).toEqual(["begun", "idTaken"])
    expect([unanswered.has(1), unanswered.has(2)]).toEqual([true, false])
    expect([unanswered.end(1), unanswered.end(1), unanswered.end(2)]).toEqual([true, false, false])
    expect(unanswered.begin(1, 10)).toBe("begun")
  })

  it("a request beyond the limit of unanswered requests is rejected", () => {
    const unanswered = new Unanswered<string>(limits)
    expect([1, 2, 3, 4].map((id) => unanswered.begin(id, 0))).toEqual([
      "begun",
      "begun",
      "begun",
      "tooMany"
    ])
  })

  it("unanswered requests and early frames count towards one limit of bytes", () => {
    const unanswered = new Unanswered<string>(limits)
    unanswered.begin(1, 60)
    unanswered.holdEarly()
    expect([unanswered.keepEarly("a", 40), unanswered.isFull]).toEqual([true, false])
    expect([unanswered.keepEarly("b", 1), unanswered.isFull]).toEqual([true, true])
    unanswered.end(1)
    expect(unanswered.isFull).toBe(false)
  })

  it("early frames are returned in order, and count no more", () => {
    const unanswered = new Unanswered<string>(limits)
    expect(unanswered.isEarly).toBe(false)
    unanswered.holdEarly()
    expect(unanswered.isEarly).toBe(true)
    expect(["a", "b", "c", "d"].map((frame) => unanswered.keepEarly(frame, 50))).toEqual([
      true,
      true,
      true,
      false
    ])
    expect(unanswered.takeEarly().map(({ frame }) => frame)).toEqual(["a", "b", "c", "d"])
    expect([unanswered.isEarly, unanswered.isFull]).toEqual([false, false])
  })

  const Asked = Schema.Array(
    Schema.Struct({
      id: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5 })),
      size: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 })),
      answer: Schema.Boolean
    })
  )
  it.effect.prop(
    "the unanswered bytes are the sum of all requests that wait",
    { asked: Asked },
    ({ asked }) =>
      Effect.sync(() => {
        const unanswered = new Unanswered<string>({ maxUnanswered: 100, maxUnansweredBytes: 100 })
        const open = new Map<number, number>()
        for (const { answer, id, size } of asked) {
          if (answer) expect(unanswered.end(id)).toBe(open.delete(id))
          else if (unanswered.begin(id, size) === "begun") open.set(id, size)
          expect(unanswered.isFull).toBe([...open.values()].reduce((a, b) => a + b, 0) > 100)
        }
      }),
    { arbitrary: { runs: 300, seed: 14 } }
  )
})
