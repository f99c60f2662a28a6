/** The node that listens to live channels for all, message by message. */
import { describe, expect, it } from "@effect/vitest"
import { LiveBridge } from "../../../src/nats/internal/liveBridge.ts"
import type { Standings } from "../../../src/nats/internal/liveFrames.ts"
import type { Heard } from "../../../src/server/NotificationSource.ts"

describe("A bridge", () => {
  it("answers a node once its link has handed out what the node may have heard before it asked", () => {
    const marks: Array<() => void> = []
    const answers: Array<readonly [node: string, standings: Standings]> = []
    let listening: { hear: (heard: Heard) => void; ready: () => void } | undefined
    const bridge = new LiveBridge({
      b: "1.bridge",
      now: () => 0,
      listen: (_, hear, ready) => {
        listening = { hear, ready }
        return () => undefined
      },
      send: () => undefined,
      answer: (node, standings) => answers.push([node, standings]),
      caughtUp: (then) => void marks.push(then)
    })
    const ask = (n: string, w: boolean) => bridge.ask({ n, b: "1.bridge", k: 1, ch: ["c"], w })
    const numbers = () => answers.map(([node, { s }]) => [node, s["c"]?.[1]])

    ask("early", true)
    listening!.ready()
    // These heard the first notification of another bridge, and ask after it.
    ask("late", true)
    ask("again", false)
    marks.shift()!()
    expect(numbers()).toEqual([["early", 0]])
    listening!.hear("first")
    for (const mark of marks.splice(0)) mark()
    expect(numbers()).toEqual([
      ["early", 0],
      ["late", 1],
      ["again", 1]
    ])
    // What only keeps a channel is answered at once.
    ask("early", false)
    expect(marks).toEqual([])
    expect(numbers().at(-1)).toEqual(["early", 1])
  })
})
