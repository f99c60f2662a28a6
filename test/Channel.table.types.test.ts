/** Which tables compile and which do not: a wrong column is an error at the option that names it. */
import { describe, expectTypeOf, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Channel from "../src/Channel.ts"
import * as PgType from "../src/PgType.ts"

const Message = Schema.Struct({
  id: PgType.int8,
  room_id: Schema.String.pipe(Schema.brand("Room")),
  team: Schema.Int,
  author: Schema.NullOr(Schema.String),
  tags: Schema.Array(Schema.String),
  text: Schema.String
})
type Room = (typeof Message.Type)["room_id"]

class Order extends Schema.Class<Order>("Order")({ id: Schema.Int, status: Schema.String }) {}

const Orders = Channel.table("orders", Order, { key: "id", filter: ["status"], boundary: "id" })
const Rooms = Channel.table("messages", Message, { key: "id", by: "room_id" })
const Both = Channel.table("messages", Message, {
  key: ["id"],
  by: ["team", "author"],
  channel: "chat",
  columns: ["id", "text"]
})

type Update<A> = Channel.Payload<
  Channel.Channel<Schema.Schema.Type<ReturnType<typeof Channel.TableUpdate<A, unknown>>>, false>
>

describe("a table", () => {
  it("types its channel, its payload and its delivery", () => {
    expectTypeOf(Orders.name).toEqualTypeOf<"table_updates_orders">()
    expectTypeOf(Orders.delivery).toEqualTypeOf<"durable">()
    expectTypeOf(Orders.publish).toEqualTypeOf<false>()
    expectTypeOf<Channel.Payload<typeof Orders>>().toEqualTypeOf<Update<Order>>()
    expectTypeOf(
      Channel.table("orders", Order, { key: "id", delivery: "live" }).delivery
    ).toEqualTypeOf<"live">()
    expectTypeOf(Orders.table).toExtend<Channel.Table>()
    expectTypeOf(Orders.table.filter).toExtend<ReadonlyArray<"status">>()
    expectTypeOf<Channel.RowOf<typeof Orders>>().toEqualTypeOf<Order>()
  })

  it("with `by` is a family with a value for each column", () => {
    expectTypeOf<Parameters<typeof Rooms>>().toEqualTypeOf<[Room]>()
    expectTypeOf<Parameters<typeof Both>>().toEqualTypeOf<[number, string]>()
    expectTypeOf(Rooms("lobby" as Room).name).toEqualTypeOf<`table_updates_messages:${string}`>()
    expectTypeOf(Both(1, "ann").name).toEqualTypeOf<`chat:${string}`>()
    expectTypeOf<Channel.Payload<typeof Rooms>>().toEqualTypeOf<Update<typeof Message.Type>>()
    expectTypeOf<Channel.Payload<typeof Both>>().toEqualTypeOf<Update<typeof Message.Type>>()
    expectTypeOf<NonNullable<ReturnType<typeof Rooms.match>>["param"]>().toEqualTypeOf<Room>()
    expectTypeOf<NonNullable<ReturnType<typeof Both.match>>["param"]>().toEqualTypeOf<
      readonly [number, string]
    >()
  })

  it("is a definition of a server and of SQL", () => {
    expectTypeOf([Orders, Rooms, Both]).toExtend<ReadonlyArray<Channel.Definition>>()
    expectTypeOf([Orders, Rooms, Both]).toExtend<ReadonlyArray<Channel.AnyTable>>()
  })

  it("rejects a column that the row does not have, at the option that names it", () => {
    expectTypeOf(() => {
      Channel.table("messages", Message, {
        // @ts-expect-error: there is no such column
        key: "ident"
      })
      Channel.table("messages", Message, {
        key: "id",
        // @ts-expect-error: there is no such column
        by: "room"
      })
      Channel.table("messages", Message, {
        key: "id",
        // @ts-expect-error: at most two columns
        by: ["room_id", "team", "author"]
      })
      Channel.table("messages", Message, {
        key: "id",
        // @ts-expect-error: a list is no part of a name
        by: "tags"
      })
      Channel.table("messages", Message, {
        key: "id",
        // @ts-expect-error: there is no such column
        filter: ["text", "status"]
      })
      Channel.table("messages", Message, {
        key: "id",
        // @ts-expect-error: there is no such column
        boundary: "owner"
      })
      Channel.table("messages", Message, {
        key: "id",
        // @ts-expect-error: there is no such column
        columns: ["id", "body"]
      })
      // @ts-expect-error: a table has a key
      Channel.table("messages", Message, {})
      // @ts-expect-error: a row is a struct or a class
      Channel.table("messages", Schema.String, { key: "id" })
    }).toBeFunction()
  })

  it("rejects routes, filters and a boundary of a live channel", () => {
    expectTypeOf(() => {
      Channel.table("messages", Message, {
        key: "id",
        delivery: "live",
        // @ts-expect-error: only a durable channel has routes
        by: "room_id"
      })
      Channel.table("messages", Message, {
        key: "id",
        delivery: "live",
        // @ts-expect-error: only a durable channel has filters
        filter: "text"
      })
      Channel.table("messages", Message, {
        key: "id",
        delivery: "live",
        // @ts-expect-error: only a durable channel has a boundary
        boundary: ["author"]
      })
    }).toBeFunction()
  })

  it("rejects a value of another type, and too few", () => {
    expectTypeOf(() => {
      // @ts-expect-error: the value is a room
      Rooms(7)
      // @ts-expect-error: the value is not null
      Both(1, null)
      // @ts-expect-error: two columns, two values
      Both(1)
    }).toBeFunction()
  })
})

describe("a filter of a table", () => {
  const Tickets = Channel.table("messages", Message, {
    key: "id",
    by: "room_id",
    filter: ["author", "team"],
    boundary: "text"
  })
  type Where = Channel.Where<typeof Tickets>
  type Boundary = Channel.Boundary<typeof Tickets>

  it("has the columns of `filter`, with one value, a list, or null where the column may be null", () => {
    expectTypeOf<Where>().toEqualTypeOf<{
      readonly author?: string | ReadonlyArray<string> | null
      readonly team?: number | ReadonlyArray<number>
    }>()
    const lobby = Tickets("lobby" as Room)
    expectTypeOf<Channel.Where<typeof lobby>>().toEqualTypeOf<Where>()
    expectTypeOf<Channel.Where<typeof Orders>>().toEqualTypeOf<{
      readonly status?: string | ReadonlyArray<string>
    }>()
  })

  it("that `authorize` adds has also those of `boundary` and `by`", () => {
    expectTypeOf<Boundary>().toEqualTypeOf<{
      readonly author?: string | ReadonlyArray<string> | null
      readonly team?: number | ReadonlyArray<number>
      readonly text?: string | ReadonlyArray<string>
      readonly room_id?: Room | ReadonlyArray<Room>
    }>()
  })

  it("rejects other columns and other values", () => {
    const wheres: Array<Where> = [{ author: null, team: [1, 2] }, {}]
    // @ts-expect-error: no column of the filter
    wheres.push({ text: "a" })
    // @ts-expect-error: the column is a number
    wheres.push({ team: "1" })
    // @ts-expect-error: the column is never null
    wheres.push({ team: null })
    // @ts-expect-error: null stands alone
    wheres.push({ author: ["a", null] })
    const boundaries: Array<Boundary> = [{ text: "a", room_id: "lobby" as Room }]
    // @ts-expect-error: the parameter of a route is branded
    boundaries.push({ room_id: "lobby" })
    // A table without filters has the empty one only.
    const none: Array<Channel.Where<typeof Both>> = [{}]
    // @ts-expect-error: it has no filter
    none.push({ text: "a" })
    expectTypeOf([wheres, boundaries, none]).toBeArray()
  })
})
