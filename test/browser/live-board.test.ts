/** The page that `npm start` serves, in a real Chromium. */
import { PgConnection } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import type { Browser, Page } from "playwright-core"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { dataDirectory, type LiveBoard, startLiveBoard } from "../examples/liveBoard.ts"
import { executablePath, launch } from "../support/chromium.ts"

describe.skipIf(executablePath === undefined)("the live board in Chromium", () => {
  const data = dataDirectory()
  const faults: Array<string> = []
  let board: LiveBoard
  let browser: Browser
  /** Two tabs that stay open from test to test. */
  let one: Page
  let two: Page

  const open = async (width: number, height: number) => {
    const page = await browser.newPage({ viewport: { width, height } })
    page.setDefaultTimeout(10_000)
    page.on("pageerror", (error) => faults.push(error.message))
    page.on("console", (message) => {
      if (message.type() === "error") faults.push(message.text())
    })
    await page.goto(board.url)
    await page.locator("[data-connection=open][data-source=up]").waitFor()
    await page.getByText("Up to date").waitFor()
    return page
  }

  beforeAll(async () => {
    ;[board, browser] = await Promise.all([
      startLiveBoard({ LIVE_BOARD_DATA: data.path }),
      launch()
    ])
    ;[one, two] = await Promise.all([open(1280, 800), open(1280, 800)])
  })

  afterAll(async () => {
    await browser?.close()
    await board?.end("SIGTERM")
    data.remove()
  })

  /** Runs statements, one after the other, on a session of its own, as psql would. */
  const sql = (...statements: ReadonlyArray<string>) =>
    Effect.runPromise(
      PgConnection.make({ url: Redacted.make(board.database) }).pipe(
        Effect.flatMap((connection) =>
          Effect.forEach(statements, (statement) => connection.query(statement))
        ),
        Effect.map((results) => results.at(-1)!.rows),
        Effect.scoped
      )
    )

  const insert = (customer: string) =>
    `insert into orders (customer, item, amount_cents) values ('${customer}', 'Tea', 450) returning id`

  const row = (page: Page, customer: string) => page.locator("[data-order]", { hasText: customer })

  it("begins with a dozen orders, newest first", async () => {
    const rows = one.locator("[data-order]")
    expect(await rows.count()).toBe(12)
    expect(await rows.first().textContent()).toContain("Amara Okafor")
    expect(await rows.last().textContent()).toContain("Noah Bergström")
  })

  it("shows what SQL does to the table, in every tab", async () => {
    await sql(insert("Grace Hopper"))
    await Promise.all([one, two].map((page) => row(page, "Grace Hopper").waitFor()))
    expect(await one.locator("[data-order]").first().textContent()).toMatch(/Grace Hopper.*€4.50/)
    await sql("update orders set status = 'shipped' where customer = 'Grace Hopper'")
    await Promise.all(
      [one, two].map((page) => row(page, "Grace Hopper").getByText("shipped").waitFor())
    )
    await sql("delete from orders where customer = 'Grace Hopper'")
    await Promise.all(
      [one, two].map((page) => row(page, "Grace Hopper").waitFor({ state: "detached" }))
    )
  })

  it("shows nothing of a transaction that rolls back", async () => {
    await sql("begin", insert("Never Was"), "rollback")
    await sql(insert("Marker"))
    await row(one, "Marker").waitFor()
    expect(await row(one, "Never Was").count()).toBe(0)
  })

  it("adds, moves on and deletes an order with its buttons", async () => {
    const before = await one.locator("[data-order]").count()
    await one.getByRole("button", { name: "Add an order" }).click()
    await vi.waitFor(async () => expect(await one.locator("[data-order]").count()).toBe(before + 1))
    const added = await two.locator("[data-order]").first().getAttribute("data-order")
    await two.getByRole("button", { name: `Pack order ${added}` }).click()
    await one.getByRole("button", { name: `Ship order ${added}` }).click()
    await two.getByRole("button", { name: `Deliver order ${added}` }).waitFor()
    await one.getByRole("button", { name: `Delete order ${added}` }).click()
    await two.locator(`[data-order="${added}"]`).waitFor({ state: "detached" })
  })

  it("shows a notice from pg_notify", async () => {
    await sql(
      `select pg_notify('system_notifications', '{"type":"error","message":"Out of milk"}')`
    )
    const notices = [one, two].map((page) => page.getByRole("log").getByText("Out of milk"))
    await Promise.all(notices.map((notice) => notice.waitFor()))
    expect(await Promise.all(notices.map((notice) => notice.count()))).toEqual([1, 1])
  })

  it("sends a notice to the other tab", async () => {
    await one.getByLabel("Kind of notice").selectOption("warning")
    await one.getByLabel("Message").fill("Back in five minutes")
    await one.getByRole("button", { name: "Send" }).click()
    const notice = two.getByRole("log").locator("[data-type=warning]")
    await notice.getByText("Back in five minutes").waitFor()
    await vi.waitFor(async () => expect(await one.getByLabel("Message").inputValue()).toBe(""))
  })

  it("waits for the result of a report", async () => {
    const [total] = await sql("select count(*)::integer as orders from orders")
    await one.getByRole("button", { name: "Run report" }).click()
    await one.getByText(/^Waiting on query_results_/).waitFor()
    await one.getByText(/^Arrived on query_results_/).waitFor()
    const sum = one.getByText(/^Total of \d+ orders$/)
    expect(await sum.textContent()).toBe(`Total of ${String(total!["orders"])} orders`)
  })

  it("heals when the link is cut, reads again, and says so", async () => {
    // In one session: the row comes while nobody listens, so only reading again can show it.
    await sql(
      `select pg_terminate_backend(pid, 5000) from pg_stat_activity
       where application_name = 'effect-realtime link'`,
      insert("While deaf")
    )
    await Promise.all(
      [one, two].map(async (page) => {
        await page.getByText(/^Caught up after a gap/).waitFor()
        await row(page, "While deaf").waitFor()
        await page.locator("[data-source=up]").waitFor()
      })
    )
    await sql(insert("Heard again"))
    await Promise.all([one, two].map((page) => row(page, "Heard again").waitFor()))
    expect(await one.getByText("the server had lost the database").count()).toBe(1)
  })

  it("fits on a phone, however long the texts are", async () => {
    const phone = await open(360, 740)
    // The second is too large for NOTIFY.
    await sql(insert("W".repeat(6000)), insert("A name of many short words ".repeat(300)))
    await row(phone, "A name of many short words").waitFor()
    await phone.getByText("a change could not be told in full").waitFor()
    const [needed, given] = await phone.evaluate(() => [
      document.documentElement.scrollWidth,
      document.documentElement.clientWidth
    ])
    expect(needed).toBeLessThanOrEqual(given!)
    expect(given).toBe(360)
    await phone.close()
    await sql("delete from orders where length(customer) > 100")
  })

  it("has given no error so far", () => {
    expect(faults).toEqual([])
  })

  it("says when the server is gone, and finds it again", async () => {
    const { port } = new URL(board.url)
    await board.end("SIGTERM")
    await one.getByText("The server cannot be reached").waitFor()
    board = await startLiveBoard({ LIVE_BOARD_DATA: data.path, PORT: port })
    await sql(insert("Back again"))
    // Otherwise it waits for its turn, up to 30 s.
    await one.evaluate(() => window.dispatchEvent(new Event("online")))
    await row(one, "Back again").waitFor()
    expect(await one.locator("[data-connection=open][data-source=up]").count()).toBe(1)
  })

  it.runIf(process.env["LIVE_BOARD_SCREENSHOT"])("has its picture taken", async () => {
    await sql("delete from orders where id > 12")
    const page = await open(1280, 800)
    await page.getByRole("button", { name: "Run report" }).click()
    await page.getByText(/^Arrived on query_results_/).waitFor()
    await sql(
      `select pg_notify('system_notifications', '{"type":"info","message":"Grinder 2 is back"}')`
    )
    await page.getByRole("log").getByText("Grinder 2 is back").waitFor()
    await page.getByRole("button", { name: "Add an order" }).click()
    await page.locator("[data-change=added]").waitFor()
    const picture = await page.screenshot({ path: process.env["LIVE_BOARD_SCREENSHOT"]! })
    expect(picture.byteLength).toBeLessThan(300_000)
  })
})
