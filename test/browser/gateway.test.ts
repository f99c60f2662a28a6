/** `examples/gateway`: a page of Python and a gateway of the command line, in a real Chromium. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { resolve } from "node:path"
import { start } from "../bin/support/run.ts"
import { executablePath, launch } from "../support/chromium.ts"
import { execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { python } from "../support/python.ts"

const folder = resolve(import.meta.dirname, "../../examples/gateway")
const secret = "0123456789abcdef0123456789abcdef"

/** Starts the web server of the example, and gives its address. */
const pageOf = (gateway: string) =>
  Effect.gen(function* () {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(python!, ["-u", `${folder}/app.py`, gateway], {
          env: { ...process.env, PORT: "0", REALTIME_JWT_SECRET: secret },
          stdio: ["ignore", "pipe", "inherit"]
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const line = yield* Effect.callback<string>((done) => {
      createInterface({ input: child.stdout }).once("line", (line) => done(Effect.succeed(line)))
    })
    return /^page (\S+)$/.exec(line)![1]!
  })

const ready = (lines: Queue.Dequeue<string>) =>
  Effect.map(Queue.take(lines), (line) => /^ready (\S+)$/.exec(line)![1]!)

describe.skipIf(executablePath === undefined || python === undefined)("examples/gateway", () => {
  it("the guide shows the file that the test runs with", () => {
    const [guide, file] = ["README.md", "gateway.json"].map((name) =>
      readFileSync(`${folder}/${name}`, "utf8")
    )
    expect(guide).toContain(file!.trimEnd())
  })

  it.live("a page of Python shows the orders of its team, and its members talk", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = (text: string) => execute(url, text)
      yield* sql("create table orders (id int primary key, team text, status text)")
      yield* sql("insert into orders values (1, 'red', 'new'), (2, 'blue', 'new')")
      const args = ["serve", "--config", `${folder}/gateway.json`, "--port", "0", "--origin", "any"]
      const env = { DATABASE_URL: url, REALTIME_JWT_SECRET: secret }
      const gateway = yield* start(args, { env })
      const address = yield* pageOf(yield* ready(gateway.lines))
      const browser = yield* Effect.acquireRelease(
        Effect.promise(() => launch()),
        (browser) => Effect.promise(() => browser.close())
      )
      const open = (query: string) =>
        Effect.promise(async () => {
          const page = await browser.newPage()
          const faults: Array<string> = []
          page.on("pageerror", ({ message }) => faults.push(message))
          await page.goto(`${address}/?${query}`)
          const shows = (list: string, ...texts: ReadonlyArray<string>) =>
            page.waitForFunction(
              ([list, texts]) =>
                Array.from(document.querySelectorAll(`${list} li`), (one) => one.textContent).join(
                  "|"
                ) === texts,
              [list, texts.join("|")] as const,
              { polling: 20, timeout: 10_000 }
            )
          return { page, faults, shows }
        })
      const ann = yield* open("user=ann&team=red")
      const bob = yield* open("user=bob&team=red")
      const eve = yield* open("user=eve&team=blue")
      yield* Effect.promise(() => ann.shows("#orders", "1 new"))
      yield* Effect.promise(() => eve.shows("#orders", "2 new"))
      yield* sql("update orders set status = 'packed'")
      yield* sql("insert into orders values (3, 'red', 'new')")
      yield* Effect.promise(() => ann.shows("#orders", "1 packed", "3 new"))
      yield* sql("update orders set team = 'blue' where id = 3")
      yield* Effect.promise(() => ann.shows("#orders", "1 packed"))
      yield* Effect.promise(() => eve.shows("#orders", "2 packed", "3 new"))
      yield* Effect.promise(async () => {
        await ann.page.fill("#text", "hello")
        await ann.page.press("#text", "Enter")
      })
      yield* Effect.promise(() => bob.shows("#chat", "hello"))
      expect(yield* Effect.promise(() => eve.page.locator("#chat li").count())).toBe(0)
      expect([ann, bob, eve].flatMap(({ faults }) => faults)).toEqual([])
      yield* gateway.signal
      expect(yield* gateway.ended).toMatchObject({ code: 0 })
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )
})
