/**
 * Tables with routes: the trigger computes the channel of a row from one or two columns, and keeps what
 * rows are filtered by beside the payload.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { layerInstalled } from "./support/durable.ts"

const Message = Schema.Struct({
  id: Schema.Int,
  room: Schema.String,
  n: Schema.Int,
  text: Schema.String
})
const Messages = Channel.table("messages", Message, { key: "id", by: "room" })
const Filtered = Channel.table("messages", Message, {
  key: "id",
  by: "room",
  filter: "n",
  boundary: ["text"]
})
const Pairs = Channel.table("messages", Message, { key: "id", by: ["room", "n"] })

/** The table anew, and no messages: tests share a database. */
const table = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  yield* sql`drop table if exists messages`
  yield* sql`delete from realtime.messages`
  yield* sql`create table messages (id int primary key, room text, n int, text text)`
  return sql
})

interface Told {
  readonly channel: string
  readonly payload: string
  readonly match: string | null
}

/** Runs SQL, and returns the messages that it wrote, in order. */
const told = (...statements: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const last = yield* sql<{ readonly id: string }>`
      select coalesce(max(id), 0)::text id from realtime.messages`
    for (const statement of statements) yield* sql.unsafe(statement)
    return yield* sql<Told>`
      select channel, payload, match from realtime.messages m where m.id > ${last[0]!.id}::bigint order by m.id`
  })

/** The same as `route: operation key data`. */
const lines = (...statements: ReadonlyArray<string>) =>
  Effect.map(told(...statements), (rows) =>
    rows.map(({ channel, payload }) => {
      const { data, key, operation } = JSON.parse(payload) as {
        readonly operation: string
        readonly key: { readonly id: number } | undefined
        readonly data: { readonly n: number; readonly text: string } | null
      }
      const route = channel.replace("table_updates_messages", "")
      return [route, operation, key?.id, data?.text].filter((part) => part !== undefined).join(" ")
    })
  )

const unrouted = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  return yield* sql`select rel, channel, columns, rows::int from realtime.unrouted()`
})

const refusal = (watch: PgInstaller.Watchable) =>
  Effect.map(Effect.flip(PgInstaller.watch(watch)), (error) => error.message)

const levels = ["row", "statement"] as const

const shared = it.layer(layerInstalled(), { timeout: "1 minute", excludeTestServices: true })

describe.each(levels)("A table with routes, at %s level", (level) => {
  shared((it) => {
    it.effect(
      "each change is an event on the route of its row, and a move a DELETE and an INSERT",
      () =>
        Effect.gen(function* () {
          yield* table
          yield* PgInstaller.watch({ channel: Messages, level })
          expect(
            yield* lines(
              `insert into messages values (1, 'a', 1, 'x'), (2, 'b', 1, 'y')`,
              `update messages set text = text || '!'`,
              `update messages set text = text`,
              `update messages set room = 'c' where id = 1`,
              // The key changes, and with it the route.
              `update messages set id = 3, room = 'd' where id = 1`,
              `update messages set id = 4 where id = 3`,
              `delete from messages`
            )
          ).toEqual([
            ":a INSERT 1 x",
            ":b INSERT 2 y",
            ":a UPDATE 1 x!",
            ":b UPDATE 2 y!",
            ":a DELETE 1 x!",
            ":c INSERT 1 x!",
            ":c DELETE 1 x!",
            ":d INSERT 3 x!",
            ":d DELETE 3 x!",
            ":d INSERT 4 x!",
            ":b DELETE 2 y!",
            ":d DELETE 4 x!"
          ])
        })
    )

    it.effect("rows that move in one statement are deleted before they are inserted", () =>
      Effect.gen(function* () {
        yield* table
        yield* PgInstaller.watch({ channel: Messages, level })
        yield* told(
          `insert into messages select n, 'r' || n % 3, n, '' from generate_series(1, 30) n`
        )
        const moved = yield* lines(`update messages set room = 'r' || (n + 1) % 3`)
        for (let id = 1; id <= 30; id++) {
          const [from, to] = [`:r${id % 3} DELETE ${id} `, `:r${(id + 1) % 3} INSERT ${id} `]
          expect(moved).toContain(from)
          expect(moved.indexOf(to)).toBeGreaterThan(moved.indexOf(from))
        }
        expect(moved).toHaveLength(60)
      })
    )

    it.effect("two columns route by both values", () =>
      Effect.gen(function* () {
        yield* table
        yield* PgInstaller.watch({ channel: Pairs, level })
        expect(
          yield* lines(
            `insert into messages values (1, 'a.b-c_D', -7, 'x')`,
            `update messages set n = 8`,
            `update messages set n = null`,
            `update messages set room = 'z', n = 1`
          )
        ).toEqual([
          ":a.b-c_D:-7 INSERT 1 x",
          ":a.b-c_D:-7 DELETE 1 x",
          ":a.b-c_D:8 INSERT 1 x",
          ":a.b-c_D:8 DELETE 1 x",
          ":z:1 INSERT 1 x"
        ])
        expect(yield* unrouted).toMatchObject([{ columns: "room, n", rows: 2 }])
      })
    )

    it.effect("a row with a value that no name holds is on no route, and counted", () =>
      Effect.gen(function* () {
        yield* table
        yield* PgInstaller.watch({ channel: Messages, level })
        const fits = "x".repeat(40)
        expect(
          yield* lines(
            `insert into messages values (1, null, 1, ''), (2, '', 1, ''), (3, 'a b', 1, ''), (4, 'a:b', 1, ''), (5, E'a\\n', 1, ''), (6, 'ü', 1, '')`,
            `insert into messages values (7, '${fits}', 1, ''), (8, '${fits}x', 1, '')`,
            `update messages set n = 2 where id <> 7`,
            `delete from messages where id < 6`,
            `update messages set room = 'a' where id = 6`,
            `update messages set room = 'b c' where id = 6`
          )
        ).toEqual([`:${fits} INSERT 7 `, ":a INSERT 6 ", ":a DELETE 6 "])
        expect(yield* unrouted).toEqual([
          // 7 inserts, 7 updates, 5 deletes, and both sides of the moves of row 6.
          { rel: "public.messages", channel: "table_updates_messages", columns: "room", rows: 21 }
        ])
      })
    )

    it.effect("the match has the texts before and after, and no column beside its own", () =>
      Effect.gen(function* () {
        yield* table
        yield* PgInstaller.watch({ channel: Filtered, level })
        const rows = yield* told(
          `insert into messages values (1, 'a', null, 'x "y"')`,
          `update messages set n = 5`,
          `update messages set room = 'b'`,
          `update messages set id = 2`,
          `delete from messages`
        )
        const [none, five] = [
          { room: "a", n: null, text: 'x "y"' },
          { room: "a", n: "5", text: 'x "y"' }
        ]
        const moved = { ...five, room: "b" }
        expect(rows.map(({ match }) => JSON.parse(match!) as unknown)).toEqual([
          { new: none },
          { old: none, new: five },
          { old: five },
          { new: moved },
          { old: moved },
          { new: moved },
          { old: moved }
        ])
      })
    )

    it.effect("a row that does not fit keeps its route and its match", () =>
      Effect.gen(function* () {
        yield* table
        const Few = Channel.table("messages", Message, { key: "id", by: "room", filter: "n" })
        yield* PgInstaller.watch({ channel: Few, level, maxBytes: 200 })
        const big = "'z' || repeat('x', 100000)"
        const rows = yield* told(
          `insert into messages values (1, 'a', 1, ${big}), (2, 'a', 2, '')`,
          `update messages set n = n + 10`,
          `update messages set room = 'b' where id = 1`,
          `delete from messages`
        )
        expect(
          rows.map(({ channel, match, payload }) => [
            channel.slice(23),
            JSON.parse(match!),
            payload.includes("truncated")
          ])
        ).toEqual([
          ["a", { new: { room: "a", n: "1" } }, true],
          ["a", { new: { room: "a", n: "2" } }, false],
          ["a", { old: { room: "a", n: "1" }, new: { room: "a", n: "11" } }, true],
          ["a", { old: { room: "a", n: "2" }, new: { room: "a", n: "12" } }, false],
          ["a", { old: { room: "a", n: "11" } }, true],
          ["b", { new: { room: "b", n: "11" } }, true],
          expect.arrayContaining([{ old: { room: expect.any(String), n: expect.any(String) } }]),
          expect.arrayContaining([{ old: { room: expect.any(String), n: expect.any(String) } }])
        ])
        expect(JSON.stringify(rows)).not.toContain("zxxx")
      })
    )

    it.effect("an update of a filtered column that does not travel is an event", () =>
      Effect.gen(function* () {
        yield* table
        const Narrow = Channel.table("messages", Message, {
          key: "id",
          filter: "n",
          columns: ["id", "text"]
        })
        yield* PgInstaller.watch({ channel: Narrow, level })
        const rows = yield* told(
          `insert into messages values (1, 'a', 1, 'x')`,
          `update messages set n = 2`,
          `update messages set room = 'b'`
        )
        expect(rows).toEqual([
          {
            channel: "table_updates_messages",
            payload: '{"operation":"INSERT","data":{"id":1,"text":"x"},"key":{"id":1}}',
            match: '{"new":{"n":"1"}}'
          },
          {
            channel: "table_updates_messages",
            payload: '{"operation":"UPDATE","data":{"id":1,"text":"x"},"key":{"id":1}}',
            match: '{"old":{"n":"1"},"new":{"n":"2"}}'
          }
        ])
      })
    )

    it.effect("rollbacks and savepoints leave what was committed", () =>
      Effect.gen(function* () {
        const sql = yield* table
        yield* PgInstaller.watch({ channel: Messages, level })
        const undone = Effect.andThen(
          told(`insert into messages values (1, 'a', 1, 'x')`),
          Effect.fail("")
        )
        yield* Effect.ignore(sql.withTransaction(undone))
        expect(
          yield* sql.withTransaction(
            lines(
              `insert into messages values (2, 'a', 1, 'x')`,
              `savepoint s`,
              `update messages set room = 'b'`,
              `rollback to s`,
              `update messages set room = 'c'`
            )
          )
        ).toEqual([":a INSERT 2 x", ":a DELETE 2 x", ":c INSERT 2 x"])
        expect(yield* sql`select from realtime.messages`).toHaveLength(3)
      })
    )

    it.effect("TRUNCATE and tell_gap are one message on the table's channel, without a match", () =>
      Effect.gen(function* () {
        yield* table
        yield* PgInstaller.watch({ channel: Filtered, level })
        const rows = yield* told(
          `insert into messages values (1, 'a', 1, 'x'), (2, 'b', 1, 'x')`,
          `truncate messages`,
          `select realtime.tell_gap('table_updates_messages')`
        )
        expect(rows.slice(2)).toMatchObject([
          { channel: "table_updates_messages", match: null },
          { channel: "table_updates_messages", match: null }
        ])
        expect(rows).toHaveLength(4)
      })
    )

    it.effect("triggers of the owner that move a row again leave it where it is", () =>
      Effect.gen(function* () {
        const sql = yield* table
        yield* PgInstaller.watch({ channel: Filtered, level })
        yield* sql`
        create or replace function again() returns trigger language plpgsql as $$ begin
          update messages set room = 'last', n = n + 1 where id = new.id and room <> 'last' and new.text = 'move';
          delete from messages where id = new.id and new.text = 'drop' and room = 'b';
          return null;
        end $$`
        yield* sql`create trigger again after insert or update on messages for each row execute function again()`
        const final = (rows: ReadonlyArray<Told>) => {
          const routes = new Map<string, Map<string, unknown>>()
          for (const { channel, payload } of rows) {
            const { data, key, operation } = JSON.parse(payload) as {
              readonly operation: string
              readonly key: unknown
              readonly data: unknown
            }
            const route = routes.get(channel.slice(23)) ?? new Map<string, unknown>()
            routes.set(channel.slice(23), route)
            if (operation === "DELETE") route.delete(JSON.stringify(key))
            else route.set(JSON.stringify(key), data)
          }
          return [...routes].flatMap(([route, rows]) =>
            [...rows.values()].map((row) => [route, row])
          )
        }
        const rows = yield* told(
          `insert into messages values (1, 'a', 1, 'move')`,
          `insert into messages values (2, 'a', 1, 'stay')`,
          `update messages set room = 'b', text = 'move' where id = 2`,
          `insert into messages values (3, 'a', 1, 'stay')`,
          `update messages set room = 'b', text = 'drop' where id = 3`,
          `update messages set id = id + 10, room = 'x' where id = 1`
        )
        expect(final(rows)).toEqual([
          ["last", { id: 2, room: "last", n: 2, text: "move" }],
          ["last", { id: 11, room: "last", n: 3, text: "move" }]
        ])
        // A subscriber with a filter that the row matched before receives that it left.
        const old = rows.filter(
          ({ channel, match }) =>
            channel.endsWith(":a") && match === '{"old":{"room":"a","n":"1","text":"stay"}}'
        )
        expect(old).toHaveLength(2)
      })
    )

    it.effect("a match of more than 65,536 bytes is unknown, however the change was sent", () =>
      Effect.gen(function* () {
        for (const by of [undefined, "room"] as const) {
          yield* table
          const Long = Channel.table("messages", Message, { key: "id", by, filter: "text" })
          yield* PgInstaller.watch({ channel: Long as Channel.AnyTable, level })
          const rows = yield* told(
            `insert into messages values (1, 'a', 1, repeat('x', 70000))`,
            `insert into messages values (2, 'a', 1, repeat('x', 60000)), (3, 'a', 1, repeat('x', 70000))`,
            `update messages set n = 2 where id = 1`,
            `update messages set n = 2 where id > 1`,
            `update messages set id = 4, room = 'b' where id = 1`,
            `update messages set id = id + 10 where id < 4`,
            `delete from messages`
          )
          const known = rows.map(({ match }) => match !== null)
          expect(known.slice(0, 8)).toEqual([false, true, false, false, false, false, false, false])
          // The change of each key is a DELETE and an INSERT, and then all rows go.
          expect(known.slice(8).filter(Boolean)).toHaveLength(3)
          expect(rows).toHaveLength(15)
        }
      })
    )
  })
})

describe("A table with routes", () => {
  it.live("a partitioned table routes rows of all partitions", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table messages (id int, room text, n int, text text, primary key (id, n)) partition by range (n)`
      yield* sql`create table low partition of messages for values from (0) to (10)`
      yield* sql`create table high partition of messages for values from (10) to (20)`
      yield* PgInstaller.watch(
        Channel.table("messages", Message, { key: ["n", "id"], by: "room", filter: "n" })
      )
      expect(
        yield* lines(
          `insert into messages values (1, 'a', 1, 'x')`,
          `update messages set room = 'b'`,
          `update messages set n = 11`
        )
      ).toEqual([
        ":a INSERT 1 x",
        ":a DELETE 1 x",
        ":b INSERT 1 x",
        ":b DELETE 1 x",
        ":b INSERT 1 x"
      ])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("watch refuses what cannot be routed, and channels of other tables and routes", () =>
    Effect.gen(function* () {
      const sql = yield* table
      yield* sql`create table orders (id int primary key, room text, "c i" text collate "C", amount numeric, name char(3))`
      const Order = Schema.Struct({
        id: Schema.Int,
        room: Schema.String,
        amount: Schema.Finite,
        name: Schema.String
      })
      expect(yield* refusal(Channel.table("orders", Order, { key: "room" }))).toContain(
        "the primary key of table public.orders is {id}, and not {room}"
      )
      for (const by of ["amount", "name"] as const) {
        expect(yield* refusal(Channel.table("orders", Order, { key: "id", by }))).toContain(
          `no column "${by}" by which rows can be routed`
        )
      }
      expect(
        yield* refusal(
          Channel.table("orders", Schema.Struct({ id: Schema.Int, gone: Schema.String }), {
            key: "id",
            filter: "gone"
          })
        )
      ).toContain('no column "gone"')
      expect(
        yield* refusal({
          channel: Channel.table("orders", Order, { key: "id", by: "room" }),
          delivery: "live"
        })
      ).toContain("durable")
      yield* PgInstaller.watch(Messages)
      expect(yield* refusal({ channel: "table_updates_messages:a", table: "orders" })).toContain(
        "holds a colon"
      )
      for (const shared of [false, true]) {
        const other = { channel: "table_updates_messages", table: "orders", shared }
        expect(yield* refusal({ ...other, delivery: "durable" })).toMatch(
          /channel "table_updates_messages"/
        )
      }
      // The table's own routes are written by its triggers only.
      const published = yield* Effect.flip(
        sql`select realtime.publish('table_updates_messages:a', '{}'::text)`
      )
      expect(published._tag).toBe("SqlError")
      const Chat = Channel.table("messages", Message, { key: "id", by: "room", channel: "chat" })
      yield* PgInstaller.watch(Chat)
      for (const channel of ["chat", "chat:a", "chat:a:b"]) {
        yield* Effect.flip(sql`select realtime.publish(${channel}, '{}'::text)`)
      }
      yield* sql`select realtime.publish('chats:a', '{}'::text)`
      yield* sql`select realtime.publish('cha', '{}'::text)`
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live(
    "an install with the same definition changes nothing, and with another one follows it",
    () =>
      Effect.gen(function* () {
        const sql = yield* table
        const triggers = sql`select oid, tgname from pg_trigger where tgrelid = 'messages'::regclass order by 1`
        yield* PgInstaller.install({ watch: [Messages] })
        const before = yield* triggers
        yield* PgInstaller.install({ watch: [Messages] })
        expect(yield* triggers).toEqual(before)
        yield* PgInstaller.install({ watch: [Filtered] })
        expect(yield* triggers).not.toEqual(before)
        expect((yield* told(`insert into messages values (1, 'a', 1, 'x')`))[0]!.match).toBe(
          '{"new":{"room":"a","n":"1","text":"x"}}'
        )
        yield* PgInstaller.unwatch(Filtered)
        expect(yield* told(`insert into messages values (2, 'a', 1, 'x')`)).toEqual([])
        expect(yield* sql`select relname from pg_class where relname ~ 'unrouted'`).toEqual([])
      }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("an altered column keeps its routes, and one that is gone is a gap and a trouble", () =>
    Effect.gen(function* () {
      const sql = yield* table
      yield* PgInstaller.watch(Messages)
      expect(
        yield* lines(
          `insert into messages values (1, 'a', 1, 'x')`,
          `alter table messages alter room type varchar(20)`,
          `update messages set room = 'b'`,
          `alter table messages add more int default 5`,
          `update messages set room = 'c'`
        )
      ).toEqual([
        ":a INSERT 1 x",
        ":a DELETE 1 x",
        ":b INSERT 1 x",
        ":b DELETE 1 x",
        ":c INSERT 1 x"
      ])
      const gone = yield* told(
        `alter table messages rename room to chat`,
        `update messages set chat = 'd'`
      )
      expect(gone).toMatchObject([{ channel: "table_updates_messages", match: null }])
      expect(yield* sql`select trouble from realtime.troubles()`).toEqual([
        { trouble: 'rows cannot be routed or filtered by its column "room" any more' }
      ])
      expect(yield* sql`select trouble from realtime.look()`).toHaveLength(1)
      expect(
        yield* lines(`alter table messages rename chat to room`, `update messages set room = 'e'`)
      ).toEqual([":d DELETE 1 x", ":e INSERT 1 x"])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("uninstall removes the counters of routes", () =>
    Effect.gen(function* () {
      const sql = yield* table
      yield* PgInstaller.watch(Messages)
      yield* PgInstaller.uninstall
      expect(yield* sql`select from pg_namespace where nspname = 'realtime'`).toEqual([])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("routes work in a schema of another name", () =>
    Effect.gen(function* () {
      const sql = yield* table
      yield* PgInstaller.install({ schema: "elsewhere", watch: [Filtered] })
      yield* sql`insert into messages values (1, 'a', 1, 'x'), (2, null, 1, 'x')`
      expect(yield* sql`select channel from elsewhere.messages`).toEqual([
        { channel: "table_updates_messages:a" }
      ])
      expect(yield* sql`select rows::int from elsewhere.unrouted()`).toEqual([{ rows: 1 }])
    }).pipe(Effect.provide(layerInstalled()))
  )
})
