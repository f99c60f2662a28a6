/** The page that `npm start` serves, in a real Chromium. */
import { execFileSync } from "node:child_process"
import type { Browser, BrowserContextOptions, Page } from "playwright-core"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import * as LiveBoard from "../examples/liveBoard.ts"
import { openWire } from "../examples/wire.ts"
import { executablePath, launch } from "../support/chromium.ts"

describe.skipIf(executablePath === undefined)("the live board in Chromium", () => {
  const data = LiveBoard.dataDirectory()
  const faults: Array<string> = []
  let board: LiveBoard.LiveBoard
  let browser: Browser
  /** Two tabs that stay open across tests. */
  let one: Page
  let two: Page

  const open = async (width: number, height: number, options?: BrowserContextOptions) => {
    const page = await browser.newPage({ viewport: { width, height }, ...options })
    page.setDefaultTimeout(10_000)
    page.on("pageerror", (error) => faults.push(error.message))
    page.on("console", (message) => {
      if (message.type() === "error") faults.push(message.text())
    })
    await page.goto(board.url)
    await ready(page)
    return page
  }

  const ready = async (page: Page) => {
    await page.locator("[data-connection=open][data-source=up]").waitFor()
    await page.getByText("Up to date").waitFor()
  }

  beforeAll(async () => {
    ;[board, browser] = await Promise.all([
      LiveBoard.startLiveBoard({ LIVE_BOARD_DATA: data.path }),
      launch()
    ])
    ;[one, two] = await Promise.all([open(1280, 800), open(1280, 800)])
  })

  afterAll(async () => {
    await browser?.close()
    await board?.end("SIGTERM")
    data.remove()
  })

  const sql = (...statements: ReadonlyArray<string>) => LiveBoard.sql(board.database, ...statements)

  const insert = (customer: string) =>
    `insert into orders (customer, item, amount_cents) values ('${customer}', 'Tea', 450) returning id`

  const row = (page: Page, customer: string) => page.locator("[data-order]", { hasText: customer })

  it("shows 12 orders at first, newest first", async () => {
    const rows = one.locator("[data-order]")
    expect(await rows.count()).toBe(12)
    expect(await rows.first().textContent()).toContain("Amara Okafor")
    expect(await rows.last().textContent()).toContain("Noah Bergström")
  })

  it("shows SQL changes to the table in every tab", async () => {
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

  it("shows no change of a transaction that rolls back", async () => {
    await sql("begin", insert("Never Was"), "rollback")
    await sql(insert("Marker"))
    await row(one, "Marker").waitFor()
    expect(await row(one, "Never Was").count()).toBe(0)
  })

  it("adds, advances and deletes an order with its buttons", async () => {
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

  /** Clicks, and returns the channel that the page then waits on. */
  const runReport = async (page: Page) => {
    await page.getByRole("button", { name: "Run report" }).click()
    const text = await page.getByText(/^Waiting on query_results_report-/).textContent()
    return text!.replace("Waiting on ", "")
  }
  const arrived = (page: Page, channel: string) => page.getByText(`Arrived on ${channel}`).waitFor()

  it("waits for the result of a report across reloads", async () => {
    const [total] = await sql("select count(*)::integer as orders from orders")
    const sum = (page: Page) => page.getByText(`Total of ${String(total!["orders"])} orders`)
    const wire = await openWire(board.url)
    const [reloaded, missed] = await Promise.all([runReport(one), runReport(two)])
    await Promise.all([one.reload(), two.goto("about:blank"), wire.subscribe(missed)])
    await one.getByText(`Waiting on ${reloaded}`).waitFor()
    await arrived(one, reloaded)
    expect(await sum(one).count()).toBe(1)
    // The node keeps it for a page that was away, and for a page that has seen it.
    await wire.received(missed, 1)
    await Promise.all([one.reload(), two.goto(board.url)])
    await Promise.all([arrived(one, reloaded), arrived(two, missed)])
    expect(await Promise.all([one, two].map((page) => sum(page).count()))).toEqual([1, 1])
    wire.close()
  })

  it("shows that the result of a report is no longer kept, and runs another one", async () => {
    await one.evaluate(() => {
      const cursor = "2.AAAAAAAA.AQH9BQA"
      sessionStorage.setItem("live-board report", JSON.stringify({ id: "old", cursor }))
    })
    await one.reload()
    await one.getByText("The answer is not kept any more.").waitFor()
    await runReport(one)
    expect(await one.getByText("The answer is not kept any more.").count()).toBe(0)
  })

  it("shows terminal commands that work", async () => {
    const statement = async (name: string) => {
      await one.getByRole("button", { name, exact: true }).click()
      const command = await one.locator(".command code").textContent()
      // The words that a shell passes on.
      const script = `psql() { printf '%s\\0' "$@"; }; ${command!}`
      const [url, flag, text] = execFileSync("sh", ["-c", script]).toString().split("\0")
      expect([url, flag]).toEqual([board.database, "-c"])
      return text!
    }
    const packed = one.locator(".rows [data-status=packed]")
    expect(await packed.count()).toBeGreaterThan(0)
    await sql(await statement("Insert"))
    await sql(await statement("Update"))
    await sql(await statement("Notify"))
    await row(one, "Kiambu AA, 250 g").getByText("new", { exact: true }).waitFor()
    await one.getByRole("log").getByText("hello").waitFor()
    await vi.waitFor(async () => expect(await packed.count()).toBe(0))
  })

  const notify = (message: string) =>
    `select pg_notify('system_notifications', '{"type":"info","message":"${message}"}')`
  const cut = (...names: ReadonlyArray<string>) =>
    `select pg_terminate_backend(pid, 5000) from pg_stat_activity
     where application_name in (${names.map((name) => `'effect-realtime ${name}'`).join()})`
  const log = (page: Page, text: string) => page.getByRole("log").getByText(text)

  it.each(["reader", "link"])("shows every row after the %s is cut", async (name) => {
    // In one session, so that the row commits while the node does not listen.
    await sql(cut(name), insert(`Cut ${name}`))
    await Promise.all([one, two].map((page) => row(page, `Cut ${name}`).waitFor()))
    await Promise.all([one, two].map(ready))
    await sql(notify(`After the ${name}`))
    await Promise.all([one, two].map((page) => log(page, `After the ${name}`).waitFor()))
    expect(await row(one, `Cut ${name}`).count()).toBe(1)
  })

  it("shows when the server loses the database, recovers, and shows that events may be missing", async () => {
    const missing = log(one, "Notices may be missing here.")
    const back = log(one, "The connection to the database is back.")
    const before = [await missing.count(), await back.count()] as const
    await sql("alter role live_board nologin", cut("link", "reader"), insert("While deaf"))
    await Promise.all(
      [one, two].map(async (page) => {
        await page.getByText("The server has lost the database").waitFor()
        await page.getByText(/^As of .*until the database is back$/).waitFor()
        expect(await row(page, "While deaf").count()).toBe(0)
        // The server itself publishes this notice, so no spark runs along the broken half.
        const sparks = page.locator(".spark")
        await vi.waitFor(async () =>
          expect(
            await sparks.evaluateAll((all) =>
              all.map((spark) => getComputedStyle(spark).visibility)
            )
          ).toEqual(["hidden", "visible"])
        )
      })
    )
    await sql("alter role live_board login")
    await Promise.all([one, two].map(ready))
    await Promise.all([one, two].map((page) => row(page, "While deaf").waitFor()))
    await sql(insert("Heard again"), notify("Heard again"))
    await Promise.all(
      [one, two].map(async (page) => {
        await row(page, "Heard again").waitFor()
        await log(page, "Heard again").waitFor()
        expect(await row(page, "While deaf").count()).toBe(1)
      })
    )
    expect([await missing.count(), await back.count()]).toEqual([before[0] + 1, before[1] + 1])
  })

  it("fits on a phone with long texts", async () => {
    const phone = await open(360, 740)
    await sql(insert("W".repeat(6000)), insert("A name of many short words ".repeat(300)))
    await row(phone, "A name of many short words").waitFor()
    const [needed, given] = await phone.evaluate(() => [
      document.documentElement.scrollWidth,
      document.documentElement.clientWidth
    ])
    expect(needed).toBeLessThanOrEqual(given!)
    expect(given).toBe(360)
    await phone.close()
    await sql("delete from orders where length(customer) > 100")
  })

  it("shows a notice on a phone at any scroll position, and then the list", async () => {
    const phone = await open(390, 740)
    const newcomer = phone.locator(".newcomer")
    expect(await newcomer.count()).toBe(0)
    await sql(notify("Seen on the phone"))
    await newcomer.getByText("Seen on the phone").waitFor()
    await vi.waitFor(async () => {
      const box = await newcomer.boundingBox()
      expect(box!.y + box!.height).toBeLessThanOrEqual(740)
    })
    expect(await one.locator(".newcomer").isVisible()).toBe(false)
    await newcomer.click()
    await vi.waitFor(async () =>
      expect((await phone.locator("#notices").boundingBox())!.y).toBeLessThan(740)
    )
    await phone.close()
  })

  it("shows headings in full on a small phone", async () => {
    const phone = await open(320, 640)
    const overlaps = await phone.locator(".panel-head").evaluateAll((heads) =>
      heads.flatMap((head) => {
        const heading = head.querySelector("h2")!
        const text = document.createRange()
        text.selectNodeContents(heading)
        const { right, top, bottom } = text.getBoundingClientRect()
        return [...head.querySelectorAll("button")]
          .map((button) => button.getBoundingClientRect())
          .filter((box) => box.left < right && box.top < bottom && box.bottom > top)
          .map(() => heading.textContent)
      })
    )
    expect(overlaps).toEqual([])
    await phone.close()
  })

  it("has no console error in any test so far", () => {
    expect(faults).toEqual([])
  })

  it.runIf(process.env["LIVE_BOARD_SCREENSHOT"])("takes the screenshot of the README", async () => {
    // In a time zone where it is about 3 pm.
    const hours = ((27 - new Date().getUTCHours()) % 24) - 12
    const timezoneId = `Etc/GMT${hours > 0 ? "-" : "+"}${Math.abs(hours)}`
    await sql(
      "delete from orders where id > 12",
      "alter table orders alter id restart with 13",
      "update orders set status = 'packed' where id in (7, 8)",
      "update orders set status = 'new' where customer = 'Sofía Herrera'"
    )
    const page = await open(1280, 820, { timezoneId })
    await arrived(page, await runReport(page))
    await sql(notify("Grinder 2 is back"))
    await page.getByLabel("Kind of notice").selectOption("warning")
    await page.getByLabel("Message").fill("Courier comes at four today")
    await page.getByRole("button", { name: "Send" }).click()
    await log(page, "Courier comes at four today").waitFor()
    await sql(
      "update orders set status = 'packed' where customer = 'Sofía Herrera'",
      `insert into orders (customer, item, amount_cents)
       values ('Ada Nowak', 'Kiambu AA, 250 g whole bean', 1020)`
    )
    // While the new rows are highlighted, after the newest one reached its full height.
    await page.locator("[data-change=changed]").waitFor()
    await page.locator("[data-change=added]").waitFor()
    await page
      .locator("[data-change=added]")
      .evaluate((row) => Promise.all(row.getAnimations().map(({ finished }) => finished)))
    const picture = await page.screenshot({ path: process.env["LIVE_BOARD_SCREENSHOT"]! })
    expect(picture.byteLength).toBeLessThan(300_000)
  })
})
