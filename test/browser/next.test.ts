/**
 * The Next.js example in a real Chromium: rows that a server component reads, and a client component that
 * goes on from their cursor. REALTIME_TEST_LONG=1 runs it: it installs Next.js.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { gzipSync } from "node:zlib"
import type { Browser } from "playwright-core"
import { afterAll, beforeAll } from "vitest"
import { executablePath, launch } from "../support/chromium.ts"
import { layerInstalledDatabase } from "../support/database.ts"
import { buildNext, nextSite } from "./support/nextSite.ts"
import { holdScripts, recorded } from "./support/paints.ts"

const long = process.env["REALTIME_TEST_LONG"] === "1"

const rendered = "Ada: new, Bob: new, Cleo: new"
const changes = [
  "insert into orders values (4, 'Dora', 'new')",
  "update orders set status = 'packed' where id = 2",
  "delete from orders where id = 1"
]
const heard = "INSERT 4, UPDATE 2, DELETE 1"
const changed = "Bob: packed, Cleo: new, Dora: new"

/** Bytes that a page with our hooks loads more than the same page without, gzipped, at most. */
const budgets = { "/": 95_000, "/untyped": 63_500 }

describe.skipIf(!long || executablePath === undefined)("the Next.js example", () => {
  let browser: Browser
  let example: Awaited<ReturnType<typeof buildNext>>
  beforeAll(async () => {
    ;[example, browser] = await Promise.all([buildNext(), launch()])
  }, 400_000)
  afterAll(async () => {
    await browser?.close()
    example?.remove()
  })

  const open = (url: string, hold: boolean) =>
    Effect.gen(function* () {
      const page = yield* Effect.acquireRelease(
        Effect.promise(() => browser.newPage()),
        (page) => Effect.promise(() => page.close())
      )
      page.setDefaultTimeout(25_000)
      const record = yield* Effect.promise(() => recorded(page))
      const hydrate = hold ? yield* Effect.promise(() => holdScripts(page)) : () => {}
      yield* Effect.promise(() => page.goto(url, { waitUntil: "commit" }))
      return {
        ...record,
        page,
        hydrate,
        waits: (selector: string) => Effect.promise(() => page.locator(selector).waitFor()),
        shown: (within: string) =>
          Effect.promise(async () => {
            const items = await page.locator(`${within} li`).allTextContents()
            return items.join(", ")
          }),
        /** What the page has asked for beside the files of Next.js. */
        asked: () =>
          record.requests
            .map((request) => new URL(request.url()).pathname)
            .filter((path) => !/^\/_(next|_nextjs)/.test(path))
      }
    })

  describe.each(["production", "development"] as const)("in %s", (mode) => {
    it.live(
      "loses and doubles nothing that changes before it hydrates",
      () =>
        Effect.gen(function* () {
          const { sql, url } = yield* nextSite(example.app, mode)
          const orders = yield* open(`${url}/`, true)
          const tally = yield* open(`${url}/tally`, true)
          for (const { shown, waits } of [orders, tally]) {
            yield* waits("li >> nth=2")
            expect(yield* shown("ul")).toBe(rendered)
          }
          yield* Effect.forEach(changes, sql, { discard: true })
          for (const { hydrate, sent, shown } of [orders, tally]) {
            expect(yield* shown("ul")).toBe(rendered)
            expect(sent("hello")).toEqual([])
            hydrate()
          }
          yield* orders.waits("ul[aria-busy=false]")
          yield* orders.waits("li:has-text('Dora')")
          yield* tally.waits(`ul[data-status=live][data-heard="${heard}"]`)
          for (const { shown } of [orders, tally]) expect(yield* shown("ul")).toBe(changed)

          yield* sql("update orders set status = 'sent' where id = 3")
          yield* orders.waits("li:has-text('sent')")
          yield* tally.waits(`ul[data-heard="${heard}, UPDATE 3"]`)
          const table = yield* sql("select customer || ': ' || status t from orders order by id")
          for (const { asked, complaints, sent, shown } of [orders, tally]) {
            expect(yield* shown("ul")).toBe(table.map((row) => row["t"]).join(", "))
            expect(asked()).toHaveLength(1)
            expect(sent("hello")).toHaveLength(1)
            expect(sent("subscribe")).toHaveLength(1)
            expect(complaints).toEqual([])
          }
        }).pipe(Effect.provide(layerInstalledDatabase)),
      180_000
    )

    it.live(
      "shows in each boundary the server's rows first, and then each later event once",
      () =>
        Effect.gen(function* () {
          const { release, sql, url } = yield* nextSite(example.app, mode)
          const { asked, complaints, paints, shown, waits } = yield* open(`${url}/streamed`, false)
          yield* waits("#early ul[data-status=live]")
          yield* Effect.forEach(changes, sql, { discard: true })
          yield* waits(`#early ul[data-heard="${heard}"]`)
          expect(yield* shown("#late")).toBe("")
          yield* release
          yield* waits(`#late ul[data-status=live][data-heard="${heard}"]`)
          expect(yield* shown("#early")).toBe(changed)
          expect(yield* shown("#late")).toBe(changed)
          const { early, late } = yield* Effect.promise(paints)
          expect(early!.find((text) => text !== "no list")).toBe(rendered)
          expect(late!.slice(0, 2)).toEqual(["no list", rendered])
          expect(asked()).toEqual(["/streamed"])
          expect(complaints).toEqual([])
        }).pipe(Effect.provide(layerInstalledDatabase)),
      180_000
    )
  })

  it.live(
    "loads at most its budget of bytes more than a page without our hooks",
    () =>
      Effect.gen(function* () {
        const { url } = yield* nextSite(example.app, "production")
        const scripts = (path: string, done: string) =>
          Effect.gen(function* () {
            const { page, requests, waits } = yield* open(`${url}${path}`, false)
            yield* Effect.promise(() => page.waitForLoadState("networkidle"))
            yield* waits(done)
            const files = requests.filter((request) => request.url().includes(".js"))
            const texts = yield* Effect.promise(() =>
              Promise.all(
                files.map(async (request) => {
                  const response = await request.response()
                  return response!.body()
                })
              )
            )
            return texts.reduce((sum, text) => sum + gzipSync(text, { level: 9 }).length, 0)
          }).pipe(Effect.scoped)
        const plain = yield* scripts("/plain", "li >> nth=2")
        for (const [path, budget] of Object.entries(budgets)) {
          const share = (yield* scripts(path, "[aria-busy=false]")) - plain
          console.log(`Next.js, ${path}: gzip ${share} more than ${plain}`)
          expect(share).toBeGreaterThan(5000)
          expect(share).toBeLessThanOrEqual(budget)
        }
      }).pipe(Effect.provide(layerInstalledDatabase)),
    180_000
  )
})
