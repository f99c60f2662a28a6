/** Runs `npm run cluster`: its output, the rows and the open pages on all nodes, and the loss of a node. */
import { Effect, Layer, Stream } from "effect"
import { RealtimeClient } from "effect-realtime/client"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { Notices, Orders, Pages } from "../../examples/live-board/channels.ts"
import { until } from "../support/until.ts"
import { sql } from "./liveBoard.ts"

const root = resolve(import.meta.dirname, "../..")
const NODE_COMPILE_CACHE = join(root, "node_modules/.cache/live-board")

let child: ChildProcess
const lines: Array<string> = []
let log = ""

const cluster = (env: NodeJS.ProcessEnv = {}) =>
  spawn(process.execPath, ["-C", "@effect-realtime/source", "examples/cluster/cluster.ts"], {
    cwd: root,
    env: { ...process.env, NODE_COMPILE_CACHE, ...env },
    stdio: ["ignore", "pipe", "pipe"]
  })

const starting = async () => {
  child = cluster()
  child.stderr!.on("data", (data: Buffer) => (log += data.toString()))
  await new Promise<void>((ready, failed) => {
    createInterface({ input: child.stdout! }).on("line", (line) => {
      lines.push(line)
      if (line.startsWith("ready ")) ready()
    })
    child.once("exit", (code) => failed(new Error(`the cluster ended with ${code}:\n${log}`)))
  })
}

beforeAll(starting, 180_000)

afterAll(async () => {
  const ended = once(child, "exit")
  child.kill("SIGINT")
  await ended
}, 20_000)

/** The nodes as the cluster printed them last. */
const nodes = () =>
  new Map(
    lines.flatMap((line) => {
      const [, name, pid, url] = /^node (\d) (\d+) (http:\S+)$/.exec(line) ?? []
      return name === undefined ? [] : [[name, { pid: Number(pid), url: url! }] as const]
    })
  )

const valueOf = (word: string) => lines.find((line) => line.startsWith(`${word} `))!.split(" ")[1]!

/** A page without a browser: the orders, and the open pages. */
const page = (url: string) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(
      RealtimeClient.layer({
        url: `${url.replace("http", "ws")}/realtime`,
        backoff: { initial: 50, cap: 500, resetAfter: 5000 }
      })
    )
    const client = yield* Effect.provideContext(RealtimeClient.RealtimeClient, context)
    const seen = {
      customers: [] as ReadonlyArray<string>,
      notices: [] as Array<string>,
      pages: 0,
      node: ""
    }
    yield* client.rows(Orders).pipe(
      Stream.runForEach(({ rows }) =>
        Effect.sync(() => {
          seen.customers = rows.map(({ customer }) => customer)
        })
      ),
      Effect.forkScoped
    )
    yield* client.events(Notices).pipe(
      Stream.runForEach((item) =>
        Effect.sync(() => {
          if (item._tag === "Event") seen.notices.push(item.payload.message)
        })
      ),
      Effect.forkScoped
    )
    yield* client.presence(Pages).pipe(
      Stream.runForEach(({ count, me }) =>
        Effect.sync(() => {
          seen.pages = count
          seen.node = me?.state.node ?? ""
        })
      ),
      Effect.forkScoped
    )
    yield* client.present(Pages, {})
    return seen
  })

describe("npm run cluster", () => {
  it("prints the database, each node with its process, and at last the balancer", () => {
    expect(lines[0]).toMatch(/^database postgresql:/)
    expect([...nodes().keys()].toSorted()).toEqual(["1", "2", "3"])
    expect(lines.at(-1)).toMatch(/^ready http:/)
  })

  it("says in one line that PORT is taken, and ends", async () => {
    const { port } = new URL(valueOf("ready"))
    const second = cluster({ PORT: port })
    const said: Array<string> = []
    for (const stream of [second.stdout!, second.stderr!]) {
      stream.on("data", (data: Buffer) => said.push(data.toString()))
    }
    expect(await once(second, "close")).toEqual([1, null])
    expect(said.join("")).toBe(
      `Port ${port} is taken. Give PORT another number, or 0 for a free one.\n`
    )
  }, 30_000)

  it("shows rows and open pages of all nodes on each, and goes on when a node is killed", async () => {
    await Effect.runPromise(
      Effect.gen(function* () {
        const urls = [...nodes().values()].map(({ url }) => url)
        const pages = yield* Effect.forEach([...urls, valueOf("ready")], page)
        yield* until(() => pages.every((one) => one.pages === 4))
        expect(
          pages
            .slice(0, 3)
            .map(({ node }) => node)
            .toSorted()
        ).toEqual(["node 1", "node 2", "node 3"])
        const query = (statement: string) =>
          Effect.promise(() => sql(valueOf("database"), statement))
        const insert = (customer: string) =>
          query(`insert into orders (customer, item) values ('${customer}', 'Tea')`)
        yield* insert("before")
        yield* until(() => pages.every(({ customers }) => customers.includes("before")))
        if (log.includes("nats nats:")) {
          const held = query("select name from realtime.leases order by name")
          expect(yield* Effect.repeat(held, { until: (rows) => rows.length === 2 })).toEqual([
            { name: "listener" },
            { name: "reader" }
          ])
        }
        // A node that changes to the one that listens for all may lose some.
        let sent = 0
        yield* Effect.suspend(() =>
          query(`select pg_notify('system_notifications', '{"type":"info","message":"${sent++}"}')`)
        ).pipe(
          Effect.repeat({
            until: () =>
              pages[0]!.notices.some((one) => pages.every(({ notices }) => notices.includes(one)))
          })
        )
        for (const { notices } of pages) expect(new Set(notices).size).toBe(notices.length)
        const { pid } = nodes().get("2")!
        process.kill(pid, "SIGKILL")
        yield* insert("during")
        yield* until(() => nodes().get("2")!.pid !== pid)
        yield* until(() => pages.every(({ customers }) => customers.includes("during")))
        for (const { customers } of pages) {
          expect(customers.filter((customer) => customer === "during")).toHaveLength(1)
        }
        yield* until(() => pages.every(({ node }) => node !== ""))
      }).pipe(Effect.scoped, Effect.timeout("120 seconds"))
    )
  }, 130_000)
})
