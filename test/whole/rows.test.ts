/**
 * The rows of every client equal those of the table at its position, after each frame: 16 writers, rows that
 * move between routes and in and out of filters, transactions that are rolled back, clients that leave and
 * return, slow sockets, gaps, and crashes that lose transactions, by a seed.
 *
 * Two clients that leave something out run beside: one keeps rows that left its filter, one reads no state
 * after a gap. Schedules in which these are right as well would show nothing.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, identity, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import type { Where } from "../../src/Frame.ts"
import * as Reader from "../../src/server/internal/outbox/memoryReader.ts"
import { MemoryTable } from "../../src/server/internal/outbox/memoryTable.ts"
import { make as writes } from "../../src/server/internal/outbox/memoryWrites.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { long, type Random, random, seed } from "../server/support/random.ts"
import { layerDoor, settle, visit } from "../support/sessions.ts"
import { Followed, RowsClient } from "./support/rowsClient.ts"

const Task = Schema.Struct({
  id: Schema.Int,
  room: Schema.NullOr(Schema.String),
  status: Schema.NullOr(Schema.String),
  owner: Schema.String,
  text: Schema.String
})
type Task = typeof Task.Type

const Tasks = Channel.table("tasks", Task, { key: "id", by: "room", filter: "status" })
const Notes = Channel.table("notes", Task, { key: "id", filter: "status", boundary: "owner" })
const tables = [Tasks, Notes] as const

const owners = ["ann", "bob"]
const rooms = ["a", "b", "no route", null]
const statuses = ["new", "sent", "done", null]
const channels = [Tasks("a").name, Tasks("b").name, Notes.name]
const wheres: ReadonlyArray<Where | undefined> = [
  undefined,
  { status: "new" },
  { status: ["sent", "new"] },
  { status: null }
]
const writers = 16
const ids = 12

const positive: unknown = expect.toSatisfy((count: number) => count > 0)

interface Counts {
  /** Frames after which the rows were compared. */
  compared: number
  recovered: number
  reset: number
  gaps: number
  crashes: number
  /** Comparisons in which a client that leaves something out was wrong. */
  careless: number
  deaf: number
}

const none: Counts = {
  compared: 0,
  recovered: 0,
  reset: 0,
  gaps: 0,
  crashes: 0,
  careless: 0,
  deaf: 0
}

/** The rows of tables after each message that was ever committed, also those that a crash lost. */
class History {
  readonly #after = new Map<bigint, ReadonlyMap<string, ReadonlyArray<Task>>>()
  readonly #table: MemoryTable

  constructor(table: MemoryTable) {
    this.#table = table
    this.#keep()
    const { rows } = table
    const commit = rows.commit.bind(rows)
    rows.commit = (...args) => {
      commit(...args)
      this.#keep()
    }
  }

  #keep(): void {
    const rows = tables.map(({ table }) => {
      const held = this.#table.rows.held(table)
      const all = [...held.rows.values()].map(({ data }) => JSON.parse(data) as Task)
      return [table.channel, all] as const
    })
    this.#after.set(this.#table.take().last.id, new Map(rows))
  }

  /** The rows of a channel and a filter behind a message. */
  rows(message: bigint, channel: string, where: Where | undefined, owner: string) {
    const [table, room] = channel.split(":")
    const status = where?.["status"]
    const wanted = status === undefined ? statuses : Array.isArray(status) ? status : [status]
    return this.#after
      .get(message)!
      .get(table!)!
      .filter((row) => room === undefined || row.room === room)
      .filter((row) => room !== undefined || row.owner === owner)
      .filter((row) => (wanted as ReadonlyArray<unknown>).includes(row.status))
  }

  get last(): bigint {
    return this.#table.take().last.id
  }
}

const sorted = (rows: Iterable<unknown>) =>
  [...(rows as Iterable<Task>)].toSorted((one, other) => one.id - other.id)

/** Commits random transactions of 16 writers at once, some of them to be undone. */
const writing = (table: MemoryTable, dice: Random) => {
  const rows = writes(table, identity)
  const { chance, int, pick } = dice
  const change = Effect.suspend((): Effect.Effect<unknown, unknown> => {
    const on = pick(tables)
    const key = { id: int(ids) }
    const row: Task = {
      ...key,
      room: pick(rooms),
      status: pick(statuses),
      owner: pick(owners),
      text: "x".repeat(int(200))
    }
    if (chance(0.01)) return rows.truncate(on)
    return pick<() => Effect.Effect<unknown, unknown>>([
      () => rows.insert(on, row),
      () => rows.insert(on, row),
      () => rows.update(on, key, { room: row.room }),
      () => rows.update(on, key, { status: row.status }),
      () => rows.update(on, key, { owner: row.owner, text: row.text }),
      () => rows.update(on, key, { ...row, id: int(ids) }),
      () => rows.delete(on, key)
    ])()
  })
  const some = (most: number): Effect.Effect<void> =>
    Effect.suspend(() =>
      Effect.forEach(
        Array.from({ length: 1 + int(most) }),
        // Between two changes of a transaction others commit.
        () => Effect.andThen(Effect.ignore(change), Effect.sleep(int(3))),
        { discard: true }
      )
    )
  const failed = Effect.fail("undone" as const)
  const savepoint = Effect.suspend(() =>
    Effect.ignore(
      table.transaction(Effect.andThen(some(2), chance(0.5) ? failed : Effect.void), identity)
    )
  )
  const transaction = Effect.suspend(() =>
    table.transaction(
      Effect.gen(function* () {
        yield* some(3)
        if (chance(0.3)) yield* savepoint
        if (chance(0.15)) yield* failed
      }),
      identity
    )
  )
  return Effect.forEach(
    Array.from({ length: writers }),
    () => Effect.ignore(Effect.delay(transaction, int(5))),
    { concurrency: "unbounded", discard: true }
  )
}

/** Long enough for any request, and for a state after the last of several gaps. */
const aMinute = Effect.fnUntraced(function* (clients: ReadonlyArray<RowsClient>) {
  for (let part = 0; part < 6; part++) {
    for (const { visitor } of clients) visitor?.send({ type: "pong" })
    yield* TestClock.adjust("10 seconds")
    yield* settle
  }
})

const run = (seed: number, steps: number) =>
  Effect.gen(function* () {
    const counts = { ...none }
    const dice = random(seed)
    const { chance, int, pick } = dice
    const table = new MemoryTable()
    const history = new History(table)
    const write = writing(table, dice)

    yield* Effect.gen(function* () {
      const clients = Array.from({ length: 6 }, (_, index) => {
        const all = channels.flatMap((channel) => wheres.map((where) => ({ channel, where })))
        const mine = all.filter(() => chance(0.4))
        const followed = mine.map(({ channel, where }) => new Followed(channel, where))
        return { owner: owners[index % owners.length]!, client: new RowsClient(followed) }
      })

      const compare = (owner: string, one: Followed) => {
        const { behind, channel, where } = one
        if (behind === undefined) return
        const expected = sorted(history.rows(behind, channel, where, owner))
        const found = [`REALTIME_TEST_SEED=${seed}`, channel, where, sorted(one.rows.values())]
        expect(found).toEqual([...found.slice(0, 3), expected])
        counts.compared++
        const isWrong = (rows: Iterable<unknown>) =>
          JSON.stringify(sorted(rows)) !== JSON.stringify(expected)
        if (isWrong(one.careless.values())) counts.careless++
        if (isWrong(one.deaf.values())) counts.deaf++
      }
      const takeAll = () => {
        for (const { client, owner } of clients) client.take((one) => compare(owner, one))
      }
      const leave = (client: RowsClient) => {
        for (const { reason, state } of [
          ...(client.visitor?.of("gap") ?? []).map(({ reason }) => ({ reason, state: undefined })),
          ...(client.visitor?.of("subscribed") ?? []).map(({ state }) => ({
            reason: undefined,
            state
          }))
        ]) {
          if (reason !== undefined) counts.gaps++
          if (state === "recovered") counts.recovered++
          if (state === "reset") counts.reset++
        }
        client.leave()
      }
      const enter = Effect.fnUntraced(function* ({ client, owner }: (typeof clients)[number]) {
        client.connected(yield* visit({ token: owner }))
      })

      for (let step = 0; step < steps; step++) {
        const one = pick(clients)
        const { client } = one
        const { visitor } = client
        const kind = int(12)
        if (visitor === undefined) yield* enter(one)
        else if (kind === 0) leave(client)
        else if (kind === 1) visitor.reading = false
        else if (kind === 2) {
          if (chance(0.5)) visitor.sip()
          else visitor.read()
        } else if (kind === 3 && chance(0.3)) {
          yield* table.lose("unheard")
        } else if (kind === 4 && chance(0.5)) {
          counts.crashes++
          yield* table.crash(int(6))
        } else if (kind === 5 && chance(0.1)) table.forget(Infinity)
        else if (kind === 6) yield* TestClock.adjust(int(3000))
        else {
          const writing = yield* Effect.forkChild(write)
          while (writing.pollUnsafe() === undefined) yield* TestClock.adjust(2)
        }
        if (table.state !== "heard" && chance(0.4)) yield* table.restore
        if (client.visitor !== undefined && chance(0.7)) client.ask()
        yield* settle
        takeAll()
        for (const { client } of clients) {
          client.visitor?.send({ type: "pong" })
          if (client.visitor?.closeCode !== undefined) {
            // The server closes a session that does not read its answers.
            expect(client.visitor.closeCode).toBe(4001)
            leave(client)
          }
        }
      }

      yield* table.restore
      for (const one of clients) {
        one.client.visitor?.read()
        yield* settle
        if (one.client.visitor === undefined || one.client.visitor.closeCode !== undefined) {
          leave(one.client)
          yield* enter(one)
        }
      }
      const all = clients.map(({ client }) => client)
      const missing = () =>
        all.flatMap(({ followed }) => followed).filter(({ status }) => status !== "live")
      for (let minute = 0; minute < 10 && (minute < 3 || missing().length > 0); minute++) {
        for (const client of all) client.ask()
        yield* aMinute(all)
        takeAll()
      }
      expect(missing().map(({ channel, status, where }) => [seed, channel, where, status])).toEqual(
        []
      )
      // Nothing is left out at the end either.
      for (const { client, owner } of clients) {
        for (const { channel, rows, where } of client.followed) {
          expect([seed, channel, where, sorted(rows.values())]).toEqual([
            seed,
            channel,
            where,
            sorted(history.rows(history.last, channel, where, owner))
          ])
        }
        leave(client)
      }
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerDoor<string>({
          channels: [Tasks, Notes],
          authenticate: ({ token }) => Effect.succeed({ identity: token! }),
          authorize: ({
            channel,
            identity
          }: {
            readonly channel: string
            readonly identity: string
          }) => Effect.succeed(channel === Notes.name ? { where: { owner: identity } } : true),
          limits: {
            subscribeRate: { perSecond: 1000, burst: 1000 },
            frameRate: { perSecond: 10_000, burst: 10_000 },
            maxMailboxBytes: 3000,
            blockedTimeout: "1 hour"
          }
        }).pipe(
          Layer.provide(Layer.effect(OutboxReader, Reader.make(table, { maxMemoryEvents: 20 })))
        )
      )
    )
    return counts
  })

describe("the rows of a client are those of the table at its position", () => {
  const runs = long ? 300 : 2
  it.effect(
    `in ${runs} schedules, and not those of a client that leaves something out (REALTIME_TEST_SEED=${seed})`,
    () =>
      Effect.gen(function* () {
        const sum: Counts = { ...none }
        for (let index = 0; index < runs; index++) {
          const counts = yield* run(seed + index, 120)
          for (const key of Object.keys(sum) as ReadonlyArray<keyof Counts>) {
            sum[key] += counts[key]
          }
        }
        // The schedules are meaningful only if each case occurs.
        expect(sum.compared).toBeGreaterThan(runs * 100)
        // Few schedules have a cursor that is not honoured.
        const rare = long ? 0 : 1
        expect({ ...sum, reset: sum.reset + rare }).toEqual(
          Object.fromEntries(Object.keys(sum).map((key) => [key, positive]))
        )
      }),
    1_800_000
  )
})
