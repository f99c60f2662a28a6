/** C2: a page in a real Chromium that is offline while it publishes. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Page } from "playwright-core"
import { afterAll, beforeAll } from "vitest"
import { executablePath, launchPlain } from "../support/chromium.ts"
import { until } from "../support/until.ts"
import type { Board } from "./page/main.tsx"
import { site } from "./support/site.ts"

declare global {
  interface Window {
    readonly board: Board
  }
}

/** How long the page is offline, in milliseconds: as in the report, or as long as it takes to see it. */
const away = process.env["REALTIME_TEST_LONG"] ? 12_500 : 4000

describe.skipIf(executablePath === undefined)("a page in Chromium", () => {
  let browser: Awaited<ReturnType<typeof launchPlain>>
  beforeAll(async () => {
    browser = await launchPlain()
  })
  afterAll(() => browser?.close())

  /** A mounted page whose connection is open. */
  const open = (url: string) =>
    Effect.gen(function* () {
      const page = yield* Effect.acquireRelease(
        Effect.promise(() => browser.context.newPage()),
        (page) => Effect.promise(() => page.close())
      )
      const sent: Array<string> = []
      page.on("websocket", (socket) => {
        socket.on("framesent", ({ payload }) => void sent.push(String(payload)))
      })
      yield* Effect.promise(() => page.goto(url))
      yield* Effect.promise(() => page.evaluate(() => window.board.mount()))
      yield* has(page, "status", "open")
      return {
        page,
        frames: (type: string) => sent.filter((text) => text.includes(`"type":"${type}"`))
      }
    })

  const has = (page: Page, name: string, value: string, timeout = 10_000) =>
    Effect.promise(() => page.locator(`p[data-${name}="${value}"]`).waitFor({ timeout }))

  const setOffline = (yes: boolean) => Effect.promise(() => browser.context.setOffline(yes))

  const publish = (page: Page, n: number) =>
    Effect.promise(() => page.evaluate((n) => window.board.publish(n), n))

  const now = (page: Page) => Effect.promise(() => page.evaluate(() => performance.now()))

  /** Waits until so much time has passed in the page. */
  const passed = (page: Page, from: number, millis: number) =>
    Effect.promise(() =>
      page.waitForFunction((until) => performance.now() >= until, from + millis, {
        timeout: 20_000
      })
    )

  const shows = (page: Page, text: string) =>
    Effect.promise(() =>
      page.waitForFunction((text) => document.querySelector("output")?.textContent === text, text)
    )

  const published = (page: Page) =>
    Effect.promise(() => page.evaluate(() => window.board.published))

  it.live("shows within 3 s that it is offline, and publishes once when it is online", () =>
    Effect.gen(function* () {
      const { path, url } = yield* site()
      const { frames, page } = yield* open(url)
      const from = yield* now(page)
      path.silence()
      yield* Effect.acquireRelease(setOffline(true), () => setOffline(false))
      yield* publish(page, 7)
      yield* has(page, "waiting", "1")
      yield* has(page, "status", "waiting", 3000)
      yield* has(page, "reason", "silent")
      yield* passed(page, from, away)
      expect(yield* published(page)).toEqual([])
      path.heal()
      yield* setOffline(false)
      yield* shows(page, "7")
      yield* has(page, "waiting", "0")
      expect(yield* published(page)).toEqual([[7, "done"]])
      // Once into the void, once over the new connection, under one key.
      const keys = frames("publish").map((text) => JSON.parse(text).key)
      expect(keys.length).toBe(2)
      expect(new Set(keys).size).toBe(1)
      yield* publish(page, 8)
      yield* shows(page, "7 8")
      // The client made no attempt while the browser was offline.
      expect(frames("hello").length).toBe(2)
    }).pipe(Effect.scoped)
  )

  it.live("stays open after a signal that is wrong, with one ping", () =>
    Effect.gen(function* () {
      const { url } = yield* site()
      const { frames, page } = yield* open(url)
      yield* Effect.promise(() => page.evaluate(() => window.dispatchEvent(new Event("offline"))))
      yield* until(() => frames("ping").length === 1)
      yield* publish(page, 1)
      yield* shows(page, "1")
      yield* has(page, "status", "open", 100)
      expect(frames("hello").length).toBe(1)
    }).pipe(Effect.scoped)
  )

  it.live("shows within 5 s of a publish that the network is silent, and publishes once", () =>
    Effect.gen(function* () {
      const { path, url } = yield* site()
      const { page } = yield* open(url)
      path.silence()
      yield* publish(page, 1)
      yield* has(page, "reason", "silent", 5000)
      path.heal()
      yield* shows(page, "1")
      yield* has(page, "waiting", "0")
      expect(yield* published(page)).toEqual([[1, "done"]])
    }).pipe(Effect.scoped)
  )
})
