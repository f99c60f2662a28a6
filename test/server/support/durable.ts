/** What the tests of the durable side share: a database with everything installed, writers, readers. */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Effect, Layer, Redacted, Stream } from "effect"
import * as Outbox from "../../../src/server/internal/outbox/outbox.ts"
import * as OutboxReader from "../../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../../src/server/PgInstaller.ts"
import { layerInstalledDatabase, TestDatabase } from "../../support/database.ts"

/** Reconnects quickly after a fault. */
export const quick: OutboxReader.Options = {
  backoff: { initial: 10, cap: 100, resetAfter: 30_000 }
}

/** A fresh database with the objects installed, set up as asked. */
export const layerInstalled = (options?: PgInstaller.Options) =>
  options === undefined
    ? layerInstalledDatabase
    : PgInstaller.layer(options).pipe(Layer.provideMerge(layerInstalledDatabase))

export const layerReaderOnly = (options?: OutboxReader.Options) =>
  OutboxReader.layer({ ...quick, ...options })

/** The same, with a reader on it. */
export const layerReader = (options?: PgInstaller.Options, reader?: OutboxReader.Options) =>
  layerReaderOnly(reader).pipe(Layer.provideMerge(layerInstalled(options)))

/** A session of its own, for statements that need their own transaction. */
export const session = Effect.flatMap(TestDatabase, ({ url }) =>
  PgConnection.make({ url: Redacted.make(url) })
)

/** A position as a reader takes it; `before` is the position it took last. */
export const takeOn = (db: PgConnection.PgConnection, before?: Outbox.Take) =>
  Effect.gen(function* () {
    const taken = Outbox.parseTaken((yield* db.query(Outbox.takeStatement)).rows[0])
    const args = Outbox.lastArguments(taken, before?.last)
    const { rows } = yield* db.query(Outbox.lastStatement, args)
    return Outbox.takeOf(taken, Outbox.parseWitness(rows[0]), before?.last)
  })

export const publish = (channel: string, payload: unknown) =>
  PgClient.PgClient.use(
    (sql) => sql`select realtime.publish(${channel}, ${JSON.stringify(payload)}::text)`
  ).pipe(Effect.orDie)

/** The batches of a stream as their events, one by one, each with the cursor of its batch. */
const events = <E, R>(stream: Stream.Stream<OutboxReader.Item, E, R>) =>
  stream.pipe(
    Stream.flatMap((item) =>
      Stream.fromIterable(
        item._tag === "Batch" ? item.events.map((event) => ({ ...event, cursor: item.cursor })) : []
      )
    )
  )

/** The numbers that a reader hands out on a channel from now on, until the scope closes; a gap is -1. */
export const numbersOf = (reader: OutboxReader.OutboxReader["Service"], channel: string) =>
  Effect.gen(function* () {
    const got: Array<number> = []
    yield* reader.batches(channel).pipe(
      Stream.runForEach((item) =>
        Effect.sync(() => {
          if (item._tag === "Gap") got.push(-1)
          if (item._tag === "Batch") got.push(...item.events.map(({ text }) => Number(text)))
        })
      ),
      Effect.forkScoped
    )
    return got
  })

export const payloads = <E, R>(
  stream: Stream.Stream<OutboxReader.Item, E, R>,
  count: number
): Effect.Effect<Array<unknown>, E, R> =>
  events(stream).pipe(
    Stream.take(count),
    Stream.map(({ text }) => JSON.parse(text) as unknown),
    Stream.runCollect
  )
