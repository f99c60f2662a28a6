import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Channel from "../../../../src/Channel.ts"
import { Told } from "../../../../src/server/internal/hub/gapCounter.ts"
import { VolatileChannel } from "../../../../src/server/internal/hub/volatileChannel.ts"

const Pointer = Schema.Struct({ user: Schema.String, x: Schema.Int })
const Pointers = Channel.make("pointers", Pointer, { delivery: "volatile", latestBy: "user" })

const opened = () => {
  const channel = new VolatileChannel("pointers", new Told())
  let seen: Array<number> = []
  channel.view(Pointers).subscribe({
    offer: ({ events }) => {
      for (const { payload } of events) seen.push((payload as typeof Pointer.Type).x)
    }
  })
  /** What a subscriber has of so many events that arrive in one turn. */
  const turn = (count: number, userOf: (x: number) => string) => {
    for (let x = 0; x < count; x++) {
      const json = JSON.stringify({ user: userOf(x), x })
      expect(channel.push({ id: `e:${x}`, at: 0, publisher: "", json })).toBe(x === 0)
    }
    seen = []
    channel.deliver()
    return seen
  }
  return { channel, turn }
}

describe("A volatile channel that receives more in one turn than it keeps", () => {
  it("hands on all of less, in order", () => {
    const { channel, turn } = opened()
    expect(turn(4096, (x) => `${x % 2}`)).toHaveLength(4096)
    expect(channel.takeDropped()).toBe(0)
  })

  it("hands on the newest event of each key, and those behind", () => {
    const { channel, turn } = opened()
    expect(turn(4100, (x) => `${x % 2}`)).toEqual([4095, 4096, 4097, 4098, 4099])
    expect(channel.takeDropped()).toBe(0)
  })

  it("drops the oldest keys beyond its bound, and counts them", () => {
    const { channel, turn } = opened()
    for (let round = 0; round < 2; round++) {
      const seen = turn(20_000, String)
      expect(seen.length).toBeLessThanOrEqual(4096)
      expect(seen.at(-1)).toBe(19_999)
      expect(channel.takeDropped()).toBe(20_000 - seen.length)
      expect(channel.takeDropped()).toBe(0)
    }
  })

  it("bounds the bytes as well", () => {
    const { channel, turn } = opened()
    const long = "u".repeat(400_000)
    const seen = turn(30, (x) => `${x}${long}`)
    expect(seen.length).toBeLessThanOrEqual(10)
    expect(seen.at(-1)).toBe(29)
    expect(channel.takeDropped()).toBe(30 - seen.length)
  })
})
