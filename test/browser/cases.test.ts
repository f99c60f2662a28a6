/** C3 to C8 in a real Chromium: each state of a channel that a page can show, and what it costs. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Page } from "playwright-core"
import { afterAll, beforeAll } from "vitest"
import { OrderUpdates } from "../../examples/channels.ts"
import { executablePath, launchPlain } from "../support/chromium.ts"
import { until } from "../support/until.ts"
import type { Cases } from "./page/cases.tsx"
import { Item } from "./page/items.ts"
import { site } from "./support/site.ts"

declare global {
  interface Window {
    readonly cases: Cases
  }
}

describe.skipIf(executablePath === undefined)("a page in Chromium", () => {
  let browser: Awaited<ReturnType<typeof launchPlain>>
  beforeAll(async () => {
    browser = await launchPlain()
  })
  afterAll(() => browser?.close())

  const open = (url: string) =>
    Effect.gen(function* () {
      const page = yield* Effect.acquireRelease(
        Effect.promise(() => browser.context.newPage()),
        (page) => Effect.promise(() => page.close())
      )
      let subscribed = 0
      page.on("websocket", (socket) => {
        socket.on("framereceived", ({ payload }) => {
          subscribed += String(payload).split('"type":"subscribed"').length - 1
        })
      })
      yield* Effect.promise(() => page.goto(`${url}cases.html`))
      return { page, active: until(() => subscribed > 0) }
    })

  const show = (page: Page, name: Parameters<Cases["show"]>[0], param = "") =>
    Effect.promise(() =>
      page.evaluate(([name, param]) => window.cases.show(name, param), [name, param] as const)
    )

  const has = (page: Page, selector: string) =>
    Effect.promise(() => page.locator(selector).waitFor({ state: "attached", timeout: 20_000 }))

  const textOf = (page: Page, selector: string) =>
    Effect.promise(() => page.locator(selector).textContent())

  const errorsOf = (page: Page) => Effect.promise(() => page.evaluate(() => window.cases.errors))

  it.live(
    "shows that the 101st subscription is beyond the limit, and goes on when one is free",
    () =>
      Effect.gen(function* () {
        const { url } = yield* site()
        const { page } = yield* open(url)
        yield* show(page, "follow", "0 to 100")
        yield* has(page, `p[data-status="stale"]`)
        for (let id = 0; id < 100; id++) yield* has(page, `p[id="${id}"][data-status="live"]`)
        expect(yield* textOf(page, `p[id="100"][data-status="stale"]`)).toContain("100")
        const errors = yield* errorsOf(page)
        expect(errors.length).toBe(1)
        expect(errors[0]).toContain("100")
        yield* show(page, "follow", "1 to 100")
        yield* has(page, `p[id="100"][data-status="live"]`)
      }).pipe(Effect.scoped)
  )

  it.live("shows that `authorize` threw, tells it once, and is live when it allows", () =>
    Effect.gen(function* () {
      let broken = true
      const { url } = yield* site({
        authorize: () =>
          broken ? Effect.die(new Error("the directory is away")) : Effect.succeed(true)
      })
      const { page } = yield* open(url)
      yield* show(page, "guarded")
      yield* has(page, `#guarded[data-status="stale"]`)
      expect(yield* textOf(page, "#guarded")).toMatch(/^The server failed to decide/)
      broken = false
      yield* has(page, `#guarded[data-status="live"]`)
      expect(yield* textOf(page, "#guarded")).toBe("")
      expect((yield* errorsOf(page)).length).toBe(1)
    }).pipe(Effect.scoped)
  )

  it.live("tells what is not read yet from what is empty, and reads anew for another key", () =>
    Effect.gen(function* () {
      const gates = { all: Promise.withResolvers<unknown>(), odd: Promise.withResolvers<unknown>() }
      const { url } = yield* site({
        answer: (url) => gates[url.endsWith("=all") ? "all" : "odd"].promise
      })
      const { page } = yield* open(url)
      yield* show(page, "loaded", "all")
      yield* has(page, `#loaded[data-status="loading"]`)
      expect(yield* textOf(page, "#loaded")).toBe("all: ")
      gates.all.resolve([])
      yield* has(page, `#loaded[data-status="live"]`)
      expect(yield* textOf(page, "#loaded")).toBe("all: ")
      yield* show(page, "loaded", "odd")
      yield* has(page, `#loaded[data-status="loading"]`)
      gates.odd.resolve([1, 3])
      yield* has(page, `#loaded[data-status="live"]`)
      expect(yield* textOf(page, "#loaded")).toBe("odd: 1 3")
      expect(yield* errorsOf(page)).toEqual([])
    }).pipe(Effect.scoped)
  )

  it.live("shows a read that failed, and reads again by itself", () =>
    Effect.gen(function* () {
      let reads = 0
      const gate = Promise.withResolvers<unknown>()
      const { url } = yield* site({
        answer: () => (++reads === 1 ? Promise.reject(new Error("no")) : gate.promise)
      })
      const { page } = yield* open(url)
      yield* show(page, "loaded", "all")
      yield* has(page, `#loaded[data-status="error"][data-error="answered 500"]`)
      yield* until(() => reads === 2)
      gate.resolve([7])
      yield* has(page, `#loaded[data-status="live"][data-error=""]`)
      expect(yield* textOf(page, "#loaded")).toBe("all: 7")
      expect(yield* errorsOf(page)).toEqual(["answered 500"])
    }).pipe(Effect.scoped)
  )

  it.live("shows the last value at once in a component that mounts later", () =>
    Effect.gen(function* () {
      const { realtime, url } = yield* site()
      const { active, page } = yield* open(url)
      yield* show(page, "last", "early")
      yield* active
      yield* realtime.publish(Item("last"), { n: 5 })
      yield* has(page, `#early:text-is("5")`)
      yield* show(page, "last", "early late")
      yield* has(page, "#late")
      yield* show(page, "firstOf", "late")
      yield* has(page, "#first")
      expect(yield* textOf(page, "#first")).toBe("5")
    }).pipe(Effect.scoped)
  )

  it.live("reads a query once more for 200 rows that are inserted at once", () =>
    Effect.gen(function* () {
      let requests = 0
      let rows = 0
      const { realtime, url } = yield* site({
        answer: async () => {
          requests++
          return Array.from({ length: rows }, () => null)
        }
      })
      const { active, page } = yield* open(url)
      yield* show(page, "queries")
      yield* active
      // The rows that changed before the subscription was active need a request as well.
      yield* until(() => requests === 2)
      yield* has(page, `p:text-is("0 new orders")`)
      rows = 200
      yield* Effect.forEach(
        Array.from({ length: rows }, (_, id) => id),
        (id) => {
          const data = { id, customer: "ann", status: "new" }
          return realtime.publish(OrderUpdates, { operation: "INSERT", data })
        },
        { discard: true }
      )
      yield* has(page, `p:text-is("200 new orders")`)
      expect(requests).toBe(3)
    }).pipe(Effect.scoped)
  )
})
