/**
 * The law of rows: whatever commits, is lost, told again, renamed and broken off, in whatever order, rows
 * that are `live` are those of the table at one position, and in the end at the newest. Listeners without
 * rows receive each event once, or a gap.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import type { Rows } from "effect-realtime/client"
import type { ServerFrame } from "../../src/Frame.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"
import { type Order, Orders } from "./support/rows.ts"
import * as Table from "./support/table.ts"

const Numbers = Schema.Literals([0, 1, 2, 3, 5, 8])
const step = <const Does extends ReadonlyArray<string>>(does: Does) =>
  Schema.Struct({ does: Schema.Literals(does), n: Numbers })
const Step = Schema.Union([
  step(["commit", "commit", "tick", "tick", "idle"]),
  step(["commit", "tick", "say", "say", "hear"]),
  step(["hear", "say", "say", "load"]),
  step(["say", "say", "load", "gap", "rights"]),
  step(["watch", "unwatch", "listen", "unlisten", "reload", "wait"]),
  step(["say", "drop", "refuse", "end", "forget", "remember"])
])
type Step = typeof Step.Type

const brief = (rows: Iterable<readonly [unknown, unknown]>) =>
  [...rows].map(([id, owner]) => `${id}:${owner}`).toSorted()

/** Whether rows are those of the table at one position. */
const isAt = (table: ReturnType<typeof Table.make>, rows: ReadonlyArray<string>) =>
  table.selects.findLastIndex((select) => brief(select).join() === rows.join())

/** Writes what arrives into one map. */
const naive = () => {
  const rows = new Map<unknown, unknown>()
  return {
    rows: () => brief(rows),
    hear: (frame: ServerFrame | undefined) => {
      if (frame?.type === "state") {
        for (const { id, owner } of frame.rows as ReadonlyArray<Record<string, unknown>>) {
          rows.set(id, owner)
        }
      }
      if (frame?.type !== "events") return
      for (const { data } of frame.events) {
        const { data: row, operation } = data as {
          data: Record<string, unknown>
          operation: string
        }
        if (operation === "DELETE") rows.delete(row["id"])
        else rows.set(row["id"], row["owner"])
      }
    }
  }
}

describe("rows", () => {
  const seed = 15
  const count = { live: 0, states: 0, drops: 0, gaps: 0, wrong: 0, subscribes: 0, runs: 0 }
  it.effect.prop(
    `are those of the table at their position (seed ${seed})`,
    { steps: Schema.Array(Step).check(Schema.isMinLength(60), Schema.isMaxLength(140)) },
    ({ steps }) =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const table = Table.make(server)
        const client = yield* Client.make(server, {
          linger: 4,
          backoff: { initial: 2, cap: 2, first: 2, resetAfter: 10_000 }
        })
        const { host } = client.sync
        const simple = naive()
        type Watched = {
          readonly rows: () => Rows.Rows<typeof Order.Type>
          readonly stop: () => void
        }
        const watched: Array<Watched> = []
        const listened: Array<() => void> = []
        const say = () => {
          const frame = table.say()
          simple.hear(frame)
          if (frame?.type === "gap") count.gaps++
          if (frame?.type === "state") count.states++
        }
        const watch = () => {
          const store = Orders.table.rows.open(host, Orders, {})
          const stop = store.watch({
            onChange: () => {},
            onEnd: (error) => assert.fail(String(error))
          })
          watched.push({ rows: () => store.shown() as never, stop })
          return store
        }
        const listen = () => {
          let from: number | undefined
          const has = new Set<string>()
          const listener = {
            onEvents: (
              batch: ReadonlyArray<{ readonly _tag: string; readonly cursor?: string | undefined }>
            ) => {
              for (const event of batch) {
                if (event._tag === "Gap") {
                  from = Table.positionOf(event.cursor!)
                  continue
                }
                const { id } = event as unknown as { readonly id: string }
                assert.isFalse(has.has(id), `event ${id} twice`)
                assert.isAtLeast(Math.floor(Number(id) / 10), from! + 1, "behind the position")
                assert.isAtMost(Math.floor(Number(id) / 10), from! + 1, "none is left out")
                has.add(id)
              }
              from = Table.positionOf(batch.at(-1)!.cursor!)
            },
            onCursor: (cursor: string) => {
              from ??= Table.positionOf(cursor)
              assert.strictEqual(Table.positionOf(cursor), from, "moves with events only")
            },
            onEnd: (error: unknown) => assert.fail(String(error))
          }
          listened.push(client.sync.listen(Orders, listener))
        }
        const take = Effect.fnUntraced(function* ({ does, n }: Step) {
          switch (does) {
            case "say":
              return say()
            case "watch":
              return void watch()
            case "unwatch":
              return watched.splice(n % Math.max(1, watched.length), 1)[0]?.stop()
            case "listen":
              return listen()
            case "unlisten":
              return listened.splice(n % Math.max(1, listened.length), 1)[0]?.()
            case "reload":
              return void (watched.length > 0 && Orders.table.rows.open(host, Orders, {}).reload())
            case "wait":
              return yield* TestClock.adjust(n)
            case "drop":
              if (server.sockets.length === 0 || server.last.readyState !== 1) return
              table.drop()
              count.drops++
              return yield* TestClock.adjust(n)
            default:
              return void table[does](n)
          }
        })
        const check = () => {
          for (const { rows } of watched) {
            const shown = rows()
            const list = brief(shown.rows.map(({ id, owner }) => [id, owner]))
            if (shown.status !== "live") continue
            count.live++
            assert.isAtLeast(isAt(table, list), 0, `no position has ${list}`)
          }
          if (isAt(table, simple.rows()) < 0) count.wrong++
        }
        watch()
        for (const step of steps) {
          yield* take(step)
          check()
          yield* TestClock.adjust(1)
        }
        // Everything that is under way ends.
        const isDone = () => watched.every(({ rows }) => rows().status === "live")
        table.remember()
        for (let i = 0; i < 80 && (i < 8 || !isDone()); i++) {
          while (table.requests.length > 0) table.hear(0)
          table.load(2)
          for (let page = 0; page < 200; page++) table.tick()
          while (table.frames.length > 0) say()
          yield* TestClock.adjust(4)
          check()
        }
        for (const { rows } of watched) {
          const shown = rows()
          assert.strictEqual(shown.status, "live")
          const list = brief(shown.rows.map(({ id, owner }) => [id, owner]))
          assert.deepStrictEqual(list, brief(table.selects.at(-1)!))
        }
        count.subscribes += server.sent.filter(({ type }) => type === "subscribe").length
        count.runs++
        for (const { stop } of watched) stop()
        for (const stop of listened) stop()
      }),
    { arbitrary: { runs: 100, seed, size: 140 } }
  )

  it("are wrong where a client writes what arrives into one map", () => {
    assert.isAbove(count.wrong, count.runs)
  })

  it("are live, lost, told again and broken off often in these", () => {
    assert.isAbove(count.live, 1500)
    assert.isAbove(count.states, 200)
    assert.isAbove(count.gaps, 100)
    assert.isAbove(count.drops, 120)
    assert.isAbove(count.subscribes, 400)
  })
})
