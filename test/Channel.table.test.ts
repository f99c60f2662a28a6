/** The definition of a table: its names, its routes, and what SQL and the server read of it. */
import { describe, expect, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as Channel from "../src/Channel.ts"
import * as PgType from "../src/PgType.ts"
import { InvalidChannelName } from "../src/RealtimeError.ts"

const Message = Schema.Struct({
  id: Schema.Int,
  room_id: Schema.NullOr(Schema.String),
  team: PgType.int8,
  open: Schema.Boolean
})
const Messages = Channel.table("messages", Message, { key: "id", by: "room_id" })
const Tickets = Channel.table("tickets", Message, { key: ["id"], by: ["team", "open"] })

const thrown = (body: () => unknown) => {
  try {
    body()
  } catch (error) {
    return error
  }
  return undefined
}

describe("Channel.table", () => {
  it("a table without routes is a durable channel of its updates", () => {
    const Orders = Channel.table("orders", Message, { key: "id", filter: ["open"] })
    expect(Orders).toMatchObject({
      _tag: "Channel",
      name: "table_updates_orders",
      delivery: "durable",
      publish: false,
      fault: undefined,
      table: {
        name: "orders",
        schema: "public",
        channel: "table_updates_orders",
        key: ["id"],
        by: [],
        filter: ["open"],
        boundary: [],
        columns: undefined
      }
    })
    const row = { id: 1, room_id: null, team: 7, open: true }
    expect(
      Result.getOrThrow(Orders.decode({ operation: "INSERT", data: row, key: { id: 1 } }))
    ).toEqual({ operation: "INSERT", data: { ...row, team: 7n }, key: { id: 1 } })
  })

  it("a table keeps what its options name", () => {
    const Sales = Channel.table("orders", Message, {
      key: "id",
      schema: "sales",
      channel: "sales",
      delivery: "live",
      columns: ["id", "open"]
    })
    expect(Sales).toMatchObject({ name: "sales", delivery: "live" })
    expect(Sales.table).toMatchObject({
      schema: "sales",
      channel: "sales",
      columns: ["id", "open"]
    })
  })

  it("a route has the table's channel, a colon and the values", () => {
    expect(Messages("lobby").name).toBe("table_updates_messages:lobby")
    expect(Messages("lobby").fault).toBeUndefined()
    expect(Messages("lobby").table).toBe(Messages.table)
    expect(Tickets(9_007_199_254_740_993n, true).name).toBe(
      "table_updates_tickets:9007199254740993:true"
    )
    expect(Messages.match("table_updates_messages:lobby")).toMatchObject({
      channel: { name: "table_updates_messages:lobby", codec: Messages("hall").codec },
      param: "lobby"
    })
    expect(Tickets.match("table_updates_tickets:9007199254740993:true")?.param).toEqual([
      9_007_199_254_740_993n,
      true
    ])
    expect(Tickets.match("table_updates_tickets:12:false")?.param).toEqual([12n, false])
  })

  it.each(["", "a b", "a:b", "ü", "a\n", "x".repeat(41)])(
    "the route of %j fails at its use",
    (value) => {
      expect(Messages(value).fault).toBeInstanceOf(InvalidChannelName)
    }
  )

  it("a route's name is at most 63 bytes long", () => {
    expect(Messages("x".repeat(40)).fault).toBeUndefined()
    expect(Messages("x".repeat(40)).name).toHaveLength(63)
  })

  it.each([
    "table_updates_messages",
    "table_updates_messages:",
    "table_updates_messages:a:b",
    "table_updates_tickets:07:true",
    "table_updates_tickets:7:yes",
    "table_updates_tickets:7"
  ])("%s is the name of no route", (name) => {
    expect(Messages.match(name)).toBeUndefined()
    expect(Tickets.match(name)).toBeUndefined()
  })

  it("a table's channel holds no colon", () => {
    const channel = "a:b"
    expect(thrown(() => Channel.table("a", Message, { key: "id", channel }))).toBeInstanceOf(
      InvalidChannelName
    )
    expect(thrown(() => Channel.table("a table", Message, { key: "id" }))).toBeInstanceOf(
      InvalidChannelName
    )
  })

  it("allTableUpdates leaves out names with a colon", () => {
    expect(Channel.allTableUpdates.match("table_updates_messages")).toBeDefined()
    expect(Channel.allTableUpdates.match("table_updates_messages:lobby")).toBeUndefined()
    expect(Channel.allTableUpdates("messages:lobby").fault).toBeInstanceOf(InvalidChannelName)
  })
})

describe("a filter of a table", () => {
  const Ticket = Schema.Struct({
    id: PgType.int8,
    status: Schema.Literals(["new", "packed"]),
    owner: Schema.NullOr(Schema.String),
    day: PgType.date,
    opened: Schema.Date,
    tags: Schema.Array(Schema.String),
    tenant: Schema.String
  })
  const Tickets = Channel.table("tickets", Ticket, {
    key: "id",
    by: "status",
    filter: ["id", "owner", "day", "opened", "tags"],
    boundary: "tenant"
  })
  const { table } = Tickets
  const wire = (where: Channel.Where<typeof Tickets>) =>
    JSON.stringify(Result.getOrThrow(table.where("tickets", where)))

  it("is encoded by the Schemas of its columns, in one spelling", () => {
    expect(wire({ owner: "b", id: 9_007_199_254_740_993n })).toBe(
      '{"id":"9007199254740993","owner":"b"}'
    )
    expect(wire({ owner: ["b", "a", "b"], id: [10n, 9n] })).toBe('{"id":[10,9],"owner":["a","b"]}')
    expect(wire({ owner: ["a"] })).toBe(wire({ owner: "a" }))
    expect(wire({ owner: null })).toBe('{"owner":null}')
    expect(wire({ owner: [] })).toBe('{"owner":[]}')
    expect(wire({ day: "2026-11-29" })).toBe('{"day":"2026-11-29"}')
    expect(wire({ opened: new Date(0) })).toBe('{"opened":"1970-01-01T00:00:00.000Z"}')
    expect(wire({})).toBeUndefined()
    expect(Result.getOrThrow(table.where("tickets", undefined))).toBeUndefined()
  })

  it.each([
    [{ tenant: "a" }, "tenant", "is no column by which the definition filters"],
    [{ id: 1 }, "id", "bigint"],
    [{ owner: undefined }, "owner", "is undefined: leave the column out instead"],
    [{ owner: ["a", null] }, "owner", "null alone"],
    [{ tags: [["a"]] }, "tags", "a list of these"],
    [JSON.parse('{"__proto__":"a"}'), "__proto__", "is no column"]
  ])("%j has no rows", (where, column, issue) => {
    const error = Result.merge(table.where("tickets", where))
    expect(error).toMatchObject({ _tag: "InvalidWhere", channel: "tickets", column })
    expect((error as Error).message).toContain(issue)
  })

  it("of `authorize` may also use the columns of `boundary` and `by`", () => {
    expect(Result.getOrThrow(table.within("tickets", { tenant: "a", status: "new" }))).toEqual({
      status: "new",
      tenant: "a"
    })
  })

  it("rejects a definition whose columns leave out the key", () => {
    const error = thrown(() => Channel.table("tickets", Ticket, { key: "id", columns: ["owner"] }))
    expect(error).toMatchObject({ _tag: "InvalidTable", table: "tickets" })
    expect((error as Error).message).toContain('its key "id"')
  })
})
