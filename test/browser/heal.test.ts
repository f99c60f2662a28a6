/** A page in a real Chromium that mounts and unmounts, loses its network, or sleeps. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import type { BrowserContext } from "playwright-core"
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

/** The record of one socket of a page. */
class Socket {
  closed = false
  /** Types of frames. */
  readonly sent: Array<string> = []
  readonly received: Array<string> = []
}

const typesOf = (payload: string | Buffer) =>
  String(payload)
    .split("\n")
    .map((line) => (JSON.parse(line) as { readonly type: string }).type)

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

describe.skipIf(executablePath === undefined)("a page in Chromium", () => {
  let browser: Awaited<ReturnType<typeof launchPlain>>
  let context: BrowserContext
  beforeAll(async () => {
    browser = await launchPlain()
    context = browser.context
  })
  afterAll(() => browser?.close())

  /** A visible tab. */
  const tab = Effect.acquireRelease(
    Effect.promise(() => context.newPage()),
    (page) => Effect.promise(() => page.close())
  )

  const open = (url: string) =>
    Effect.gen(function* () {
      const page = yield* tab
      const sockets: Array<Socket> = []
      page.on("websocket", (opened) => {
        const socket = new Socket()
        sockets.push(socket)
        opened.on("framesent", ({ payload }) => socket.sent.push(...typesOf(payload)))
        opened.on("framereceived", ({ payload }) => socket.received.push(...typesOf(payload)))
        opened.on("close", () => {
          socket.closed = true
        })
      })
      yield* Effect.promise(() => page.goto(url))
      const list = page.locator("output")
      return {
        page,
        sockets,
        mount: Effect.promise(() => page.evaluate(() => window.board.mount())),
        /** Waits until this many sockets have the subscription, so that events arrive. */
        active: (count: number) =>
          until(() => sockets.length === count && sockets.at(-1)!.received.includes("subscribed")),
        shown: Effect.promise(async () => ({
          value: ((await list.textContent()) ?? "").split(" ").map(Number),
          stale: await list.getAttribute("data-stale")
        })),
        shows: (last: number) =>
          Effect.promise(() => page.locator(`output[data-last="${last}"]`).waitFor())
      }
    })

  it.live(
    "opens one socket for 50 mounts in StrictMode, and closes it after the last unmount",
    () =>
      Effect.gen(function* () {
        const { publish, sessions, url } = yield* site()
        const { active, page, shows, sockets } = yield* open(url)
        yield* Effect.promise(() =>
          page.evaluate(async () => {
            const turn = () => new Promise((resolve) => setTimeout(resolve, 0))
            for (let i = 0; i < 50; i++) {
              window.board.unmount()
              // oxlint-disable-next-line no-await-in-loop -- one after the other
              await turn()
              const before = window.board.effects
              window.board.mount()
              // Waits for both effects of StrictMode, even on a busy machine.
              // oxlint-disable-next-line no-await-in-loop -- one after the other
              while (window.board.effects < before + 2) await turn()
            }
          })
        )
        yield* active(1)
        yield* publish(1, 10)
        yield* shows(10)
        const { effects, handled } = yield* Effect.promise(() => page.evaluate(() => window.board))
        // StrictMode ran each effect twice.
        expect(effects).toBe(100)
        expect(handled).toEqual(numbers(10))
        yield* Effect.promise(() => page.evaluate(() => window.board.unmount()))
        yield* until(() => sockets[0]!.closed && sessions() === 0)
        expect(sockets.length).toBe(1)
        expect(sockets[0]!.sent.slice(0, 2)).toEqual(["hello", "subscribe"])
        expect(sockets[0]!.sent.filter((type) => type === "subscribe").length).toBe(1)
      }).pipe(Effect.scoped)
  )

  const offline = (path: { readonly silence: () => void }) =>
    Effect.promise(() => {
      // The browser reports offline, and its open socket receives nothing.
      path.silence()
      return context.setOffline(true)
    })
  const online = (path: { readonly heal: () => void }) =>
    Effect.promise(() => {
      path.heal()
      return context.setOffline(false)
    })

  it.live("shows all 100 events that were published while it was offline", () =>
    Effect.gen(function* () {
      const { path, publish, url } = yield* site()
      const { active, mount, page, shown, shows, sockets } = yield* open(url)
      yield* mount
      yield* active(1)
      yield* publish(1, 1)
      yield* shows(1)
      yield* offline(path)
      yield* publish(2, 100)
      expect(yield* Effect.promise(() => page.evaluate(() => navigator.onLine))).toBe(false)
      expect((yield* shown).value).toEqual([1])
      yield* online(path)
      yield* shows(101)
      expect(yield* shown).toEqual({ value: numbers(101), stale: "false" })
      expect(sockets.length).toBe(2)
    }).pipe(Effect.scoped)
  )

  it.live("is stale after it was offline for more events than the node remembers", () =>
    Effect.gen(function* () {
      const { path, publish, url } = yield* site()
      const { active, mount, page, shown, shows } = yield* open(url)
      yield* mount
      yield* active(1)
      yield* publish(1, 1)
      yield* shows(1)
      yield* offline(path)
      yield* publish(2, 300)
      yield* online(path)
      yield* Effect.promise(() => page.locator("[data-stale=true]").waitFor())
      yield* active(2)
      yield* publish(302, 1)
      yield* shows(302)
      expect(yield* shown).toEqual({ value: [1, 302], stale: "true" })
    }).pipe(Effect.scoped)
  )

  it.live(
    "reconnects as soon as it is shown after it was hidden and slept longer than the heartbeat",
    () =>
      Effect.gen(function* () {
        const { path, publish, sessions, url } = yield* site({
          limits: { pingInterval: "1 second", pingTimeout: "1 second" }
        })
        const { active, mount, page, shown, shows, sockets } = yield* open(url)
        yield* mount
        yield* active(1)
        yield* publish(1, 1)
        yield* shows(1)

        // Another tab is visible, the browser freezes this one, and the network is silent.
        yield* tab
        yield* Effect.promise(() =>
          page.waitForFunction(() => document.visibilityState === "hidden")
        )
        const devtools = yield* Effect.promise(() => context.newCDPSession(page))
        yield* Effect.promise(() => devtools.send("Page.setWebLifecycleState", { state: "frozen" }))
        path.silence()
        yield* until(() => sessions() === 0)
        yield* publish(2, 100)
        path.heal()
        // The page has no sign of it.
        expect(sockets).toMatchObject([{ closed: false }])

        yield* Effect.promise(() => page.bringToFront())
        yield* shows(101)
        expect(yield* shown).toEqual({ value: numbers(101), stale: "false" })
        const happened = yield* Effect.promise(() => page.evaluate(() => window.board.happened))
        expect(happened.map(([what]) => what).filter((what) => what !== "socket")).toEqual([
          "hidden",
          "freeze",
          "resume",
          "visible"
        ])
        const at = (what: string) => happened.findLast(([name]) => name === what)![1]
        expect(at("socket")).toBeGreaterThanOrEqual(at("resume"))
        expect(at("socket") - at("visible")).toBeLessThanOrEqual(100)
      }).pipe(Effect.scoped)
  )
})
