/**
 * Which calls compile and which do not. `tsc` does the checking: a line under `@ts-expect-error` that
 * compiles is an error of its own. What must not compile stands in functions that nobody calls.
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

/** The client's, with nothing behind it. */
const publish: RealtimeClient.RealtimeClient["Service"]["publish"] = () => Effect.void
const events: RealtimeClient.RealtimeClient["Service"]["events"] = () => Stream.never
const subscribe: RealtimeClient.RealtimeClient["Service"]["subscribe"] = () => Stream.never

describe("a definition", () => {
  it("knows its name, its payload and whether clients may publish", () => {
    expectTypeOf(Moves).toEqualTypeOf<Channel.Channel<Move, true, "moves", "live">>()
    expectTypeOf(Ticks).toEqualTypeOf<Channel.Channel<number, false, "ticks", "live">>()
    expectTypeOf(Notes).toEqualTypeOf<Channel.Family<number, Move, true, "note_", "live">>()
    expectTypeOf(Notes(7)).toEqualTypeOf<Channel.Channel<Move, true, `note_${string}`, "live">>()
    expectTypeOf(Channel.untyped("any")).toEqualTypeOf<
      Channel.Channel<unknown, true, string, "live">
    >()
  })

  it("knows how its events travel", () => {
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

  it("gives its payload type", () => {
    expectTypeOf<Channel.Payload<typeof Moves>>().toEqualTypeOf<Move>()
    expectTypeOf<Channel.Payload<typeof Ticks>>().toEqualTypeOf<number>()
    expectTypeOf<Channel.Payload<ReturnType<typeof Notes>>>().toEqualTypeOf<Move>()
    expectTypeOf<Channel.Payload<typeof Notes>>().toEqualTypeOf<Move>()
    expectTypeOf<Channel.Payload<string>>().toEqualTypeOf<never>()
  })

  it("fits into a list with others", () => {
    expectTypeOf([Moves, Ticks, Notes, Report, Orders]).toExtend<
      ReadonlyArray<Channel.Definition>
    >()
  })

  it("does not take a payload that is no Schema, or options that do not exist", () => {
    expectTypeOf(() => {
      // @ts-expect-error: a payload is a Schema
      Channel.make("a", { x: "number" })
      // @ts-expect-error: there is no such delivery
      Channel.make("a", Move, { delivery: "durably" })
      // @ts-expect-error: an option is spelled wrongly
      Channel.make("a", Move, { published: true })
      // @ts-expect-error: the parameter of a family must encode to text
      Channel.family("a_", Schema.Finite, Move)
    }).toBeFunction()
  })

  it("cannot be changed", () => {
    expectTypeOf(() => {
      // @ts-expect-error: read-only
      Moves.publish = false
    }).toBeFunction()
  })
})

describe("the codec of a channel", () => {
  it("is typed in both directions", () => {
    expectTypeOf(Moves.decode).toEqualTypeOf<
      (json: unknown) => Result.Result<Move, InvalidPayload>
    >()
    expectTypeOf(Moves.encode).toEqualTypeOf<
      (payload: Move) => Result.Result<unknown, InvalidPayload>
    >()
  })

  it("does not take another payload", () => {
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
  it("does not take a parameter of another type, or none", () => {
    expectTypeOf(() => {
      // @ts-expect-error: the parameter is a number
      Notes("7")
      // @ts-expect-error: a parameter is needed
      Notes()
      // @ts-expect-error: query ids are text
      Report(42)
    }).toBeFunction()
  })

  it("gives the parameter of a name back with its type", () => {
    expectTypeOf(Notes.match("note_7")).toEqualTypeOf<
      | {
          readonly channel: Channel.Channel<Move, true, `note_${string}`, "live">
          readonly param: number
        }
      | undefined
    >()
  })

  it("is not a channel itself", () => {
    expectTypeOf(() => {
      // @ts-expect-error: a family is called first
      subscribe(Notes)
    }).toBeFunction()
  })
})

describe("a client", () => {
  it("publishes the payload of a channel that lets it", () => {
    expectTypeOf(publish(Moves, move)).toExtend<Effect.Effect<void, unknown>>()
    expectTypeOf(publish(Notes(7), move)).toExtend<Effect.Effect<void, unknown>>()
    expectTypeOf(publish(Channel.untyped("any"), { any: "thing" })).toExtend<
      Effect.Effect<void, unknown>
    >()
  })

  it("does not publish another payload", () => {
    expectTypeOf(() => {
      // @ts-expect-error: x is a number
      publish(Moves, { x: "1", at: new Date(0) })
      // @ts-expect-error: there is no y
      publish(Moves, { ...move, y: 1 })
      // @ts-expect-error: a payload is needed
      publish(Moves)
    }).toBeFunction()
  })

  it("does not publish to a channel that is read-only", () => {
    expectTypeOf(() => {
      // @ts-expect-error: clients only read it
      publish(Ticks, 1)
      // @ts-expect-error: clients only read it
      publish(Orders, { operation: "INSERT", data: move })
      // @ts-expect-error: clients only read it
      publish(Report("42"), { status: "completed", data: [move] })
      // @ts-expect-error: clients only read it
      publish(Channel.systemNotifications, { type: "info", message: "a" })
      // @ts-expect-error: whether clients may publish is not known
      publish(Moves as Channel.Channel<Move>, move)
    }).toBeFunction()
  })

  it("receives what the channel carries", () => {
    expectTypeOf(subscribe(Moves)).toExtend<Stream.Stream<Move, unknown>>()
    expectTypeOf<Stream.Success<ReturnType<typeof subscribe<Move>>>>().toEqualTypeOf<Move>()
    const received = events(Notes(7))
    expectTypeOf<Stream.Success<typeof received>>().toEqualTypeOf<RealtimeEvent<Move>>()
  })
})

describe("the three known kinds", () => {
  it("query_results has a status, data and an error", () => {
    expectTypeOf<Channel.Payload<ReturnType<typeof Report>>>().toEqualTypeOf<{
      readonly status: "completed" | "error"
      readonly data?: ReadonlyArray<Move>
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

  it("does not take a status, an operation or a type that does not exist", () => {
    expectTypeOf(() => {
      // @ts-expect-error: there is no status "running"
      Report("42").encode({ status: "running" })
      // @ts-expect-error: there is no operation "TRUNCATE"
      Orders.encode({ operation: "TRUNCATE", data: move })
      // @ts-expect-error: there is no type "debug"
      Channel.systemNotifications.encode({ type: "debug", message: "a" })
      // @ts-expect-error: a message is needed
      Channel.systemNotifications.encode({ type: "info" })
    }).toBeFunction()
  })
})
