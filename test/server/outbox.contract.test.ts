/** The outbox of PostgreSQL and the one in memory keep the same contract. */
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer } from "effect"
import * as Cursor from "../../src/internal/cursor.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { type Outside, suite } from "./OutboxReaderSuite.ts"
import { layerReader, layerReaderOnly, session, takeOn } from "./support/durable.ts"

suite(
  "in memory",
  MemoryOutbox.layer(),
  Effect.map(MemoryOutbox.MemoryOutbox, ({ commit, crash, lose, prune, reader, restore }) => ({
    commit: (messages) => commit(...messages.map(([channel, text]) => ({ channel, text }))),
    cut: lose,
    hold: Effect.void,
    heal: restore,
    forget: prune,
    takeBack: Effect.andThen(crash({ losing: 1 }), restore),
    other: reader
  }))
)

suite(
  "PostgreSQL",
  // What it notes and prunes is up to the test.
  layerReader(undefined, { upkeep: false }),
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const context = yield* Effect.context<PgClient.PgClient>()
    const db = yield* session
    // Readers of other tests have databases of their own.
    const cut = Effect.orDie(sql`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'effect-realtime reader'`)
    /** What a reader notes now and then. */
    const upkeep = Effect.gen(function* () {
      const { drawn, era, next, normal } = yield* takeOn(db)
      yield* db.query("select realtime.upkeep($1::pg_snapshot, $2::xid8, $3::bigint, 0, $4)", [
        Cursor.formatSnapshot(normal),
        String(next),
        String(drawn),
        era
      ])
    })
    const hands: Outside = {
      // One statement is a transaction.
      commit: (messages) => {
        const channels = messages.map(([channel]) => channel)
        const texts = messages.map(([, text]) => text)
        return Effect.asVoid(sql`select realtime.publish(channel, text)
          from unnest(${channels}::text[], ${texts}::text[]) m(channel, text)`)
      },
      cut: Effect.asVoid(cut),
      hold: Effect.orDie(sql`alter function realtime.open(int) rename to held`),
      heal: Effect.orDie(sql`do $$ begin
        if to_regprocedure('realtime.held(int)') is not null then
          alter function realtime.held(int) rename to open;
        end if;
      end $$`),
      forget: Effect.gen(function* () {
        yield* upkeep
        yield* sql`update realtime.marks set at = at - interval '2 days'`
        yield* upkeep
        yield* sql`select realtime.prune(10000)`
      }).pipe(Effect.orDie),
      takeBack: Effect.gen(function* () {
        yield* sql`delete from realtime.messages where id = (select max(id) from realtime.messages)`
        yield* cut
      }).pipe(Effect.orDie),
      other: Effect.map(
        Effect.provideContext(Layer.build(Layer.fresh(layerReaderOnly())), context),
        (built) => Context.get(built, OutboxReader)
      )
    }
    return hands
  }).pipe(Effect.orDie)
)
