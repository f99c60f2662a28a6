/**
 * Servers that crash, fail over and are put back, with writers that run meanwhile, and the check of
 * old cursors afterwards.
 *
 * A round: writers run, and a node delivers what they commit. The server stops at once; the node is
 * kept from looking until others have written to the next server, which reuses numbers. Then every
 * old cursor is resumed, and its replay is compared with the table.
 */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Context, Effect, Fiber, Layer, Redacted, type Scope, Stream } from "effect"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import * as Cursor from "../../../src/internal/cursorText.ts"
import { consumeItems as consume } from "../../../src/server/internal/outbox/consumers.ts"
import * as OutboxReader from "../../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../../src/server/PgInstaller.ts"
import * as EmbeddedPostgres from "../../../src/testing/EmbeddedPostgres.ts"
import { execute } from "../../support/database.ts"
import { type Random, random } from "./random.ts"

const channel = "room"

/** A directory for data folders, removed at the end. */
export const folder = Effect.acquireRelease(
  Effect.sync(() => {
    const made = Fs.mkdtempSync("/tmp/recovery-")
    // The server does not run as root.
    Fs.chmodSync(made, 0o777)
    return made
  }),
  (made) => Effect.sync(() => Fs.rmSync(made, { recursive: true, force: true }))
)

/**
 * A server on a folder of its own; reported commits are in the files of the system, as after a
 * crash of the server.
 */
export const serverOn = (data: string, settings: Readonly<Record<string, string>> = {}) =>
  EmbeddedPostgres.make({
    dataDirectory: data,
    settings: {
      fsync: "off",
      full_page_writes: "off",
      max_connections: "60",
      max_prepared_transactions: "30",
      autovacuum: "off",
      // Time enough for asynchronous commits.
      wal_writer_delay: "1000ms",
      wal_writer_flush_after: "1GB",
      ...settings
    }
  }).pipe(
    Effect.tap(({ kept, notice }) =>
      kept ? Effect.void : Effect.die(new Error(notice ?? "the folder is not used"))
    )
  )

/** Copies a folder of a stopped server over another folder. */
export const copyFolder = (from: string, to: string) =>
  Effect.sync(() => {
    Fs.rmSync(to, { recursive: true, force: true })
    const copy = (from: string, to: string) => {
      const stat = Fs.lstatSync(from)
      if (stat.isDirectory()) {
        Fs.mkdirSync(to, { mode: stat.mode })
        for (const name of Fs.readdirSync(from)) copy(Path.join(from, name), Path.join(to, name))
      } else Fs.copyFileSync(from, to)
      Fs.lchownSync(to, stat.uid, stat.gid)
      Fs.chmodSync(to, stat.mode)
    }
    copy(from, to)
  })

let template: string | undefined

// The files of a worker share it.
process.once("exit", () => {
  if (template !== undefined) Fs.rmSync(Path.dirname(template), { recursive: true, force: true })
})

/** A server with everything installed. The folder is made once: after that it is copied. */
export const installedOn = (data: string, settings?: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    if (template === undefined) {
      const made = Fs.mkdtempSync("/tmp/recovery-template-")
      Fs.chmodSync(made, 0o777)
      const first = Path.join(made, "data")
      yield* Effect.flatMap(serverOn(first), ({ url }) => install(url)).pipe(Effect.scoped)
      template = first
    }
    yield* copyFolder(template, data)
    return yield* serverOn(data, settings)
  })

/** Turns a copied folder into a standby of a server. */
export const followIn = (data: string, primary: EmbeddedPostgres.EmbeddedPostgres) =>
  Effect.sync(() => {
    const { gid, uid } = Fs.statSync(data)
    const signal = Path.join(data, "standby.signal")
    Fs.writeFileSync(signal, "")
    Fs.chownSync(signal, uid, gid)
    Fs.appendFileSync(
      Path.join(data, "postgresql.auto.conf"),
      `\nprimary_conninfo = 'host=${primary.socketDirectory} port=5432 user=postgres'\n`
    )
  })

/** The server to which a node connects: one server, another one later, or none. */
export class Address {
  /** The directory of the socket; `undefined` while the node is kept from looking. */
  directory: string | undefined
  readonly #sockets = new Set<Net.Socket>()

  constructor(directory: string) {
    this.directory = directory
  }

  readonly connect = (): Net.Socket => {
    const socket = Net.connect(`${this.directory ?? "/nowhere"}/.s.PGSQL.5432`)
    this.#sockets.add(socket)
    socket.once("close", () => this.#sockets.delete(socket))
    return socket
  }

  /** Cuts every connection; new ones go to the server in `directory`. */
  readonly move = (directory: string | undefined): void => {
    this.directory = directory
    for (const socket of this.#sockets) socket.destroy()
  }
}

export interface Node {
  readonly reader: OutboxReader.OutboxReader["Service"]
  readonly context: Context.Context<PgClient.PgClient | OutboxReader.OutboxReader>
}

/** A reader and a pool at an address, until the scope closes. */
export const nodeAt = (
  address: Address,
  options?: OutboxReader.Options
): Effect.Effect<Node, unknown, Scope.Scope> =>
  Effect.map(
    Layer.build(
      Layer.fresh(
        OutboxReader.layer({
          busyInterval: 2,
          idleInterval: 20,
          maxPageMessages: 5,
          backoff: { initial: 5, cap: 20, resetAfter: 30_000 },
          ...options
        })
      ).pipe(
        Layer.provideMerge(
          Layer.fresh(
            PgClient.layer({
              url: Redacted.make("postgresql://postgres@localhost/postgres"),
              stream: address.connect,
              maxConnections: 6
            })
          )
        )
      )
    ),
    (context) => ({ context, reader: Context.get(context, OutboxReader.OutboxReader) })
  )

/** Installs all objects, and creates a table for what the consumer did and one for the writers. */
const install = (url: string, options?: PgInstaller.Options) =>
  Effect.gen(function* () {
    yield* PgInstaller.install({ wake: "poll", ...options }).pipe(
      Effect.provide(Layer.fresh(PgClient.layer({ url: Redacted.make(url) }))),
      Effect.scoped
    )
    yield* execute(url, "create table elsewhere (n int)")
    yield* execute(url, "create table done (event text not null)")
  })

/** A message, identified for ever: its numbers alone may be reused. */
const spelled = `m.id || ' ' || m.txid || ' ' || floor(extract(epoch from m.created_at) * 1000)`

const spell = ({ at, id, tx }: OutboxReader.DurableEvent) => `${id} ${tx} ${at}`

/** The messages of the channel after a crash. */
const truth = (url: string) =>
  Effect.map(
    execute(
      url,
      `select ${spelled} as spelled from realtime.messages m where m.channel = '${channel}' order by m.id`
    ),
    (rows) => rows.map((row) => String(row["spelled"]))
  )

/** One writer until its server is gone; it leaves prepared transactions for others to end. */
const writer = (url: string, r: Random, name: string) =>
  Effect.gen(function* () {
    const db = yield* PgConnection.make({ url: Redacted.make(url) })
    const say = (to: string) =>
      db.query("select realtime.publish($1, $2::text)", [to, JSON.stringify(r.int(1e9))])
    for (let n = 0; ; n++) {
      yield* db.query("begin", [], false)
      // The transaction gets its number early, or writes no message at all.
      if (r.chance(0.4)) yield* db.query("insert into elsewhere values (1)")
      if (r.chance(0.3)) yield* Effect.sleep(r.int(8))
      for (let k = r.int(4); k > 0; k--) yield* say(r.chance(0.7) ? channel : "hall")
      if (r.chance(0.1)) {
        yield* db.query("savepoint s", [], false)
        yield* say(channel)
        yield* db.query("rollback to savepoint s", [], false)
      }
      if (r.chance(0.05)) for (let k = 12; k > 0; k--) yield* say(channel)
      if (r.chance(0.15)) yield* db.query("rollback", [], false)
      else if (r.chance(0.04)) yield* db.query(`prepare transaction '${name}_${n}'`, [], false)
      else yield* db.query("commit", [], false)
    }
  }).pipe(Effect.scoped, Effect.ignore)

/** Transactions of other sessions, before any node looks: they reuse numbers. */
const strangers = (url: string, r: Random, count: number) =>
  Effect.gen(function* () {
    const db = yield* PgConnection.make({ url: Redacted.make(url) })
    for (let n = 0; n < count; n++) {
      yield* db.query("begin", [], false)
      yield* db.query("insert into elsewhere values (1)")
      for (let k = r.int(3); k > 0; k--) {
        yield* db.query(`select realtime.publish('${r.chance(0.7) ? channel : "hall"}', '0'::text)`)
      }
      yield* db.query(r.chance(0.2) ? "rollback" : "commit", [], false)
    }
    const { rows } = yield* db.query("select gid from pg_prepared_xacts")
    for (const row of rows) {
      const how = r.chance(0.7) ? "commit" : "rollback"
      yield* db.query(`${how} prepared '${String(row["gid"])}'`, [], false)
    }
  }).pipe(Effect.scoped)

export interface Tally {
  rounds: number
  cursors: number
  midway: number
  honoured: number
  refused: number
  lost: number
  twice: number
  /** Events that were received before, and are lost now. */
  gone: number
  /** Events that the node's own follower received and that are lost, without a gap. */
  followerLost: number
  followerTwice: number
  followerGone: number
  gaps: number
  /** The work of a named consumer. */
  worker: Work
}

interface Work {
  readonly done: number
  /** Events not handled, although no gap was sent. */
  readonly missed: number
  readonly again: number
  /** Events handled that are not in the table. */
  readonly invented: number
  readonly gaps: number
}

export const nothing = (): Tally => ({
  rounds: 0,
  cursors: 0,
  midway: 0,
  honoured: 0,
  refused: 0,
  lost: 0,
  twice: 0,
  gone: 0,
  followerLost: 0,
  followerTwice: 0,
  followerGone: 0,
  gaps: 0,
  worker: { done: 0, missed: 0, again: 0, invented: 0, gaps: 0 }
})

/** A named consumer that records each event in the transaction that moves its cursor. */
export const working = ({ context }: Node) =>
  Effect.gen(function* () {
    let gaps = 0
    const sql = Context.get(context, PgClient.PgClient)
    yield* consume({
      name: "worker",
      channel,
      start: "oldest",
      onBatch: ({ events }) =>
        Effect.forEach(events, (event) => sql`insert into done (event) values (${spell(event)})`, {
          discard: true
        }),
      onGap: () => Effect.sync(() => gaps++)
    }).pipe(Effect.provideContext(context), Effect.forkScoped)
    return {
      /** Completes when it has handled the last event. */
      check: (url: string) =>
        Effect.gen(function* () {
          const last = (yield* truth(url)).at(-1)!
          const is = `select from done where event = '${last}'`
          yield* Effect.repeat(Effect.delay(execute(url, is), 10), {
            until: (rows) => rows.length > 0
          })
          const there = yield* truth(url)
          const rows = yield* execute(url, "select event from done")
          const done = rows.map((row) => String(row["event"]))
          const unique = new Set(done)
          const present = new Set(there)
          return {
            done: done.length,
            missed: gaps > 0 ? 0 : there.filter((event) => !unique.has(event)).length,
            again: done.length - unique.size,
            invented: done.filter((event) => !present.has(event)).length,
            gaps
          } satisfies Work
        })
    }
  })

/** A cursor, with the events received up to it. */
interface Held {
  readonly cursor: string
  readonly told: ReadonlyArray<string>
  /** The number of these events. */
  readonly count: number
}

/** Follows from now on, and keeps every cursor it receives. */
class Follower {
  readonly told: Array<string> = []
  readonly held: Array<Held> = []
  /** Up to here a gap stands for the events that were missed or lost. */
  gapAt = 0
  gaps = 0

  take(item: OutboxReader.Item): void {
    if (item._tag === "Batch") this.told.push(...item.events.map(spell))
    if (item._tag === "Gap") {
      this.gaps++
      this.gapAt = this.told.length
    }
    this.held.push({ cursor: item.cursor, told: this.told, count: this.told.length })
  }
}

/** Whether a cursor was in the middle of a page, which must be finished first. */
const isMidway = (cursor: string) => Cursor.parseDurable(cursor)?.position.next !== undefined

/**
 * One round on a server. `fall` stops the server and brings up the next one, which may be
 * elsewhere; it completes with the next server's address.
 */
export const round = (options: {
  readonly url: string
  readonly address: Address
  readonly node: Node
  readonly random: Random
  readonly fall: Effect.Effect<EmbeddedPostgres.EmbeddedPostgres, unknown>
  readonly tally: Tally
}) =>
  Effect.gen(function* () {
    const { address, fall, node, random: r, tally, url } = options
    const before = yield* truth(url)
    const follower = new Follower()
    const following = yield* node.reader.batches(channel).pipe(
      Stream.runForEach((item) => Effect.sync(() => follower.take(item))),
      Effect.forkScoped({ startImmediately: true })
    )
    // The worker has its cursor before any writer writes.
    yield* Effect.repeat(Effect.sleep(1), { until: () => follower.held.length > 0 })
    const writing = yield* Effect.forEach(
      Array.from({ length: 6 }, (_, n) => n),
      (n) => writer(url, random(r.int(2 ** 31)), `p${r.int(1e9)}_${n}`),
      { concurrency: "unbounded", discard: true }
    ).pipe(Effect.forkScoped({ startImmediately: true }))
    const enough = 10 + r.int(30)
    yield* Effect.repeat(Effect.sleep(2), { until: () => follower.held.length > enough })
    yield* Effect.sleep(r.int(20))
    // Connections of a client that stops with the server.
    const server = yield* Effect.andThen(
      Effect.sync(() => {
        address.directory = undefined
      }),
      fall
    )
    yield* Fiber.join(writing)
    const held = follower.held.slice(-60)
    yield* strangers(server.url, r, 30)
    address.move(server.socketDirectory)
    // The node reads again, and its follower receives later events; after a gap only events behind the
    // gap.
    const from = follower.told.length
    const ends = new Set<string>()
    yield* Effect.repeat(
      Effect.gen(function* () {
        const say = `select realtime.publish('${channel}', '"end"'::text)::text id`
        ends.add(String((yield* execute(server.url, say))[0]!["id"]))
        yield* Effect.sleep(20)
      }),
      { until: () => follower.told.slice(from).some((event) => ends.has(event.split(" ")[0]!)) }
    )
    const there = yield* truth(server.url)
    // Also where a gap ended the check of the follower: a join replays up to the node's position.
    yield* node.reader.position
    // All messages.
    if (follower.gaps === 0) {
      yield* Effect.repeat(Effect.sleep(2), { until: () => follower.told.includes(there.at(-1)!) })
    }
    const present = new Set(there)
    const old = new Set(before)
    tally.rounds++
    for (const { count, cursor, told: all } of held) {
      const told = new Set(all.slice(0, count))
      const join = yield* node.reader
        .join(channel, cursor, { events: 1e6, bytes: 1e9 })
        .pipe(Effect.retry({ times: 20 }))
      tally.cursors++
      if (isMidway(cursor)) tally.midway++
      if (join.state !== "recovered") {
        tally.refused++
        continue
      }
      tally.honoured++
      const replayed = join.replay.flatMap(({ events }) => events.map(spell))
      const unique = new Set(replayed)
      tally.twice += replayed.length - unique.size
      for (const event of unique) if (told.has(event)) tally.twice++
      for (const event of there) {
        if (!old.has(event) && !told.has(event) && !unique.has(event)) tally.lost++
      }
      for (const event of told) if (!present.has(event)) tally.gone++
    }
    yield* Fiber.interrupt(following)
    const { gapAt, gaps, told } = follower
    tally.gaps += gaps
    tally.followerTwice += told.length - new Set(told).size
    const heard = new Set(told)
    if (gaps === 0) {
      tally.followerLost += there.filter((event) => !old.has(event) && !heard.has(event)).length
    }
    tally.followerGone += told.slice(gapAt).filter((event) => !present.has(event)).length
    return server
  }).pipe(Effect.scoped)
