/**
 * Using the live board: on a phone and a desk, in light and dark, with the keyboard alone, and while parts
 * of it are away.
 */
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import type { AxeResults } from "axe-core"
import type { Browser, Page } from "playwright-core"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import * as LiveBoard from "../examples/liveBoard.ts"
import { executablePath, launch } from "../support/chromium.ts"

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")

/** What is wrong with a page: what axe finds, small targets, and texts that do not fit. */
const faultsOf = async (page: Page) => {
  if (await page.evaluate(() => !("axe" in globalThis))) await page.evaluate(axe)
  const violations = await page.evaluate(async () => {
    // What fades in has another contrast until it is there.
    const ends = document
      .getAnimations()
      .filter(({ effect }) => effect?.getComputedTiming().iterations !== Infinity)
    await Promise.allSettled(ends.map(({ finished }) => finished))
    const { axe } = globalThis as unknown as { readonly axe: { run(): Promise<AxeResults> } }
    const { violations } = await axe.run()
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join()}`)
  })
  const misfits = await page.evaluate(() => {
    const all = (selector: string) => [...document.querySelectorAll<HTMLElement>(selector)]
    const small = all("button, a, input, select")
      .filter((element) => element.ariaHidden !== "true")
      .filter((element) => {
        const { height, width } = element.getBoundingClientRect()
        // A link in a sentence is as wide as its words.
        return height < 44 || (width < 44 && !element.matches("p a"))
      })
      .map((element) => `small: ${element.outerHTML}`)
    const cut = all("button, .amount, .panel-head p, .sentence")
      .filter((element) => element.scrollWidth > element.clientWidth + 1)
      .map((element) => `cut: ${element.outerHTML}`)
    const { clientWidth, scrollWidth } = document.documentElement
    return [...small, ...cut, ...(scrollWidth > clientWidth ? ["wider than the screen"] : [])]
  })
  return [...violations, ...misfits]
}

const eventually = (look: () => Promise<void>) => vi.waitFor(look, 30_000)

describe.skipIf(executablePath === undefined)("using the live board", () => {
  const data = LiveBoard.dataDirectory()
  const errors: Array<string> = []
  let board: LiveBoard.LiveBoard
  let browser: Browser
  /** In all four looks. */
  let pages: ReadonlyArray<Page>
  let phone: Page
  let desk: Page

  beforeAll(async () => {
    ;[board, browser] = await Promise.all([
      LiveBoard.startLiveBoard({ LIVE_BOARD_DATA: data.path }),
      launch()
    ])
    pages = await Promise.all(
      ([390, 1280] as const).flatMap((width) =>
        (["light", "dark"] as const).map(async (colorScheme) => {
          const page = await browser.newPage({
            viewport: { width, height: 800 },
            colorScheme,
            // A color of an animation may be too pale for axe.
            reducedMotion: "reduce"
          })
          page.setDefaultTimeout(30_000)
          page.on("pageerror", (error) => errors.push(error.message))
          await page.goto(board.url)
          await page.getByText("Up to date").waitFor()
          return page
        })
      )
    )
    phone = pages[0]!
    desk = pages[2]!
  }, 120_000)

  afterAll(async () => {
    await browser?.close()
    await board?.end("SIGTERM")
    data.remove()
  })

  const sql = (...statements: ReadonlyArray<string>) => LiveBoard.sql(board.database, ...statements)
  const order = async (id: number) => {
    const [row] = await sql(
      `select to_jsonb(orders) - 'updated_at' as row from orders where id = ${id}`
    )
    return row?.["row"]
  }
  const row = (page: Page, id: number) => page.locator(`[data-order="${id}"]`)
  const button = (page: Page, name: string | RegExp) => page.getByRole("button", { name })
  const onAll = (look: (page: Page) => Promise<unknown>) => Promise.all(pages.map(look))

  const faults = () => Promise.all(pages.map(faultsOf))

  it("has no fault at 390 and 1,280 px, in light and dark, with all of it in use", async () => {
    await sql("update orders set amount_cents = -2147483648, status = 'new' where id = 3")
    await onAll(async (page) => {
      await row(page, 3).getByText("-€21,474,836.48").waitFor()
      await button(page, /new$/).click()
      await row(page, 9).waitFor({ state: "detached" })
    })
    await button(desk, "Run report").click()
    await desk.getByText(/^Arrived on/).waitFor()
    expect((await desk.locator(".bar").first().boundingBox())!.width).toBeGreaterThan(80)
    await desk.getByLabel("Message").fill("Grinder 2 is back")
    await button(desk, "Send").click()
    await onAll((page) => page.getByRole("log").getByText("Grinder 2 is back").waitFor())
    await button(desk, "Delete order 3").click()
    await desk.getByText("Deleted order 3").waitFor()
    expect(await faults()).toEqual([[], [], [], []])
    await button(desk, "Dismiss").click()
    await onAll((page) => button(page, /all$/).click())
  })

  it("shows the orders of one status, those that get it, and not those that lose it", async () => {
    const ids = async () =>
      desk
        .locator("[data-order]")
        .evaluateAll((rows) => rows.map((row) => (row as HTMLElement).dataset["order"]))
    await button(desk, /packed$/).click()
    await eventually(async () => expect(await ids()).toEqual(["9", "8", "7"]))
    await sql(
      "update orders set status = 'packed' where id = 1",
      "update orders set status = 'shipped' where id = 9"
    )
    await eventually(async () => expect(await ids()).toEqual(["8", "7", "1"]))
    await sql("update orders set status = 'shipped' where status = 'packed'")
    await desk.getByText("No packed orders now").waitFor()
    await button(desk, "Show all orders").click()
    await eventually(async () => expect(await ids()).toHaveLength(11))
  })

  it("puts a deleted order back exactly as it was, and says why it did not", async () => {
    const before = await order(4)
    const remove = async () => {
      await button(desk, "Delete order 4").click()
      await desk.getByText("Deleted order 4, Kofi Mensah").waitFor()
      await row(phone, 4).waitFor({ state: "detached" })
    }
    await remove()
    await desk.route("**/api/orders/4", (route) => route.abort())
    await button(desk, "Undo").click()
    await desk.getByText("is not undone. The server cannot be reached.").waitFor()
    expect(await order(4)).toBe(undefined)
    await desk.unroute("**/api/orders/4")
    await button(desk, "Try again").click()
    await row(phone, 4).waitFor()
    await desk.getByText("Deleted order 4").waitFor({ state: "detached" })
    expect(await order(4)).toEqual(before)

    await remove()
    await sql(
      "insert into orders (id, customer, item) overriding system value values (4, 'Another', 'Tea')"
    )
    await button(desk, "Undo").click()
    await desk.getByText("There is an order 4 again.").waitFor()
    expect(await order(4)).toMatchObject({ customer: "Another" })
    await button(desk, "Dismiss").click()
  })

  it("says that changes may be missing after a gap, until it has read the orders again", async () => {
    // A lock holds the next read up.
    const held = sql("begin", "lock table orders in access exclusive mode", "select pg_sleep(60)")
    const isEnded = held.then(
      () => false,
      () => true
    )
    const holder = `select pid from pg_locks
      where relation = 'orders'::regclass and mode = 'AccessExclusiveLock' and granted`
    await eventually(async () => expect(await sql(holder)).toHaveLength(1))
    await sql(
      "insert into realtime.messages (channel, payload) values ('table_updates_orders', '{}')"
    )
    const notice = (page: Page) => page.getByText(/^Changes may be missing/)
    await onAll((page) => notice(page).waitFor())
    await sql(`select pg_terminate_backend(pid) from (${holder}) as held`)
    expect(await isEnded).toBe(true)
    await onAll((page) => page.getByText("Up to date").waitFor())
    expect(await Promise.all(pages.map((page) => notice(page).count()))).toEqual([0, 0, 0, 0])
  })

  /** Presses Tab until the focus is on the control. Every stop on the way must show that it has the focus. */
  const tabTo = async (name: string, stops = 80): Promise<void> => {
    await desk.keyboard.press("Tab")
    const stop = await desk.evaluate(() => {
      const element = document.activeElement!
      const rings = [getComputedStyle(element), getComputedStyle(element, "::before")]
      return {
        name: element.ariaLabel ?? element.textContent,
        isSeen: rings.some(({ outlineStyle }) => outlineStyle !== "none")
      }
    })
    expect(stop.isSeen, stop.name).toBe(true)
    if (stop.name.trim() === name) return
    expect(stops, `Tab does not reach ${name}`).toBeGreaterThan(0)
    await tabTo(name, stops - 1)
  }
  const focus = () =>
    desk.evaluate(() => document.activeElement!.ariaLabel ?? document.activeElement!.textContent)
  /** The focus is on the control, which takes a key: it takes none until the server has answered the last action. */
  const goesTo = (name: string) =>
    eventually(async () => {
      expect(await focus()).toBe(name)
      expect(await desk.evaluate(() => document.activeElement!.ariaDisabled)).not.toBe("true")
    })

  it("can be used with the keyboard alone, and keeps the focus when a control goes", async () => {
    await desk.evaluate(() => (document.activeElement as HTMLElement).blur())
    await sql("update orders set status = 'packed' where id = 12")
    // Before Tab is pressed, so that no control goes while one has the focus.
    await button(desk, "Ship order 12").waitFor()
    await tabTo("Ship order 12")
    await desk.keyboard.press("Enter")
    await goesTo("Deliver order 12")
    await desk.keyboard.press("Space")
    await goesTo("Delete order 12")
    await desk.keyboard.press("Enter")
    await goesTo("Undo")
    await desk.keyboard.press("Enter")
    await row(desk, 12).waitFor()
    await goesTo("Orders")
    // Deleted in the database, under the focus.
    await tabTo("Delete order 12")
    await sql("delete from orders where id = 12")
    await row(desk, 12).waitFor({ state: "detached" })
    await goesTo("Pack order 11")
    await tabTo("Message")
    await desk.keyboard.type("By hand")
    await desk.keyboard.press("Enter")
    await phone.getByRole("log").getByText("By hand").waitFor()
    expect(await focus()).toBe("Message")
  })

  it("says that there are no orders, and adds the first one", async () => {
    await sql("delete from orders")
    await onAll((page) => page.getByText("No orders yet").waitFor())
    expect(await faults()).toEqual([[], [], [], []])
    await button(phone, "Add the first order").click()
    await onAll((page) => page.locator("[data-order]").waitFor())
    expect(await phone.getByText("No orders yet").count()).toBe(0)
  })

  it("says since when it is offline, what is old and what waits, and sends that once", async () => {
    const { port } = new URL(board.url)
    await board.end("SIGTERM")
    await onAll((page) => page.getByText(/^No connection since \d\d:\d\d:\d\d$/).waitFor())
    await onAll((page) =>
      page.getByText(/^As of \d\d:\d\d:\d\d, until the connection is back$/).waitFor()
    )
    const send = async (message: string) => {
      await phone.getByLabel("Message").fill(message)
      await button(phone, "Send").click()
    }
    await send("First")
    await send("Second")
    await phone.getByText("2 notices wait for the connection").waitFor()
    expect(await phone.locator("[data-waiting=true]").allTextContents()).toEqual([
      "info Secondwaits",
      "info Firstwaits"
    ])
    await button(phone, /^Pack order/).click()
    await phone.getByText("The server cannot be reached.").waitFor()
    expect(await faults()).toEqual([[], [], [], []])
    board = await LiveBoard.startLiveBoard({ LIVE_BOARD_DATA: data.path, PORT: port })
    await sql("update orders set customer = 'Back again'")
    // Without a nudge they wait for their backoff, up to 30 s.
    const isBack = (page: Page) => page.getByText("Back again").waitFor()
    // The others first: the notices are live, and reach the pages that are back.
    await onAll(async (page) => {
      if (page === phone) return
      await page.evaluate(() => window.dispatchEvent(new Event("online")))
      await isBack(page)
    })
    // Unless its backoff ended before the click.
    await Promise.any([button(phone, "Try now").click(), isBack(phone)])
    await isBack(phone)
    await onAll((page) => page.getByText("Up to date").waitFor())
    await onAll(async (page) => {
      await page.getByRole("log").getByText("Second").waitFor()
      const notices = await page.locator(".lines li:not([data-waiting]) p").allTextContents()
      expect(notices.slice(0, 2)).toEqual(["info Second", "info First"])
    })
    expect(await phone.locator("[data-waiting]").count()).toBe(0)
  })

  it("throws no error in any test", () => {
    expect(errors).toEqual([])
  })
})
