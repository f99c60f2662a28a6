/**
 * Which calls compile and which do not. `tsc` reports a line under `@ts-expect-error` that compiles.
 * Calls that must not compile stand in functions that no test calls.
 */
import { describe, expectTypeOf, it } from "@effect/vitest"
import { Effect, type Result, Schema, Stream } from "effect"
import * as Channel from "../src/Channel.ts"
import type * as RealtimeClient from "../src/client/RealtimeClient.ts"
import type { InvalidPayload } from "../src/RealtimeError.ts"
import type { RealtimeEvent } from "../src/RealtimeEvent.ts"

const Move = Schema.Struct({ x: Schema.Finite, at: Schema.Date })
interface Move {
  readonly x: number
  readonly at: Date
}
const move: Move = { x: 1, at: new Date(0) }

const Moves = Channel.make("moves", Move, { publish: true })
const Ticks = Channel.make("ticks", Schema.Finite)
const Notes = Channel.family("note_", Schema.FiniteFromString, Move, { publish: true })
const Report = Channel.queryResults(Schema.Array(Move))
const Orders = Channel.tableUpdates("orders", Move)

/** The client's functions, without a client behind them. */
const publish: RealtimeClient.RealtimeClient["Service"]["publish"] = () => Effect.never
const events: RealtimeClient.RealtimeClient["Service"]["events"] = () => Stream.never
const subscribe: RealtimeClient.RealtimeClient["Service"]["subscribe"] = () => Stream.never

describe("a definition", () => {
  it("types its name, its payload and whether clients may publish", () => {
    expectTypeOf(Moves).toEqualTypeOf<Channel.Channel<Move, true, "moves", "live">>()
    expectTypeOf(Ticks).toEqualTypeOf<Channel.Channel<number, false, "ticks", "live">>()
    expectTypeOf(Notes).toEqualTypeOf<Channel.Family<number, Move, true, "note_", "live">>()
    expectTypeOf(Notes(7)).toEqualTypeOf<Channel.Channel<Move, true, `note_${string}`, "live">>()
    expectTypeOf(Channel.untyped("any")).toEqualTypeOf<
      Channel.Channel<unknown, true, string, "live">
    >()
  })

  it("types its delivery", () => {
    const durable = { delivery: "durable" } as const
    expectTypeOf(Channel.make("a", Move, durable).delivery).toEqualTypeOf<"durable">()
    expectTypeOf(
      Channel.family("a_", Schema.String, Move, durable)("b").delivery
    ).toEqualTypeOf<"durable">()
    expectTypeOf(Channel.queryResults(Move, durable)("1").delivery).toEqualTypeOf<"durable">()
    expectTypeOf(Channel.tableUpdates("orders", Move, durable).delivery).toEqualTypeOf<"durable">()
    expectTypeOf(Channel.tableUpdates("orders", Move).delivery).toEqualTypeOf<"live">()
    const either = Channel.make("a", Move, { delivery: "live" as Channel.Delivery })
    expectTypeOf(either.delivery).toEqualTypeOf<Channel.Delivery>()
  })

  it("types a volatile delivery, with a field of its JSON that the newest counts by", () => {
    const pointer = { delivery: "volatile", publish: true, latestBy: "x" } as const
    const Pointers = Channel.make("pointers", Move, pointer)
    expectTypeOf(Pointers).toEqualTypeOf<Channel.Channel<Move, true, "pointers", "volatile">>()
    expectTypeOf(
      Channel.family("pointers_", Schema.String, Move, pointer)("a").delivery
    ).toEqualTypeOf<"volatile">()
    const Renamed = Move.pipe(Schema.encodeKeys({ at: "time" }))
    expectTypeOf(() => {
      Channel.make("a", Renamed, { delivery: "volatile", latestBy: "time" })
      // @ts-expect-error: the name in the JSON is another one
      Channel.make("a", Renamed, { delivery: "volatile", latestBy: "at" })
      // @ts-expect-error: the payload has no such field
      Channel.make("a", Move, { delivery: "volatile", latestBy: "y" })
      // @ts-expect-error: a live channel delivers every event
      Channel.make("a", Move, { latestBy: "x" })
      // @ts-expect-error: a durable channel delivers every event
      Channel.make("a", Move, { delivery: "durable", latestBy: "x" })
      // @ts-expect-error: a trigger writes no volatile events
      Channel.tableUpdates("orders", Move, { delivery: "volatile" })
      // @ts-expect-error: the payload has no such field
      Channel.family("a_", Schema.String, Move, { delivery: "volatile", latestBy: "y" })
    }).toBeFunction()
  })

  it("types what a publish gives: on a volatile channel whether it was dropped", () => {
    const Pointers = Channel.make("pointers", Move, { delivery: "volatile", publish: true })
    const given = publish(Pointers, move)
    expectTypeOf<Effect.Success<typeof given>>().toEqualTypeOf<"published" | "dropped">()
    const others = publish(Moves, move)
    expectTypeOf<Effect.Success<typeof others>>().toEqualTypeOf<void>()
  })

  it("exposes its payload type", () => {
    expectTypeOf<Channel.Payload<typeof Moves>>().toEqualTypeOf<Move>()
    expectTypeOf<Channel.Payload<typeof Ticks>>().toEqualTypeOf<number>()
    expectTypeOf<Channel.Payload<ReturnType<typeof Notes>>>().toEqualTypeOf<Move>()
    expectTypeOf<Channel.Payload<typeof Notes>>().toEqualTypeOf<Move>()
    expectTypeOf<Channel.Payload<string>>().toEqualTypeOf<unknown>()
    expectTypeOf<Channel.Payload<number>>().toEqualTypeOf<never>()
  })

  it("is assignable to a list of channels", () => {
    expectTypeOf([Moves, Ticks, Notes, Report, Orders]).toExtend<
      ReadonlyArray<Channel.Definition>
    >()
  })

  it("accepts only a Schema as payload, and only known options", () => {
    expectTypeOf(() => {
      // @ts-expect-error: a payload is a Schema
      Channel.make("a", { x: "number" })
      // @ts-expect-error: the delivery does not exist
      Channel.make("a", Move, { delivery: "durably" })
      // @ts-expect-error: the option does not exist
      Channel.make("a", Move, { published: true })
      // @ts-expect-error: the parameter of a family must encode to text
      Channel.family("a_", Schema.Finite, Move)
    }).toBeFunction()
  })

  it("is read-only", () => {
    expectTypeOf(() => {
      // @ts-expect-error: read-only
      Moves.publish = false
    }).toBeFunction()
  })
})

describe("the codec of a channel", () => {
  it("types decode and encode", () => {
    expectTypeOf(Moves.decode).toEqualTypeOf<
      (json: unknown) => Result.Result<Move, InvalidPayload>
    >()
    expectTypeOf(Moves.encode).toEqualTypeOf<
      (payload: Move) => Result.Result<unknown, InvalidPayload>
    >()
  })

  it("accepts only its own payload", () => {
    expectTypeOf(() => {
      // @ts-expect-error: x is a number
      Moves.encode({ x: "1", at: new Date(0) })
      // @ts-expect-error: `at` is missing
      Channel.toJson(Moves, { x: 1 })
      // @ts-expect-error: `at` is a Date here; text is its form on the wire
      Channel.toJson(Moves, { x: 1, at: "1970-01-01T00:00:00.000Z" })
    }).toBeFunction()
  })
})

describe("a family", () => {
  it("requires a parameter of its type", () => {
    expectTypeOf(() => {
      // @ts-expect-error: the parameter is a number
      Notes("7")
      // @ts-expect-error: a parameter is needed
      Notes()
      // @ts-expect-error: query ids are text
      Report(42)
    }).toBeFunction()
  })

  it("returns the parameter of a name with its type", () => {
    expectTypeOf(Notes.match("note_7")).toEqualTypeOf<
      | {
          readonly channel: Channel.Channel<Move, true, `note_${string}`, "live">
          readonly param: number
        }
      | undefined
    >()
  })

  it("is not a channel until it is called", () => {
    expectTypeOf(() => {
      // @ts-expect-error: a family is called first
      subscribe(Notes)
    }).toBeFunction()
  })
})

describe("a client", () => {
  it("publishes the payload of a channel that allows clients to publish", () => {
    expectTypeOf(publish(Moves, move)).toExtend<Effect.Effect<void, unknown>>()
    expectTypeOf(publish(Notes(7), move)).toExtend<Effect.Effect<void, unknown>>()
    expectTypeOf(publish(Channel.untyped("any"), { any: "thing" })).toExtend<
      Effect.Effect<void, unknown>
    >()
  })

  it("publishes only the payload of the channel", () => {
    expectTypeOf(() => {
      // @ts-expect-error: x is a number
      publish(Moves, { x: "1", at: new Date(0) })
      // @ts-expect-error: y does not exist
      publish(Moves, { ...move, y: 1 })
      // @ts-expect-error: a payload is needed
      publish(Moves)
    }).toBeFunction()
  })

  it("does not publish to a read-only channel", () => {
    expectTypeOf(() => {
      // @ts-expect-error: the channel is read-only for clients
      publish(Ticks, 1)
      // @ts-expect-error: the channel is read-only for clients
      publish(Orders, { operation: "INSERT", data: move })
      // @ts-expect-error: the channel is read-only for clients
      publish(Report("42"), { status: "completed", data: [move] })
      // @ts-expect-error: the channel is read-only for clients
      publish(Channel.systemNotifications, { type: "info", message: "a" })
      // @ts-expect-error: the type does not say whether clients may publish
      publish(Moves as Channel.Channel<Move>, move)
    }).toBeFunction()
  })

  it("receives the payload of the channel", () => {
    expectTypeOf(subscribe(Moves)).toExtend<Stream.Stream<Move, unknown>>()
    expectTypeOf<Stream.Success<ReturnType<typeof subscribe<Move>>>>().toEqualTypeOf<Move>()
    const received = events(Notes(7))
    expectTypeOf<Stream.Success<typeof received>>().toEqualTypeOf<RealtimeEvent<Move>>()
  })
})

describe("the three known kinds", () => {
  it("query_results has a status, data and an error", () => {
    expectTypeOf<Channel.Payload<ReturnType<typeof Report>>>().toEqualTypeOf<{
      readonly status: "completed" | "error" | "running" | "stopped" | "stop"
      readonly data?: ReadonlyArray<Move>
      readonly chunk?: ReadonlyArray<Move>
      readonly error?: unknown
    }>()
    expectTypeOf(Report("42").name).toEqualTypeOf<`query_results_${string}`>()
  })

  it("table_updates has an operation and a row", () => {
    expectTypeOf<Channel.Payload<typeof Orders>>().toEqualTypeOf<{
      readonly operation: "INSERT" | "UPDATE" | "DELETE"
      readonly data: Move
      readonly old?: Move
      readonly key?: { readonly [column: string]: unknown }
      readonly truncated?: boolean
    }>()
    expectTypeOf(Orders.name).toEqualTypeOf<"table_updates_orders">()
    expectTypeOf(
      Channel.tableUpdates("a table", Move, { channel: "other" }).name
    ).toEqualTypeOf<"other">()
  })

  it("system_notifications has a type and a message", () => {
    expectTypeOf(Channel.systemNotifications).toEqualTypeOf<
      Channel.Channel<
        { readonly type: "info" | "warning" | "error"; readonly message: string },
        false,
        "system_notifications",
        "live"
      >
    >()
  })

  it("accepts only the statuses, operations and types of the protocol", () => {
    expectTypeOf(() => {
      // @ts-expect-error: the status "paused" does not exist
      Report("42").encode({ status: "paused" })
      // @ts-expect-error: the operation "TRUNCATE" does not exist
      Orders.encode({ operation: "TRUNCATE", data: move })
      // @ts-expect-error: the type "debug" does not exist
      Channel.systemNotifications.encode({ type: "debug", message: "a" })
      // @ts-expect-error: a message is needed
      Channel.systemNotifications.encode({ type: "info" })
    }).toBeFunction()
  })
})
