import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Cursor from "../../src/internal/cursorText.ts"
import { layerDatabase } from "../support/database.ts"
import { long, type Random, random, seed } from "./support/random.ts"

const times = (long ? 20 : 1) * 2000

/** A snapshot with its transactions around `start`, in the text that PostgreSQL would return. */
const anySnapshot = (r: Random, start: bigint, span: number) => {
  const xmax = start + BigInt(r.int(span))
  const running: Array<bigint> = []
  for (let x = start; x < xmax; x++) if (r.chance(0.3)) running.push(x)
  return { xmax, running, text: `${running[0] ?? xmax}:${xmax}:${running.join(",")}` }
}

/** A later snapshot: some transactions have ended, and none runs again. */
const later = (r: Random, before: Cursor.PgSnapshot, span: number) => {
  const xmax = before.xmax + BigInt(r.int(span))
  const running = before.running.filter(() => r.chance(0.5))
  for (let x = before.xmax; x < xmax; x++) if (r.chance(0.3)) running.push(x)
  return Cursor.parseSnapshot(`${running[0] ?? xmax}:${xmax}:${running.join(",")}`)!
}

const anyPosition = (r: Random): Cursor.Position => {
  const start = r.pick([1n, 700n, 2n ** 31n, 2n ** 34n + 3n, 2n ** 62n + 3n])
  const base = Cursor.parseSnapshot(anySnapshot(r, start, r.pick([2, 12, 300])).text)!
  return r.chance(0.5)
    ? Cursor.whole(base)
    : Cursor.midway(base, later(r, base, r.pick([2, 12, 300])), BigInt(r.int(2 ** 31)) ** 2n)
}

const anyCursor = (r: Random): Cursor.DurableCursor => {
  const position = anyPosition(r)
  const tx = (position.next ?? position.base).xmax - 1n
  const [id, at] = tx === 0n ? [0n, 0n] : [BigInt(r.int(2 ** 31)) ** 2n, BigInt(r.int(2 ** 51))]
  return { identity: "aB3-_x9Z", position, witness: { tx, id, at } }
}

describe("Durable cursors", () => {
  it("a cursor decides visibility as PostgreSQL does, for every spelling of a snapshot", () => {
    const r = random(seed)
    for (let n = 0; n < times; n++) {
      const a = anySnapshot(r, 5n, 14)
      const b = anySnapshot(r, 5n, 14)
      const [left, right] = [Cursor.parseSnapshot(a.text)!, Cursor.parseSnapshot(b.text)!]
      let all = true
      for (let x = 1n; x < 24n; x++) {
        const inA = x < a.xmax && !a.running.includes(x)
        const inB = x < b.xmax && !b.running.includes(x)
        expect(Cursor.visible(left, x), `seed ${seed}`).toBe(inA)
        if (inB && !inA) all = false
      }
      expect(Cursor.contains(left, right), `seed ${seed}: ${a.text} ${b.text}`).toBe(all)
    }
  })

  it("a client in another language sees as PROTOCOL says whether a cursor is in the middle", () => {
    const r = random(seed)
    for (let n = 0; n < times; n++) {
      const cursor = anyCursor(r)
      const text = Cursor.formatDurable(cursor) + (r.chance(0.5) ? ".digest" : "")
      let bytes = [...Buffer.from(text.split(".")[2]!, "base64url")]
      const varint = () => {
        const length = bytes.findIndex((byte) => byte < 128) + 1
        const value = bytes.slice(0, length).reduceRight((sum, byte) => sum * 128 + (byte & 127), 0)
        bytes = bytes.slice(length)
        return value
      }
      for (let number = 0; number < 3; number++) varint()
      for (let count = varint(); count > 0; count--) varint()
      const isMidway = cursor.position.next !== undefined
      expect([bytes.length > 0, Cursor.isMidway(text)]).toEqual([isMidway, isMidway])
    }
  })

  it.live("a cursor agrees with pg_visible_in_snapshot of PostgreSQL", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const r = random(seed)
      for (let n = 0; n < 40; n++) {
        const { text, xmax } = anySnapshot(r, 2n ** 33n + 3n, 40)
        const rows = yield* sql<{ readonly x: string; readonly seen: boolean }>`
          select x::text, pg_visible_in_snapshot(x::text::xid8, ${text}::pg_snapshot) seen
          from generate_series(${xmax - 42n}::bigint, ${xmax + 5n}::bigint) x`
        const snapshot = Cursor.parseSnapshot(text)!
        for (const { seen, x } of rows) {
          expect(Cursor.visible(snapshot, BigInt(x)), `seed ${seed}: ${text} ${x}`).toBe(seen)
        }
        const again = yield* sql`select ${Cursor.formatSnapshot(snapshot)}::pg_snapshot::text t`
        expect(again).toEqual([{ t: Cursor.formatSnapshot(snapshot) }])
      }
    }).pipe(Effect.provide(layerDatabase))
  )

  it("a cursor survives formatting and parsing unchanged, in under 1,200 characters", () => {
    const r = random(seed)
    for (let n = 0; n < times; n++) {
      const cursor = anyCursor(r)
      const text = Cursor.formatDurable(cursor)
      expect(Cursor.parseDurable(text), `seed ${seed}: ${text}`).toEqual(cursor)
      expect(text.length).toBeLessThan(1200)
    }
  })

  it("a cursor has one spelling, and damaged, foreign or endless text is rejected without a throw", () => {
    const r = random(seed)
    const alphabet = "ABCabc019-_.:~ \n\u0000é"
    let accepted = 0
    for (let n = 0; n < times; n++) {
      const text = Cursor.formatDurable(anyCursor(r))
      const at = 11 + r.int(text.length - 11)
      const damaged = r.pick([
        () => text.slice(0, at),
        () => text.slice(0, at) + r.pick([...alphabet]) + text.slice(at + 1),
        () => text.slice(0, at) + r.pick([...alphabet]) + text.slice(at),
        () => text.slice(0, at) + text.slice(at + 1)
      ])()
      const parsed = Cursor.parseDurable(damaged)
      if (parsed === undefined) continue
      accepted++
      // An accepted text is the one spelling of another valid position.
      expect(Cursor.formatDurable(parsed)).toBe(damaged)
      const { base, next } = parsed.position
      expect(Cursor.parseSnapshot(Cursor.formatSnapshot(base))).toEqual(base)
      expect(next === undefined || Cursor.contains(next, base)).toBe(true)
    }
    expect(accepted).toBeLessThan(times / 2)
    for (const odd of [
      "",
      "1..",
      "2.aB3-_x9Z.",
      "1.aB3-_x9Z.AQA",
      "1.aB3-_x9Z.AAABAA",
      "2.aB3-_x9Z.AAABAA=",
      "3.aB3-_x9Z.AAABAA",
      // A witness in a snapshot that sees nothing.
      "2.aB3-_x9Z.AQABAA",
      `2.aB3-_x9Z.${"_".repeat(8000)}`,
      `2.aB3-_x9Z.${"A".repeat(9000)}`,
      "abc:1"
    ]) {
      expect(Cursor.parseDurable(odd), odd).toBeUndefined()
    }
    for (const odd of [
      "",
      "1:2",
      "0:2:",
      "3:2:",
      "1:3:3",
      "1:5:3,2",
      `3:${2n ** 32n}:`,
      "1:5:3,3",
      "2:5:1",
      "1:3:1,",
      "1:3: 1",
      `1:${2n ** 63n}:`,
      `1:9999:${Array.from({ length: 5001 }, (_, n) => n + 1).join(",")}`
    ]) {
      expect(Cursor.parseSnapshot(odd), odd).toBeUndefined()
    }
  })

  it("a cursor tells which events a snapshot already contains", () => {
    const a = Cursor.parseSnapshot("10:14:10,12")!
    const b = Cursor.parseSnapshot("12:20:12,17")!
    const cursor = { identity: "aB3-_x9Z", position: Cursor.midway(a, b, 100n) }
    const seen = (tx: string | undefined, id: string) => Cursor.seenEvent(cursor)({ id, tx })
    expect(seen("11", "999")).toBe(true)
    expect(seen("12", "1")).toBe(false)
    expect(seen("10", "100")).toBe(true)
    expect(seen("10", "101")).toBe(false)
    expect(seen("15", "100")).toBe(true)
    expect(seen("17", "1")).toBe(false)
    expect(seen(undefined, "1")).toBe(false)
    expect(seen("nonsense", "1")).toBe(false)
    expect(seen("11", "live:7")).toBe(false)
  })
})
