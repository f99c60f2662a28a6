/** The bus in memory: the contract, with short times. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { carrierOf, networkKeys } from "../../src/server/internal/bus/memoryCarrier.ts"
import * as MemoryBus from "../../src/server/MemoryBus.ts"
import type { NodeBus } from "../../src/server/NodeBus.ts"
import { until } from "../support/until.ts"
import { suite } from "./support/busSuite.ts"

suite(
  "in memory",
  Effect.sync(() => {
    const network = MemoryBus.network()
    return { carrier: (name) => carrierOf(network, name), keys: networkKeys(network) }
  })
)

describe("MemoryBus", () => {
  it.live("layers of one network hear each other, except where its fault drops the message", () =>
    Effect.gen(function* () {
      let open = false
      const network = MemoryBus.network(({ to }, deliver) =>
        to === "three" && !open ? undefined : deliver()
      )
      const build = (name: string) => MemoryBus.make(network, { name, heartbeatInterval: 20 })
      const [one, , three] = yield* Effect.all([build("one"), build("two"), build("three")])
      const seen = (bus: NodeBus["Service"]) => Effect.runSync(bus.nodes).map(({ name }) => name)
      yield* until(() => seen(one).length === 2)
      expect(seen(one).toSorted()).toEqual(["three", "two"])
      expect(seen(three)).toEqual([])
      open = true
      yield* until(() => seen(three).length === 2)
    }).pipe(Effect.scoped)
  )

  it.effect(
    "a name that is empty, and times that contradict each other, are an InvalidOption",
    () =>
      Effect.gen(function* () {
        const network = MemoryBus.network()
        const fault = (options: MemoryBus.Options) =>
          Effect.map(Effect.flip(MemoryBus.make(network, options)), ({ option }) => option)
        expect(yield* fault({ name: "" })).toBe("name")
        expect(yield* fault({ heartbeatInterval: 0 })).toBe("heartbeatInterval")
        expect(yield* fault({ silentAfter: "2 minutes" })).toBe("forgetAfter")
        const misspelt: object = { heartbeat: 1000 }
        expect(yield* fault(misspelt)).toBe("bus.heartbeat")
        // Its neighbours would be silent before each heartbeat.
        expect(yield* fault({ heartbeatInterval: "1600 millis" })).toBe("silentAfter")
        expect(yield* fault({ batchWindow: "1 minute" })).toBe("batchWindow")
      }).pipe(Effect.scoped)
  )
})
