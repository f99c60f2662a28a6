/** `usePresence` in a real Chromium: two pages see each other join, change and leave. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { afterAll, beforeAll } from "vitest"
import { executablePath, launchPlain } from "../support/chromium.ts"
import { site } from "./support/site.ts"

describe.skipIf(executablePath === undefined)("usePresence in Chromium", () => {
  let browser: Awaited<ReturnType<typeof launchPlain>>
  beforeAll(async () => {
    browser = await launchPlain()
  })
  afterAll(() => browser?.close())

  it.live("shows each page the other one", () =>
    Effect.gen(function* () {
      const { url } = yield* site()
      const complaints: Array<string> = []
      const open = (name: string) =>
        Effect.gen(function* () {
          const page = yield* Effect.acquireRelease(
            Effect.promise(() => browser.context.newPage()),
            (page) => Effect.promise(() => page.close())
          )
          const sent: Array<string> = []
          page.on("pageerror", ({ message }) => complaints.push(message))
          page.on("websocket", (socket) =>
            socket.on("framesent", ({ payload }) => sent.push(JSON.parse(String(payload)).type))
          )
          yield* Effect.promise(() => page.goto(`${url}guests.html#${name}`))
          const shows = (...guests: ReadonlyArray<string>) =>
            Effect.promise(async () => {
              // The timers of a page behind another one run once in a second.
              await page.bringToFront()
              await page.waitForFunction(
                (all) =>
                  JSON.stringify(
                    Array.from(document.querySelectorAll("li"), (one) => one.textContent).toSorted()
                  ) === all,
                JSON.stringify(guests.toSorted()),
                { polling: 20, timeout: 5000 }
              )
            })
          return { page, sent, shows }
        })
      const ann = yield* open("ann")
      yield* ann.shows("ann, me")
      const bob = yield* open("bob")
      yield* ann.shows("ann, me", "bob")
      yield* bob.shows("ann", "bob, me")
      yield* Effect.promise(() => bob.page.click("#type"))
      yield* ann.shows("ann, me", "bob types")
      yield* bob.shows("ann", "bob types, me")
      yield* Effect.promise(() => bob.page.click("#leave"))
      yield* ann.shows("ann, me")
      yield* bob.shows("ann")
      const asked = bob.sent.filter((type) => type !== "ping")
      expect(asked).toEqual(["hello", "subscribe", "present", "present", "absent"])
      expect(complaints).toEqual([])
    }).pipe(Effect.scoped)
  )
})
