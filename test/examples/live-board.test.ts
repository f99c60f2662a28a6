/** Tests `npm start` without a browser. */
import { Effect, Exit, Scope } from "effect"
import { spawnSync } from "node:child_process"
import { existsSync, writeFileSync } from "node:fs"
import { createServer, type Server } from "node:net"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { ownServer } from "../support/cluster.ts"
import {
  api,
  dataDirectory,
  type LiveBoard,
  post,
  runSql,
  sql,
  startLiveBoard
} from "./liveBoard.ts"
import { openWire, type Wire } from "./wire.ts"

/** PostgreSQL's error for a statement. */
const objection = (url: string, statement: string) =>
  Effect.runPromise(
    Effect.map(Effect.flip(runSql(url, statement)), ({ reason }) => String(reason.cause))
  )

/** Whether the process runs. A zombie, which waits for its parent, does not. */
const isRunning = (pid: number) =>
  /^[^Z]/.test(
    spawnSync("ps", ["-o", "stat=", "-p", String(pid)])
      .stdout.toString()
      .trim()
  )

const insert = (customer: string) =>
  `insert into orders (customer, item) values ('${customer}', 'Tea') returning id`

const as = (url: string, user: string) => {
  const changed = new URL(url)
  changed.username = user
  return changed.href
}

const users = async (url: string) => {
  const rows = await sql(
    url,
    `select distinct usename::text as name from pg_stat_activity
     where datname = current_database() and application_name <> 'test'`
  )
  return rows.map((row) => row["name"])
}

const update = (operation: string, row: object) =>
  expect.objectContaining({ operation, data: expect.objectContaining(row) as unknown })

/** The rows in the events of a table. */
const rows = (data: ReadonlyArray<unknown>) =>
  data.map((event) => (event as { readonly data: Readonly<Record<string, unknown>> }).data)

/** The answer to a request for a report. */
interface Started {
  readonly channel: string
  readonly cursor: string
}

/** The orders as the page gets them. */
const orders = async (board: LiveBoard) => {
  const wire = await openWire(board.url)
  const rows = await wire.rows("table_updates_orders")
  wire.close()
  return rows
}

/** Ends every database session of the app, and rejects new ones until the statements have run. */
const lockOut = (url: string, ...statements: ReadonlyArray<string>) =>
  sql(
    url,
    "alter role live_board nologin",
    "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'live_board'",
    ...statements,
    "alter role live_board login"
  )

/**
 * Checks that clients recover from an outage by themselves: subscribers of a live channel receive a gap,
 * subscribers of a durable channel receive every event once, the row of the outage included.
 */
const expectHealed = async (wire: Wire, url: string) => {
  await wire.frame(({ source, type }) => type === "status" && source === "down", "source down")
  await wire.frame(({ source, type }) => type === "status" && source === "up", "source up")
  const gap = await wire.frame(({ type }) => type === "gap", "gap")
  expect(gap).toMatchObject({ channel: "system_notifications", reason: "source" })
  await sql(
    url,
    insert("After"),
    `select pg_notify('system_notifications', '{"type":"info","message":"after"}')`
  )
  const changes = await wire.received("table_updates_orders", 2)
  expect(rows(changes).map(({ customer }) => customer)).toEqual(["During", "After"])
  expect(wire.all("gap", "table_updates_orders")).toEqual([])
  await wire.frame(
    (frame) => JSON.stringify(frame).includes(`{"type":"info","message":"after"}`),
    "a notice after the outage"
  )
  expect(wire.all("gap", "system_notifications")).toHaveLength(1)
}

/** Sends a signal, and expects that the board and its own server end within 3 s. */
const expectEnd = async (board: LiveBoard, signal: "SIGINT" | "SIGTERM") => {
  const wire = await connect(board)
  await wire.subscribe("table_updates_orders")
  const [row] = await sql(
    board.database,
    "select split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::integer as pid"
  )
  const socketDirectory = decodeURIComponent(new URL(board.database).hostname)
  const { code, millis } = await board.end(signal)
  expect(millis).toBeLessThan(3000)
  expect(code).toBe(signal === "SIGTERM" ? 143 : 130)
  expect(isRunning(row!["pid"] as number)).toBe(false)
  expect(existsSync(socketDirectory)).toBe(false)
  await wire.frame(({ type }) => type === "bye", "bye")
}

const wires: Array<Wire> = []
const connect = async (board: LiveBoard) => {
  const wire = await openWire(board.url)
  wires.push(wire)
  return wire
}

const boards: Array<Promise<LiveBoard>> = []
/** Starts early, because a server takes a second to start. */
const start = (env: Readonly<Record<string, string | undefined>>) => {
  const board = startLiveBoard(env)
  board.catch(() => undefined)
  boards.push(board)
  return board
}

/** Occupies a port, unless another process has it. */
const occupy = (port: number) =>
  new Promise<Server>((resolve) => {
    const server = createServer()
    server.on("error", () => resolve(server)).listen(port, "127.0.0.1", () => resolve(server))
  })

afterEach(() => {
  for (const wire of wires.splice(0)) wire.close()
})

type Postgres = Effect.Success<ReturnType<typeof ownServer>>

const scope = Scope.makeUnsafe()
const rules = dataDirectory()

/** A separate PostgreSQL, and two boards on one of its databases. */
const startGiven = async () => {
  // So that the app's role needs its password.
  writeFileSync(rules.path, "local all postgres,plain trust\nlocal all all scram-sha-256\n")
  const server: Postgres = await Effect.runPromise(
    Scope.provide(ownServer({ hba_file: rules.path }), scope)
  )
  await sql(
    server.url,
    "create database shared",
    "create database foreign_db",
    "create role plain login",
    "create database plain_db owner plain"
  )
  const url = `${server.urlFor("postgres", "shared")}?password=secret`
  // At the same time, so both prepare the database.
  const [one, two] = await Promise.all([start({ DATABASE_URL: url }), start({ DATABASE_URL: url })])
  const plain = start({ DATABASE_URL: server.urlFor("plain", "plain_db") })
  return { one, plain, server, two, url }
}
let given: ReturnType<typeof startGiven>

beforeAll(() => {
  given = startGiven()
  given.catch(() => undefined)
})
afterAll(async () => {
  await Promise.allSettled([given])
  const started = await Promise.allSettled(boards)
  await Promise.all(
    started.map((board) => board.status === "fulfilled" && board.value.end("SIGTERM"))
  )
  await Effect.runPromise(Scope.close(scope, Exit.void))
  rules.remove()
})

describe("npm start", () => {
  const data = dataDirectory()
  let board: LiveBoard
  let second: Promise<LiveBoard>
  /** Starts here because it takes long. */
  let report: ReturnType<typeof post>
  beforeAll(async () => {
    board = await start({ LIVE_BOARD_DATA: data.path })
    second = start({ LIVE_BOARD_DATA: data.path })
    report = post(board, "reports", { query_id: "r1" })
  })
  afterAll(async () => {
    await board.end("SIGTERM")
    data.remove()
  })

  it("prints two lines, and psql accepts the second one", async () => {
    expect(board.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    const [row] = await sql(board.database, "select current_user::text as me")
    expect(row).toEqual({ me: "postgres" })
    expect(board.lines).toEqual([`ready ${board.url}`, `database ${board.database}`])
  })

  it("starts with 12 orders", async () => {
    const dozen = (await orders(board)).filter((order) => (order as { id: number }).id <= 12)
    expect(dozen).toHaveLength(12)
    expect(dozen).toContainEqual(
      expect.objectContaining({ id: 12, customer: "Amara Okafor", amount_cents: 1890 })
    )
  })

  it("sends SQL changes to a bare WebSocket client, and nothing after a rollback", async () => {
    const wire = await connect(board)
    await wire.subscribe("table_updates_orders")
    await sql(board.database, "begin", insert("Rolled back"), "rollback")
    const [row] = await sql(board.database, insert("Committed"))
    const id = row!["id"] as number
    await sql(board.database, `update orders set status = 'packed' where id = ${id}`)
    await sql(board.database, `delete from orders where id = ${id}`)
    expect(await wire.received("table_updates_orders", 3)).toEqual([
      update("INSERT", { id, customer: "Committed", status: "new" }),
      update("UPDATE", { id, status: "packed" }),
      update("DELETE", { id, customer: "Committed", status: "packed" })
    ])
  })

  it("resumes a client that was away from its cursor, with each event once", async () => {
    const before = await connect(board)
    await before.subscribe("table_updates_orders")
    await sql(board.database, insert("Seen"))
    await before.received("table_updates_orders", 1)
    const cursor = before.all("events", "table_updates_orders").at(-1)!["cursor"] as string
    before.close()
    await sql(
      board.database,
      ...Array.from({ length: 10 }, (_, index) => insert(`Missed ${index}`)),
      ...Array.from(
        { length: 10 },
        (_, index) => `update orders set status = 'packed' where customer = 'Missed ${index}'`
      )
    )
    const after = await connect(board)
    const subscribed = await after.subscribe("table_updates_orders", cursor)
    expect(subscribed).toMatchObject({ state: "recovered", cursor })
    await sql(board.database, "delete from orders where customer = 'Seen'")
    const missed = (operation: string, status: string) =>
      Array.from({ length: 10 }, (_, index) =>
        update(operation, { customer: `Missed ${index}`, status })
      )
    expect(await after.received("table_updates_orders", 21)).toEqual([
      ...missed("INSERT", "new"),
      ...missed("UPDATE", "packed"),
      update("DELETE", { customer: "Seen" })
    ])
    await sql(board.database, "delete from orders where customer like 'Missed %'")
  })

  it("sends the orders of one status, and then those that get it or lose it", async () => {
    const named = (name: string) => expect.objectContaining({ customer: name }) as unknown
    const [row] = await sql(board.database, insert("Already new"))
    const id = row!["id"] as number
    const wire = await connect(board)
    const rows = await wire.rows("table_updates_orders", { status: "new" })
    expect(rows).toContainEqual(named("Already new"))
    expect(rows).toEqual(rows.map(() => expect.objectContaining({ status: "new" }) as unknown))
    await sql(
      board.database,
      "update orders set customer = 'Unseen' where status = 'delivered'",
      `update orders set status = 'packed' where id = ${id}`,
      `update orders set status = 'new', customer = 'New again' where id = ${id}`
    )
    expect(await wire.received("table_updates_orders", 2)).toEqual([
      { operation: "DELETE", key: { id } },
      { operation: "INSERT", key: { id }, data: named("New again") }
    ])
    await sql(board.database, `delete from orders where id = ${id}`)
  })

  it("delivers pg_notify on system_notifications, where clients may publish too", async () => {
    const wire = await connect(board)
    await wire.subscribe("system_notifications")
    const hello = { type: "info", message: "hello" }
    await sql(
      board.database,
      `select pg_notify('system_notifications', '${JSON.stringify(hello)}')`
    )
    const reply = { type: "warning", message: "and back" }
    expect(await wire.received("system_notifications", 1)).toEqual([hello])
    wire.send({ type: "publish", id: 7, channel: "system_notifications", key: "a", data: reply })
    await wire.frame(({ id, type }) => type === "published" && id === 7, "published")
    expect(await wire.received("system_notifications", 2)).toEqual([hello, reply])
  })

  it("lets clients subscribe to any table_updates_* and query_results_*, but not publish", async () => {
    const wire = await connect(board)
    await wire.subscribe("table_updates_other")
    await wire.subscribe("query_results_mine")
    const change = { operation: "INSERT", data: { any: ["thing"] } }
    const result = { status: "completed", data: [1, 2] }
    await sql(
      board.database,
      `select pg_notify('table_updates_other', '${JSON.stringify(change)}'),
              pg_notify('query_results_mine', '${JSON.stringify(result)}')`
    )
    expect(await wire.received("table_updates_other", 1)).toEqual([change])
    expect(await wire.received("query_results_mine", 1)).toEqual([result])
    wire.send({ type: "publish", id: 8, channel: "query_results_mine", key: "a", data: result })
    const answer = await wire.frame(({ id }) => id === 8, "an answer to publish")
    expect(answer).toMatchObject({ type: "error", code: "publish/forbidden" })
    wire.send({ type: "subscribe", id: 9, channel: "something_else" })
    const unknown = await wire.frame(({ id }) => id === 9, "an answer to subscribe")
    expect(unknown).toMatchObject({ type: "error", code: "channel/unknown" })
  })

  it("delivers a row that is too large for NOTIFY", async () => {
    const wire = await connect(board)
    await wire.subscribe("table_updates_orders")
    await sql(
      board.database,
      "insert into orders (customer, item) values (repeat('ü', 5000), repeat(E'\\x01', 5000))"
    )
    const [row] = rows(await wire.received("table_updates_orders", 1))
    // Without a matcher, which would print the whole row.
    expect(row!["customer"] === "ü".repeat(5000)).toBe(true)
    expect(row!["item"] === "\u0001".repeat(5000)).toBe(true)
    expect(wire.all("gap", "table_updates_orders")).toEqual([])
    await sql(board.database, "delete from orders where length(customer) = 5000")
  })

  it("creates, changes and deletes orders over HTTP, and answers invalid input with 400", async () => {
    const order = { customer: "Ada", item: "Tea", amount_cents: 450 }
    const added = await post(board, "orders", { ...order, customer: "  Ada " })
    expect(added).toMatchObject({ status: 201, body: { ...order, status: "new" } })
    const { id } = added.body as { readonly id: number }
    const patch = (body: unknown) =>
      api(board, `orders/${id}`, { method: "PATCH", body: JSON.stringify(body) })
    expect(await patch({ status: "shipped" })).toMatchObject({
      status: 200,
      body: { id, status: "shipped" }
    })
    expect(await patch({ status: "lost" })).toMatchObject({ status: 400 })
    const remove = () => api(board, `orders/${id}`, { method: "DELETE" })
    const removed = await remove()
    expect(removed).toMatchObject({ status: 200, body: { id } })
    expect(await remove()).toMatchObject({ status: 404 })
    const put = (body: unknown) =>
      api(board, `orders/${id}`, { method: "PUT", body: JSON.stringify(body) })
    const { created_at } = removed.body as { readonly created_at: string }
    expect(await put({ ...order, status: "new", created_at: "long ago" })).toMatchObject({
      status: 400
    })
    expect(await put(removed.body)).toMatchObject({
      status: 201,
      body: { ...order, id, status: "shipped", created_at }
    })
    expect(await put(removed.body)).toMatchObject({ status: 409 })
    await remove()
    const bad = await post(board, "orders", { ...order, amount_cents: -1 })
    expect(bad).toMatchObject({
      status: 400,
      body: { error: expect.stringContaining("amount_cents") as unknown }
    })
    expect(await post(board, "orders", { ...order, item: "nul \0" })).toMatchObject({ status: 400 })
    expect(await post(board, "reports", { query_id: "not a name" })).toMatchObject({ status: 400 })
    expect(await api(board, "orders", { method: "POST", body: "{" })).toMatchObject({ status: 400 })
    const asForm = { method: "POST", body: JSON.stringify(order), headers: {} }
    expect(await api(board, "orders", asForm)).toMatchObject({ status: 400 })
  })

  it("runs as a role with rights on the table orders and the outbox only", async () => {
    const wire = await connect(board)
    await wire.subscribe("table_updates_orders")
    expect(await users(board.database)).toEqual(["live_board"])
    const limited = as(board.database, "live_board")
    const [self] = await sql(
      limited,
      `select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls as mighty,
         (select json_agg(roleid::regrole::text) from pg_auth_members where member = r.oid) as groups
       from pg_roles r where rolname = current_user`
    )
    expect(self).toEqual({ mighty: false, groups: ["live_board_node"] })
    expect(await sql(limited, "select id from orders where id = 1")).toEqual([{ id: 1 }])
    const refused = {
      "create table mine (id integer)": "permission denied for schema public",
      "create function f() returns int language sql as 'select 1'": "permission denied for schema",
      "create table realtime.mine (id integer)": "permission denied for schema realtime",
      "select from pg_authid": "permission denied for table pg_authid",
      "select pg_read_file('postmaster.pid')": "permission denied for function pg_read_file",
      "truncate orders": "permission denied for table orders",
      "alter table orders disable trigger all": "must be owner",
      "drop table orders": "must be owner",
      "insert into realtime.messages (channel, payload) values ('query_results_x', '1')":
        "permission denied for table messages",
      "delete from realtime.messages": "permission denied for table messages",
      "update realtime.settings set wake = 'poll'": "permission denied for table settings",
      "select realtime.publish('table_updates_orders', '{}')": "triggers of its table only"
    }
    const objections = await Promise.all(
      Object.keys(refused).map((statement) => objection(limited, statement))
    )
    expect(objections).toEqual(
      Object.values(refused).map((reason) => expect.stringContaining(reason) as unknown)
    )
  })

  it("runs beside another board with the same data, and ends on SIGTERM", async () => {
    const other = await second
    expect(other.url).not.toBe(board.url)
    expect(other.database).not.toBe(board.database)
    expect(other.log()).toContain("another PostgreSQL server is using")
    expect(await orders(other)).toHaveLength(12)
    await expectEnd(other, "SIGTERM")
    expect(await api(board, "psql")).toMatchObject({ status: 200 })
  })

  it("takes a free port and prints it when PORT is not set and 3000 is in use", async () => {
    const taken = await occupy(3000)
    const other = await start({ DATABASE_URL: board.database, PORT: undefined })
    expect(other.url).not.toBe("http://127.0.0.1:3000")
    expect(other.log()).toContain("Port 3000 is taken")
    expect(await api(other, "psql")).toMatchObject({ status: 200 })
    await other.end("SIGTERM")
    taken.close()
  })

  it("ends with one sentence when PORT is in use", async () => {
    const { port } = new URL(board.url)
    const failure: unknown = await start({ DATABASE_URL: board.database, PORT: port }).catch(
      (error: unknown) => error
    )
    const said = (failure as Error).message.split("\n").filter((line) => !line.includes("level="))
    expect(said).toEqual([
      "the live board ended with 1:",
      `Port ${port} is taken. Give PORT another number, or 0 for a free one.`,
      ""
    ])
  })

  it("runs a report in the background, and keeps its result for later subscribers", async () => {
    const { body, status } = await report
    const { channel, cursor } = body as Started
    expect([status, channel]).toEqual([202, "query_results_report-r1"])
    const data = expect.objectContaining({ orders: 12, amount_cents: 43710 }) as unknown
    const wire = await connect(board)
    expect(await wire.subscribe(channel, cursor)).toMatchObject({ state: "recovered" })
    expect(await wire.received(channel, 1)).toEqual([{ status: "completed", data }])
    const later = await connect(board)
    expect(await later.subscribe(channel, cursor)).toMatchObject({ state: "recovered", cursor })
    expect(await later.received(channel, 1)).toEqual([{ status: "completed", data }])
  })

  it("recovers after every database session ended, and sends gaps on live channels", async () => {
    const wire = await connect(board)
    await wire.subscribe("system_notifications")
    await wire.subscribe("table_updates_orders")
    await lockOut(board.database, insert("During"))
    await expectHealed(wire, board.database)
    expect(await orders(board)).toContainEqual(expect.objectContaining({ customer: "During" }))
  })

  it("ends on SIGINT even during a report, and has its data at the next start", async () => {
    await sql(board.database, insert("Kept"))
    const { body } = await post(board, "reports", { query_id: "cut" })
    await expectEnd(board, "SIGINT")
    board = await start({ LIVE_BOARD_DATA: data.path })
    expect(await orders(board)).toContainEqual(expect.objectContaining({ customer: "Kept" }))
    const wire = await connect(board)
    const { channel, cursor } = body as Started
    expect(await wire.subscribe(channel, cursor)).toMatchObject({ state: "recovered" })
    expect(await wire.received(channel, 1)).toEqual([
      { status: "error", error: expect.stringContaining("interrupted") as unknown }
    ])
  })
})

describe("with DATABASE_URL", () => {
  let server: Postgres
  let url: string
  let one: LiveBoard
  let two: LiveBoard
  let plain: Promise<LiveBoard>
  beforeAll(async () => {
    ;({ one, plain, server, two, url } = await given)
  })

  it("starts twice on the same database, and prints no password", async () => {
    expect(one.database).toContain("?password=***")
    expect(one.log() + JSON.stringify(await api(one, "psql"))).not.toContain("secret")
    expect(await users(url)).toEqual(["live_board"])
    const wire = await connect(two)
    await wire.subscribe("table_updates_orders")
    const order = { customer: "Ada", item: "Tea", amount_cents: 1 }
    const { body } = await post(one, "orders", order)
    expect(await wire.received("table_updates_orders", 1)).toEqual([update("INSERT", order)])
    await api(two, `orders/${(body as { id: number }).id}`, { method: "DELETE" })
    expect(await orders(one)).toHaveLength(12)
  })

  it("uses the given user when it may not create roles", async () => {
    const board = await plain
    expect(board.log()).toContain("may not create roles")
    const wire = await connect(board)
    await wire.subscribe("table_updates_orders")
    expect(await users(board.database)).toEqual(["plain"])
    expect(await orders(board)).toHaveLength(12)
  })

  it("does not touch a table orders of another app", async () => {
    const foreign = server.urlFor("postgres", "foreign_db")
    await sql(foreign, "create table orders (id integer)", "insert into orders values (1)")
    await expect(startLiveBoard({ DATABASE_URL: foreign })).rejects.toThrow("is not the example's")
    expect(await sql(foreign, "select * from orders")).toEqual([{ id: 1 }])
  })

  it("recovers on every node after a restart of the database", async () => {
    const wires = await Promise.all([connect(one), connect(two)])
    const both = wires.flatMap((wire) => [
      wire.subscribe("system_notifications"),
      wire.subscribe("table_updates_orders")
    ])
    await Promise.all(both)
    await sql(url, "alter role live_board nologin")
    await Effect.runPromise(server.restart)
    await sql(url, insert("During"), "alter role live_board login")
    // In turn, because each node would receive the other's row too.
    await expectHealed(wires[0]!, url)
    expect(rows(await wires[1]!.received("table_updates_orders", 2))).toEqual([
      expect.objectContaining({ customer: "During" }),
      expect.objectContaining({ customer: "After" })
    ])
    // A state may be a second old: events follow it, which this does not count.
    await expect.poll(() => orders(one)).toHaveLength(14)
    await expect.poll(() => orders(two)).toHaveLength(14)
  })

  it("ends within 3 s while the database is down", async () => {
    const boards = [one, two]
    const wires = await Promise.all(boards.map(connect))
    await Promise.all(boards.map((board) => post(board, "reports", { query_id: "late" })))
    await Effect.runPromise(server.stop("immediate"))
    await Promise.all(
      wires.map((wire) =>
        wire.frame(({ source, type }) => type === "status" && source === "down", "source down")
      )
    )
    const ends = await Promise.all([one.end("SIGINT"), two.end("SIGTERM")])
    expect(ends.map(({ millis }) => millis < 3000)).toEqual([true, true])
    await Promise.all(wires.map((wire) => wire.frame(({ type }) => type === "bye", "bye")))
  })
})
