/**
 * `useRows` in a real Chromium: 10,000 rows of which 1,000 change in a second, for 5 seconds.
 * REALTIME_TEST_LONG=1 runs 20 seconds.
 */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { afterAll, beforeAll } from "vitest"
import { executablePath, launchPlain } from "../support/chromium.ts"
import { until } from "../support/until.ts"
import { Entries, type Entry } from "./page/entries.ts"
import type { RowsPage } from "./page/rows.tsx"
import { site } from "./support/site.ts"

declare global {
  interface Window {
    readonly rowsPage: RowsPage
  }
}

const count = 10_000
/** The rows from here on do not change. */
const quiet = 5000
const perSecond = 1000
const seconds = process.env["REALTIME_TEST_LONG"] === "1" ? 20 : 5

const row = (id: number): Entry => ({
  id,
  status: id % 20 === 0 ? "done" : "open",
  n: 0,
  note: `the note of the row ${id}`
})
const ids = Array.from({ length: count }, (_, id) => id)

describe.skipIf(executablePath === undefined)("useRows in Chromium", () => {
  let browser: Awaited<ReturnType<typeof launchPlain>>
  beforeAll(async () => {
    browser = await launchPlain()
  })
  afterAll(() => browser?.close())

  it.live(
    "renders once in a frame, in a few milliseconds, and goes on after a cut without a new state",
    () =>
      Effect.gen(function* () {
        const { outbox, path, url } = yield* site()
        const { rows } = outbox
        yield* outbox.transaction(Effect.forEach(ids, (id) => rows.insert(Entries, row(id))))

        const page = yield* Effect.acquireRelease(
          Effect.promise(() => browser.context.newPage()),
          (page) => Effect.promise(() => page.close())
        )
        const received: Array<string> = []
        let sockets = 0
        page.on("websocket", (socket) => {
          sockets++
          socket.on("framereceived", ({ payload }) => {
            for (const frame of String(payload).split("\n")) {
              received.push(frame.slice(0, 200))
            }
          })
        })
        const complaints: Array<string> = []
        page.on("pageerror", ({ message }) => complaints.push(message))
        const frames = (text: string) => received.filter((frame) => frame.includes(text)).length
        yield* Effect.promise(() => page.goto(`${url}rows.html`))
        const live = () =>
          Effect.promise(() =>
            page
              .locator(`body:has(#all[data-status="live"]):has(#done[data-status="live"])`)
              .waitFor({ state: "attached", timeout: 20_000 })
          )
        const shown = Effect.promise(() => page.evaluate(() => window.rowsPage.rows()))
        /** The page shows the rows of the table. */
        const isRight = Effect.gen(function* () {
          const all = yield* rows.all(Entries)
          const done = all.filter(({ status }) => status === "done")
          const last = JSON.stringify({ all, done })
          yield* Effect.repeat(Effect.delay(shown, 50), {
            until: (now) => now === last
          })
        })
        yield* live()
        yield* isRight
        yield* Effect.promise(() => page.evaluate(() => window.rowsPage.begin()))

        /** Changes a row, moves it between the filters, or takes it out or back in. */
        let made = 0
        const gone = new Set<number>()
        const change = Effect.suspend((): Effect.Effect<unknown, unknown> => {
          const n = ++made
          const id = (n * 7919) % quiet
          if (gone.delete(id)) return rows.insert(Entries, { ...row(id), n })
          if (n % 10 === 0) {
            gone.add(id)
            return rows.delete(Entries, { id })
          }
          return rows.update(
            Entries,
            { id },
            n % 3 ? { n } : { n, status: n % 2 ? "open" : "done" }
          )
        })
        const begun = yield* Clock.currentTimeMillis
        const total = perSecond * seconds
        let due = 0
        while (due < total) {
          const passed = (yield* Clock.currentTimeMillis) - begun
          due = Math.min(Math.floor((passed * perSecond) / 1000), total)
          const some = due - made
          yield* outbox.transaction(Effect.forEach(Array.from({ length: some }), () => change))
          yield* Effect.sleep(10)
        }
        const elapsed = (yield* Clock.currentTimeMillis) - begun
        yield* isRight
        const { costs, rendered } = yield* Effect.promise(() =>
          page.evaluate(() => window.rowsPage.measured())
        )
        const sorted = costs.toSorted((one, other) => one - other)
        const at = (part: number) => sorted[Math.floor(sorted.length * part)]!
        const twice = rendered.filter(
          // Where no frame was painted for so long, a render does not wait for one.
          ({ at, frame }, index) =>
            frame === rendered[index - 1]?.frame && at - rendered[index - 1]!.at < 100
        )
        if (seconds > 5) {
          process.stderr.write(
            `${rendered.length} renders in ${elapsed} ms, own code for each: median ${at(0.5).toFixed(1)} ms, p95 ${at(0.95).toFixed(1)} ms\n`
          )
        }
        expect(twice).toEqual([])
        expect(costs.length).toBeGreaterThan(10 * seconds)
        expect(at(0.5)).toBeGreaterThan(0)
        expect(at(0.5)).toBeLessThan(5)
        const still = ids.slice(quiet)
        expect(
          yield* Effect.promise(() => page.evaluate((ids) => window.rowsPage.kept(ids), still))
        ).toBe(still.length)

        // A link that is cut goes on from where it was.
        received.length = 0
        path.cut()
        yield* Effect.forEach(Array.from({ length: 100 }), () => change)
        yield* until(() => sockets === 2)
        yield* live()
        yield* isRight
        expect(frames(`"type":"state"`)).toBe(0)
        expect(frames(`"type":"subscribed"`)).toBe(2)
        expect(frames(`"state":"recovered"`)).toBe(2)
        expect(
          yield* Effect.promise(() => page.evaluate((ids) => window.rowsPage.kept(ids), still))
        ).toBe(still.length)
        expect(complaints).toEqual([])
      }).pipe(Effect.scoped),
    60_000
  )
})
