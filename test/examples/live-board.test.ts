/** What `npm start` promises, without a browser. */
import { PgConnection } from "@effect/sql-pg"
import { Effect, Exit, Redacted, Scope } from "effect"
import { spawnSync } from "node:child_process"
import { existsSync, writeFileSync } from "node:fs"
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import * as EmbeddedPostgres from "../../src/testing/EmbeddedPostgres.ts"
import { dataDirectory, type LiveBoard, startLiveBoard } from "./liveBoard.ts"
import { openWire, type Wire } from "./wire.ts"

/** Runs statements, one after the other, on a session of its own. */
const run = (url: string, ...statements: ReadonlyArray<string>) =>
  PgConnection.make({ url: Redacted.make(url), applicationName: "test" }).pipe(
    Effect.flatMap((connection) =>
      Effect.forEach(statements, (statement) => connection.query(statement))
    ),
    Effect.map((results) => results.at(-1)!.rows),
    Effect.scoped
  )

const sql = (url: string, ...statements: ReadonlyArray<string>) =>
  Effect.runPromise(run(url, ...statements))

/** What PostgreSQL says against a statement. */
const objection = (url: string, statement: string) =>
  Effect.runPromise(
    Effect.map(Effect.flip(run(url, statement)), ({ reason }) => String(reason.cause))
  )

/** A process that ended stays a zombie until its parent looks: that one does not run. */
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
  changed.searchParams.set("user", user)
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

const api = async (board: LiveBoard, path: string, init?: RequestInit) => {
  const headers = { "content-type": "application/json" }
  const response = await fetch(`${board.url}/api/${path}`, { headers, ...init })
  return { status: response.status, body: (await response.json()) as unknown }
}

const wires: Array<Wire> = []
const connect = async (board: LiveBoard) => {
  const wire = await openWire(board.url)
  wires.push(wire)
  return wire
}

const boards: Array<LiveBoard> = []
const start = async (env: Readonly<Record<string, string>>) => {
  const board = await startLiveBoard(env)
  boards.push(board)
  return board
}

afterEach(() => {
  for (const wire of wires.splice(0)) wire.close()
})

afterAll(() => Promise.all(boards.map((board) => board.end("SIGTERM"))))

describe("npm start", () => {
  const data = dataDirectory()
  let board: LiveBoard
  beforeAll(async () => {
    board = await start({ LIVE_BOARD_DATA: data.path })
  })
  afterAll(data.remove)

  it("prints two lines, and the second one is good for psql", async () => {
    expect(board.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    const [row] = await sql(board.database, "select current_user::text as me")
    expect(row).toEqual({ me: "postgres" })
    expect(board.lines).toEqual([`ready ${board.url}`, `database ${board.database}`])
  })

  it("starts with a dozen orders", async () => {
    const { body, status } = await api(board, "orders")
    expect(status).toBe(200)
    expect(body).toHaveLength(12)
    expect(body).toContainEqual(
      expect.objectContaining({ id: 12, customer: "Amara Okafor", amount_cents: 1890 })
    )
  })

  it("tells a bare WebSocket client what SQL does to the table, and nothing of a rollback", async () => {
    const wire = await connect(board)
    await wire.subscribe("table_updates_orders")
    await sql(board.database, "begin", insert("Rolled back"), "rollback")
    const [row] = await sql(board.database, insert("Committed"))
    const id = row!["id"] as number
    await sql(board.database, `update orders set status = 'packed' where id = ${id}`)
    await sql(board.database, `delete from orders where id = ${id}`)
    await vi.waitFor(() => expect(wire.data("table_updates_orders")).toHaveLength(3), 10_000)
    expect(wire.data("table_updates_orders")).toEqual([
      update("INSERT", { id, customer: "Committed", status: "new" }),
      update("UPDATE", { id, status: "packed" }),
      update("DELETE", { id, customer: "Committed", status: "packed" })
    ])
  })

  it("tells pg_notify on system_notifications, which clients may use too", async () => {
    const wire = await connect(board)
    await wire.subscribe("system_notifications")
    const hello = { type: "info", message: "hello" }
    await sql(
      board.database,
      `select pg_notify('system_notifications', '${JSON.stringify(hello)}')`
    )
    const reply = { type: "warning", message: "and back" }
    await vi.waitFor(() => expect(wire.data("system_notifications")).toEqual([hello]), 10_000)
    wire.send({ type: "publish", id: 7, channel: "system_notifications", key: "a", data: reply })
    await wire.frame(({ id, type }) => type === "published" && id === 7, "published")
    await vi.waitFor(
      () => expect(wire.data("system_notifications")).toEqual([hello, reply]),
      10_000
    )
  })

  it("is open to any table_updates_* and query_results_*, for reading", async () => {
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
    await vi.waitFor(() => expect(wire.data("table_updates_other")).toEqual([change]), 10_000)
    await vi.waitFor(() => expect(wire.data("query_results_mine")).toEqual([result]), 10_000)
    wire.send({ type: "publish", id: 8, channel: "query_results_mine", key: "a", data: result })
    const answer = await wire.frame(({ id }) => id === 8, "an answer to publish")
    expect(answer).toMatchObject({ type: "error", code: "publish/forbidden" })
    wire.send({ type: "subscribe", id: 9, channel: "something_else" })
    const unknown = await wire.frame(({ id }) => id === 9, "an answer to subscribe")
    expect(unknown).toMatchObject({ type: "error", code: "channel/unknown" })
  })

  it("takes a row that is too large for NOTIFY, and tells a gap", async () => {
    const wire = await connect(board)
    await wire.subscribe("table_updates_orders")
    await sql(
      board.database,
      "insert into orders (customer, item) values (repeat('ü', 5000), repeat(E'\\x01', 5000))",
      insert("Small")
    )
    const gap = await wire.frame(({ type }) => type === "gap", "gap")
    expect(gap).toMatchObject({ channel: "table_updates_orders", reason: "invalid" })
    await vi.waitFor(() => expect(wire.data("table_updates_orders")).toHaveLength(1), 10_000)
    expect(wire.data("table_updates_orders")).toEqual([update("INSERT", { customer: "Small" })])
    expect((await api(board, "orders")).body).toContainEqual(
      expect.objectContaining({ customer: "ü".repeat(5000) })
    )
  })

  it("creates, changes and deletes orders over HTTP, and answers bad input with 400", async () => {
    const order = { customer: "Ada", item: "Tea", amount_cents: 450 }
    const post = (path: string, body: unknown) =>
      api(board, path, { method: "POST", body: JSON.stringify(body) })
    const added = await post("orders", { ...order, customer: "  Ada " })
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
    expect(await remove()).toMatchObject({ status: 200, body: { id } })
    expect(await remove()).toMatchObject({ status: 404 })
    const bad = await post("orders", { ...order, amount_cents: -1 })
    expect(bad).toMatchObject({
      status: 400,
      body: { error: expect.stringContaining("amount_cents") as unknown }
    })
    expect(await post("orders", { ...order, item: "nul \0" })).toMatchObject({ status: 400 })
    expect(await post("reports", { query_id: "not a name" })).toMatchObject({ status: 400 })
    expect(await api(board, "orders", { method: "POST", body: "{" })).toMatchObject({ status: 400 })
    const asForm = { method: "POST", body: JSON.stringify(order), headers: {} }
    expect(await api(board, "orders", asForm)).toMatchObject({ status: 400 })
  })

  it("runs a report in the background and publishes its result", async () => {
    const wire = await connect(board)
    await wire.subscribe("query_results_report-r1")
    const before = performance.now()
    const ask = { method: "POST", body: JSON.stringify({ query_id: "r1" }) }
    const answer = await api(board, "reports", ask)
    expect(answer).toEqual({ status: 202, body: { channel: "query_results_report-r1" } })
    expect(performance.now() - before).toBeLessThan(2000)
    const [total] = await sql(board.database, "select count(*)::integer as orders from orders")
    await vi.waitFor(() => expect(wire.data("query_results_report-r1")).toHaveLength(1), 10_000)
    expect(wire.data("query_results_report-r1")).toEqual([
      { status: "completed", data: expect.objectContaining(total!) as unknown }
    ])
  })

  it("works as a role that may use the table orders and nothing else", async () => {
    const wire = await connect(board)
    await wire.subscribe("table_updates_orders")
    expect(await users(board.database)).toEqual(["live_board"])
    const limited = as(board.database, "live_board")
    const [self] = await sql(
      limited,
      `select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls as mighty
       from pg_roles where rolname = current_user`
    )
    expect(self).toEqual({ mighty: false })
    expect(await sql(limited, "select id from orders where id = 1")).toEqual([{ id: 1 }])
    const refused = {
      "create table mine (id integer)": "permission denied for schema public",
      "create function f() returns int language sql as 'select 1'": "permission denied for schema",
      "select from pg_authid": "permission denied for table pg_authid",
      "select pg_read_file('postmaster.pid')": "permission denied for function pg_read_file",
      "truncate orders": "permission denied for table orders",
      "alter table orders disable trigger all": "must be owner",
      "drop table orders": "must be owner"
    }
    const objections = await Promise.all(
      Object.keys(refused).map((statement) => objection(limited, statement))
    )
    expect(objections).toEqual(
      Object.values(refused).map((reason) => expect.stringContaining(reason) as unknown)
    )
  })

  it("heals after every session was ended, and says that something may be missing", async () => {
    const wire = await connect(board)
    await wire.subscribe("table_updates_orders")
    await sql(
      board.database,
      "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'live_board'"
    )
    const gap = await wire.frame(({ type }) => type === "gap", "gap")
    expect(gap).toMatchObject({ channel: "table_updates_orders", reason: "source" })
    await sql(board.database, insert("After"))
    await vi.waitFor(
      () =>
        expect(wire.data("table_updates_orders")).toContainEqual(
          update("INSERT", { customer: "After" })
        ),
      10_000
    )
    expect(await api(board, "orders")).toMatchObject({ status: 200 })
  })

  it("runs beside another one that keeps the same data", async () => {
    const second = await start({ LIVE_BOARD_DATA: data.path })
    expect(second.url).not.toBe(board.url)
    expect(second.database).not.toBe(board.database)
    expect(second.log()).toContain("another PostgreSQL server is using")
    expect((await api(second, "orders")).body).toHaveLength(12)
    expect(await api(board, "orders")).toMatchObject({ status: 200 })
  })
})

describe.each(["SIGTERM", "SIGINT"] as const)("%s", (signal) => {
  const data = dataDirectory()
  afterAll(data.remove)

  it("ends server, sockets and database within 3 s", async () => {
    const board = await startLiveBoard({ LIVE_BOARD_DATA: data.path })
    const wire = await connect(board)
    await wire.subscribe("table_updates_orders")
    await api(board, "reports", { method: "POST", body: JSON.stringify({ query_id: "late" }) })
    const [row] = await sql(
      board.database,
      "select split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::integer as pid"
    )
    const socketDirectory = new URL(board.database).searchParams.get("host")!
    const { code, millis } = await board.end(signal)
    expect(millis).toBeLessThan(3000)
    expect([0, 130, 143]).toContain(code)
    expect(isRunning(row!["pid"] as number)).toBe(false)
    expect(existsSync(socketDirectory)).toBe(false)
    await wire.frame(({ type }) => type === "bye", "bye")
  })
})

it("finds the orders again that were there when it ended", async () => {
  const data = dataDirectory()
  const before = await startLiveBoard({ LIVE_BOARD_DATA: data.path })
  await sql(before.database, insert("Kept"))
  await before.end("SIGTERM")
  const after = await startLiveBoard({ LIVE_BOARD_DATA: data.path })
  const { body } = await api(after, "orders")
  expect(body).toHaveLength(13)
  expect(body).toContainEqual(expect.objectContaining({ customer: "Kept" }))
  await after.end("SIGTERM")
  data.remove()
})

describe("with DATABASE_URL", () => {
  const scope = Scope.makeUnsafe()
  const rules = dataDirectory()
  let server: Effect.Success<ReturnType<typeof EmbeddedPostgres.make>>
  beforeAll(async () => {
    // The role of the app has to know its password.
    writeFileSync(rules.path, "local all postgres,plain trust\nlocal all all scram-sha-256\n")
    const settings = { hba_file: rules.path }
    server = await Effect.runPromise(Scope.provide(EmbeddedPostgres.make({ settings }), scope))
  })
  afterAll(async () => {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    rules.remove()
  })

  const fresh = async (name: string, owner = "postgres") => {
    await sql(server.url, `create database ${name} owner ${owner}`)
    return server.urlFor(owner, name)
  }

  it("heals after a restart of the whole database", async () => {
    const url = await fresh("restarted")
    const board = await start({ DATABASE_URL: url })
    expect(board.database).toBe(url)
    const wire = await connect(board)
    await wire.subscribe("table_updates_orders")
    expect(await users(url)).toEqual(["live_board"])
    await Effect.runPromise(server.restart)
    await wire.frame(({ source, type }) => type === "status" && source === "down", "source down")
    await wire.frame(({ source, type }) => type === "status" && source === "up", "source up")
    const gap = await wire.frame(({ type }) => type === "gap", "gap")
    expect(gap).toMatchObject({ channel: "table_updates_orders", reason: "source" })
    await sql(url, insert("After"))
    await vi.waitFor(
      () => expect(wire.data("table_updates_orders")).toEqual([update("INSERT", {})]),
      10_000
    )
    expect((await api(board, "orders")).body).toHaveLength(13)
  })

  it("starts twice at the same moment, and shows no password", async () => {
    const url = `${await fresh("shared")}&password=secret`
    const [one, two] = await Promise.all([
      start({ DATABASE_URL: url }),
      start({ DATABASE_URL: url })
    ])
    expect(one.database).toContain("&password=***")
    expect(one.log() + JSON.stringify(await api(one, "psql"))).not.toContain("secret")
    expect((await api(two, "orders")).body).toHaveLength(12)
    // Both log in again.
    await sql(
      url,
      "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'live_board'"
    )
    await vi.waitFor(async () => expect((await api(one, "orders")).status).toBe(200), 10_000)
    await vi.waitFor(async () => expect((await api(two, "orders")).status).toBe(200), 10_000)
    const wire = await connect(two)
    await wire.subscribe("table_updates_orders")
    const order = { customer: "Ada", item: "Tea", amount_cents: 1 }
    await api(one, "orders", { method: "POST", body: JSON.stringify(order) })
    await vi.waitFor(
      () => expect(wire.data("table_updates_orders")).toEqual([update("INSERT", order)]),
      10_000
    )
  })

  it("uses the given user when that one may not create roles", async () => {
    await sql(server.url, "create role plain login")
    const board = await start({ DATABASE_URL: await fresh("plain_db", "plain") })
    expect(board.log()).toContain("may not create roles")
    const wire = await connect(board)
    await wire.subscribe("table_updates_orders")
    expect(await users(board.database)).toEqual(["plain"])
    expect((await api(board, "orders")).body).toHaveLength(12)
  })

  it("leaves a table orders alone that is not its own", async () => {
    const url = await fresh("foreign_db")
    await sql(url, "create table orders (id integer)", "insert into orders values (1)")
    await expect(startLiveBoard({ DATABASE_URL: url })).rejects.toThrow("is not the example's")
    expect(await sql(url, "select * from orders")).toEqual([{ id: 1 }])
  })
})
