/**
 * The LISTENs of one database session: many in one statement, each answered once, even when the
 * session ends.
 */
import type { PgConnection, Result } from "@effect/sql-pg/PgConnection"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import * as Listens from "../../../../src/server/internal/link/listenBatch.ts"

const done: Result = { command: "LISTEN", rowCount: 0, oid: null, rows: [], fields: [] }

const refused = new SqlError({
  reason: new UnknownError({ cause: new Error("no such language"), message: "no such language" })
})

/** A session that records its statements and answers them once the test opens its gate. */
const session = Effect.gen(function* () {
  const sent: Array<string> = []
  let gate = Deferred.makeUnsafe<void>()
  let blocks = true
  const query = (sql: string) =>
    Effect.suspend(() => {
      sent.push(sql)
      return sql.startsWith("do ") && !blocks
        ? Effect.fail(refused)
        : Effect.as(Deferred.await(gate), done)
    })
  const pinned = { query } as unknown as PgConnection
  yield* Listens.join(pinned, query)
  return {
    pinned,
    sent,
    open: Effect.suspend(() => Deferred.succeed(gate, undefined)),
    withoutBlocks: () => {
      blocks = false
    },
    ask: (sql: string) => Effect.forkChild(pinned.query(sql), { startImmediately: true })
  }
})

/** A hundred turns of the event loop. */
const rounds = Effect.repeat(
  Effect.callback<void>((resume) => {
    setImmediate(() => resume(Effect.void))
  }),
  { times: 100 }
)

const names = (count: number) => Array.from({ length: count }, (_, n) => `LISTEN "c_${n}"`)

describe("The LISTENs of a session", () => {
  it.live("LISTENs requested while one is under way go out in one statement, in order", () =>
    Effect.gen(function* () {
      const { ask, open, sent } = yield* session
      const fibers = yield* Effect.forEach([...names(40), `UNLISTEN "c_3"`], ask)
      yield* rounds
      yield* open
      yield* Effect.forEach(fibers, Fiber.join)
      const all = sent.flatMap((sql) =>
        sql.startsWith("do ") ? sql.slice("do $$begin ".length, -"; end$$".length).split("; ") : sql
      )
      expect(all).toEqual([...names(40), `UNLISTEN "c_3"`])
      expect(sent.length).toBeLessThanOrEqual(2)
    }).pipe(Effect.scoped)
  )

  it.live("a statement holds at most 64 LISTENs, and at most 5 are confirmed in a turn", () =>
    Effect.gen(function* () {
      const { ask, open, sent } = yield* session
      let now = 0
      let most = 0
      const count = () => {
        most = Math.max(most, now)
        now = 0
      }
      const fibers = yield* Effect.forEach(names(300), ask)
      for (const fiber of fibers) fiber.addObserver(() => now++)
      let going = true
      const round = () => {
        count()
        if (going) setImmediate(round)
      }
      setImmediate(round)
      yield* open
      yield* Effect.forEach(fibers, Fiber.join)
      going = false
      expect(sent.length).toBeGreaterThanOrEqual(5)
      expect(sent.length).toBeLessThanOrEqual(7)
      expect(Math.max(...sent.map((sql) => sql.split("LISTEN").length - 1))).toBe(64)
      // A LISTEN that is alone is confirmed at once.
      expect(most).toBeLessThanOrEqual(4 + 1)
    }).pipe(Effect.scoped)
  )

  it.live("LISTENs go out one by one when the server rejects blocks, and it is asked once", () =>
    Effect.gen(function* () {
      const { ask, open, sent, withoutBlocks } = yield* session
      withoutBlocks()
      yield* open
      const fibers = yield* Effect.forEach(names(10), ask)
      yield* Effect.forEach(fibers, Fiber.join)
      const more = yield* Effect.forEach(names(10), ask)
      yield* Effect.forEach(more, Fiber.join)
      expect(sent.filter((sql) => sql.startsWith("do "))).toHaveLength(1)
      expect(sent.filter((sql) => sql.startsWith("LISTEN"))).toEqual([...names(10), ...names(10)])
    }).pipe(Effect.scoped)
  )

  it.live("other statements, and channel names that break out of a block, go out unchanged", () =>
    Effect.gen(function* () {
      const { ask, open, sent } = yield* session
      const odd = ["select 1", `LISTEN "a$$b"`, `LISTEN "a""b"`]
      const fibers = yield* Effect.forEach(odd, ask)
      expect(sent).toEqual(odd)
      yield* open
      yield* Effect.forEach(fibers, Fiber.join)
    }).pipe(Effect.scoped)
  )

  it.live("every LISTEN is answered when the session ends, and a later UNLISTEN goes out", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { ask, open, pinned, sent } = yield* Scope.provide(session, scope)
      const fibers = yield* Effect.forEach(names(100), ask)
      yield* rounds
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), {
        startImmediately: true
      })
      yield* open
      yield* Fiber.join(closing)
      yield* Effect.forEach(fibers, Fiber.await)
      yield* pinned.query(`UNLISTEN "c_1"`)
      expect(sent.at(-1)).toBe(`UNLISTEN "c_1"`)
    })
  )
})
