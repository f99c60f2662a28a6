/**
 * A page in a real Chromium that a server rendered: its rows change before it hydrates, and while parts
 * of it are still to be streamed.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Browser } from "playwright-core"
import { afterAll, beforeAll } from "vitest"
import { executablePath, launch } from "../support/chromium.ts"
import { layerInstalledDatabase } from "../support/database.ts"
import { holdScripts, recorded } from "./support/paints.ts"
import { streamedSite } from "./support/streamedSite.ts"

const rendered = "loading, 1 new, 2 new, 3 new"
const changes = [
  "insert into orders values (4, 'new')",
  "update orders set status = 'packed' where id = 2",
  "delete from orders where id = 1"
]
const heard = "INSERT 4, UPDATE 2, DELETE 1"
const changed = "live, 2 packed, 3 new, 4 new"

describe.skipIf(executablePath === undefined)("a streamed page in Chromium", () => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launch()
  })
  afterAll(() => browser?.close())

  const open = (url: string, hold: boolean) =>
    Effect.gen(function* () {
      const page = yield* Effect.acquireRelease(
        Effect.promise(() => browser.newPage()),
        (page) => Effect.promise(() => page.close())
      )
      const record = yield* Effect.promise(() => recorded(page))
      const release = hold ? yield* Effect.promise(() => holdScripts(page)) : () => {}
      yield* Effect.promise(() => page.goto(url, { waitUntil: "commit" }))
      return {
        ...record,
        page,
        release,
        /** Waits until a section has heard this. */
        hears: (section: string, heard: string) =>
          Effect.promise(() => page.locator(`#${section} ul[data-heard="${heard}"]`).waitFor()),
        shows: (section: string, first: string) =>
          Effect.promise(() =>
            page.locator(`#${section} li:first-child`, { hasText: first }).waitFor()
          ),
        shown: (section: string) =>
          Effect.promise(async () => {
            const items = await page.locator(`#${section} li`).allTextContents()
            return items.join(", ")
          })
      }
    })

  it.live("shows in each boundary the server's rows first, and then each later event once", () =>
    Effect.gen(function* () {
      const { problems, release, sql, url } = yield* streamedSite
      const { complaints, hears, paints, requests, sent, shown, shows } = yield* open(url, false)
      yield* shows("early", "live")
      yield* Effect.forEach(changes, sql, { discard: true })
      yield* hears("early", heard)
      expect(yield* shown("late")).toBe("")
      // The late boundary's snapshot is older than the subscription, which the page already has.
      yield* release
      yield* hears("late", heard)
      yield* shows("late", "live")
      expect(yield* shown("early")).toBe(changed)
      expect(yield* shown("late")).toBe(changed)

      const { early, late } = yield* Effect.promise(paints)
      expect(early!.find((text) => text !== "no list")).toBe(rendered)
      expect(late!.slice(0, 2)).toEqual(["no list", rendered])
      expect(early!.at(-1)).toBe(changed)
      expect(late!.at(-1)).toBe(changed)
      // One more change reaches both once.
      yield* sql("update orders set status = 'sent' where id = 3")
      yield* hears("early", `${heard}, UPDATE 3`)
      yield* hears("late", `${heard}, UPDATE 3`)
      expect(requests.map((request) => new URL(request.url()).pathname)).toEqual([
        "/",
        "/hydrate.js"
      ])
      expect(sent("hello")).toHaveLength(1)
      expect(complaints).toEqual([])
      expect(problems).toEqual([])
    }).pipe(Effect.provide(layerInstalledDatabase))
  )

  it.live("loses and doubles nothing that changes before it hydrates", () =>
    Effect.gen(function* () {
      const { problems, release, sql, url } = yield* streamedSite
      const page = yield* open(url, true)
      yield* release
      yield* page.shows("early", "loading")
      yield* page.shows("late", "loading")
      yield* Effect.forEach(changes, sql, { discard: true })
      expect(yield* page.shown("early")).toBe(rendered)
      expect(yield* page.shown("late")).toBe(rendered)
      page.release()
      for (const section of ["early", "late"]) {
        yield* page.hears(section, heard)
        yield* page.shows(section, "live")
        expect(yield* page.shown(section)).toBe(changed)
      }
      yield* sql("update orders set status = 'sent' where id = 3")
      yield* page.hears("early", `${heard}, UPDATE 3`)
      yield* page.hears("late", `${heard}, UPDATE 3`)
      expect(page.sent("hello")).toHaveLength(1)
      expect(page.requests.filter((request) => request.isNavigationRequest())).toHaveLength(1)
      expect(page.requests).toHaveLength(2)
      expect(page.complaints).toEqual([])
      expect(problems).toEqual([])
    }).pipe(Effect.provide(layerInstalledDatabase))
  )
})
