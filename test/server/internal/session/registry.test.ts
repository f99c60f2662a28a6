import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Channel from "../../../../src/Channel.ts"
import * as Live from "../../../../src/server/internal/hub/live.ts"
import * as Registry from "../../../../src/server/internal/session/registry.ts"

const hub = { deliveryOf: () => Live.none }

const exact = Channel.make("room_lobby", Schema.String)
const Room = Channel.family("room_", Schema.String, Schema.Unknown)
const Row = Schema.Struct({ id: Schema.Int, room: Schema.String, n: Schema.Int })
const routed = Channel.table("rows", Row, { key: "id", by: "n" })
const prefix = "table_updates_rows:"
const Numbered = Channel.family("n:", Schema.FiniteFromString, Schema.Unknown)

describe("Registry", () => {
  it.effect("the registry finds a channel by name, and a family's member with its parameter", () =>
    Effect.gen(function* () {
      const registry = yield* Registry.make([exact, Room, Numbered], hub)
      expect(registry.match("room_lobby")).toMatchObject({ channel: exact, param: undefined })
      expect(registry.match("room_x")).toMatchObject({ definition: Room, param: "x" })
      expect(registry.match("n:7")).toMatchObject({ definition: Numbered, param: 7 })
    })
  )

  it.effect("the registry finds nothing for a name that no definition matches", () =>
    Effect.gen(function* () {
      const registry = yield* Registry.make([exact, Room, Numbered], hub)
      const names = ["", "room", "room_", "n:seven", "lobby", "__proto__", "constructor"]
      expect(names.map((name) => registry.match(name))).toEqual(names.map(() => undefined))
    })
  )

  it.effect("a family may leave a prefix to another family", () =>
    Effect.gen(function* () {
      const outer = Channel.family("room_", Schema.String, Schema.Unknown, { except: ["big_"] })
      const inner = Channel.family("room_big_", Schema.String, Schema.Unknown)
      const registry = yield* Registry.make([outer, inner], hub)
      expect(registry.match("room_small")).toMatchObject({ definition: outer, param: "small" })
      expect(registry.match("room_big_one")).toMatchObject({ definition: inner, param: "one" })
      expect(outer("big_one").fault).toBeDefined()
    })
  )

  it.effect("a table with routes and allTableUpdates share no name", () =>
    Effect.gen(function* () {
      const registry = yield* Registry.make([Channel.allTableUpdates, routed], hub)
      expect(registry.match(`${prefix}5`)).toMatchObject({ definition: routed, param: 5 })
      expect(registry.match(`${prefix}x`)).toBeUndefined()
      expect(registry.match("table_updates_rows")).toMatchObject({ param: "rows" })
    })
  )

  it.effect.each([
    [[exact, exact], "room_lobby", "room_lobby"],
    [[Room, Channel.family("room_big_", Schema.String, Schema.Unknown)], "room_", "room_big_"],
    [[Room, Channel.family("room_", Schema.String, Schema.Unknown)], "room_", "room_"],
    [[routed, Channel.table("rows", Row, { key: "id", by: ["room", "n"] })], prefix, prefix],
    [[Channel.family("table_", Schema.String, Schema.Unknown), routed], "table_", prefix]
  ] as const)("overlapping definitions are rejected: %#", ([definitions, first, second]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Registry.make(definitions, hub))
      expect(error).toMatchObject({ first, second })
    })
  )
})
