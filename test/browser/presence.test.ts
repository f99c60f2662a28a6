/** `usePresence` in a real Chromium: two pages see each other come, change and leave, on one node and on two. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { afterAll, beforeAll } from "vitest"
import * as MemoryBus from "../../src/server/MemoryBus.ts"
import { executablePath, launchPlain } from "../support/chromium.ts"
import { site } from "./support/site.ts"

describe.skipIf(executablePath === undefined)("usePresence in Chromium", () => {
  let browser: Awaited<ReturnType<typeof launchPlain>>
  beforeAll(async () => {
    browser = await launchPlain()
  })
  afterAll(() => browser?.close())

  it.live.each([
    ["one node", 1],
    ["two nodes", 2]
  ] as const)("shows each page the other one, on %s", ([, nodes]) =>
    Effect.gen(function* () {
      const network = MemoryBus.network()
      const sites = yield* Effect.all(Array.from({ length: nodes }, () => site({ network })))
      const complaints: Array<string> = []
      const open = (name: string, { url } = sites[0]!) =>
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
                { polling: 20, timeout: 15_000 }
              )
            })
          return { page, sent, shows }
        })
      const ann = yield* open("ann")
      yield* ann.shows("ann, me")
      const bob = yield* open("bob", sites.at(-1))
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
      yield* Effect.promise(() => ann.page.close())
      yield* bob.shows()
      expect(complaints).toEqual([])
    }).pipe(Effect.scoped)
  )
})
