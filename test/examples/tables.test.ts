/** Runs the guide about tables: rights, rows in memory, and rows of the class over a real database. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { RealtimeServer as PlainServer } from "effect-realtime/node"
import { RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { Effect, Logger, Stream } from "effect"
import { recent } from "../../examples/streams/history.ts"
import { Installed } from "../../examples/tables/install.ts"
import { countOpen as countInPlainNode } from "../../examples/tables/plainRows.ts"
import { rules, type User } from "../../examples/tables/rights.ts"
import { countOpen } from "../../examples/tables/rows.ts"
import { Messages, Tickets } from "../../examples/tables/tables.ts"
import { DurableOrders } from "../../examples/channels.ts"
import { layerInstalledDatabase, TestDatabase } from "../support/database.ts"
import { httpServer } from "../support/httpServer.ts"

const users: Readonly<Record<string, User>> = {
  ada: { isAdmin: false, teams: ["east"], rooms: ["lobby"] },
  eve: { isAdmin: true, teams: [], rooms: [] }
}

const system = RealtimeTest.layer({
  channels: [Tickets, Messages],
  authenticate: ({ token = "" }) =>
    users[token] === undefined
      ? Effect.fail(new RealtimeServer.AuthRefused({ code: "auth/invalid" }))
      : Effect.succeed({ identity: users[token] }),
  identityKey: ({ isAdmin }) => String(isAdmin),
  rules
})

const ticket = (id: number, team: string, status = "open") => ({ id, team, status })

describe("examples/tables", () => {
  it.effect("rights.ts: a page has the tickets of its teams, and an admin has all", () =>
    Effect.gen(function* () {
      const { connect, rows, settle } = yield* RealtimeTest.RealtimeTest
      yield* rows.insert(Tickets, ticket(1, "east"))
      yield* rows.insert(Tickets, ticket(2, "west"))
      const [ada, eve] = [
        yield* connect({ token: () => "ada" }),
        yield* connect({ token: () => "eve" })
      ]
      const shown = new Map<string, ReadonlyArray<number>>()
      yield* Effect.forEach(Object.entries({ ada, eve }), ([name, client]) =>
        client.rows(Tickets, { where: { status: "open" } }).pipe(
          Stream.runForEach(({ rows }) =>
            Effect.sync(() => shown.set(name, rows.map(({ id }) => id).toSorted()))
          ),
          Effect.forkScoped
        )
      )
      yield* settle
      expect(Object.fromEntries(shown)).toEqual({ ada: [1], eve: [1, 2] })
      yield* rows.update(Tickets, { id: 2 }, { team: "east" })
      yield* rows.update(Tickets, { id: 1 }, { team: "west" })
      yield* settle
      expect(Object.fromEntries(shown)).toEqual({ ada: [2], eve: [1, 2] })
      const refused = yield* ada.events(Messages("attic")).pipe(Stream.runDrain, Effect.flip)
      expect(refused).toMatchObject({ code: "channel/forbidden" })
    }).pipe(Effect.scoped, Effect.provide(system))
  )

  it.effect("rows.ts: counts the open tickets again after each change", () =>
    Effect.gen(function* () {
      const { rows, settle } = yield* RealtimeTest.RealtimeTest
      const lines: Array<unknown> = []
      const logger = Logger.layer([Logger.make(({ message }) => void lines.push(message))])
      yield* rows.insert(Tickets, ticket(1, "east"))
      yield* countOpen.pipe(Effect.provide(logger), Effect.forkScoped)
      yield* settle
      yield* rows.insert(Tickets, ticket(2, "west"))
      yield* settle
      yield* rows.update(Tickets, { id: 1 }, { status: "closed" })
      yield* settle
      expect(lines.flat()).toEqual([1, 2, 1].map((count) => `${count} tickets are open`))
    }).pipe(Effect.scoped, Effect.provide(system))
  )

  it.live("install.ts, plainRows.ts: the class counts the rows of an installed table", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = yield* PgClient.PgClient
      yield* sql`create table tickets (id int primary key, status text not null, team text not null)`
      yield* sql`create table messages (id int primary key, room_id text not null, text text not null)`
      yield* Effect.provide(Effect.void, Installed)
      yield* sql`insert into tickets values (1, 'open', 'east'), (2, 'closed', 'east')`
      const http = yield* httpServer
      const server = yield* Effect.acquireRelease(
        Effect.sync(
          () => new PlainServer(http, url, { channels: [Tickets], authorize: () => true })
        ),
        (server) => Effect.promise(() => server.close())
      )
      const shown: Array<number> = []
      const ended = countInPlainNode(server, (count) => void shown.push(count))
      const untilShown = (count: number) =>
        Effect.sleep("5 millis").pipe(
          Effect.repeat({ until: () => shown.at(-1) === count }),
          Effect.timeout("10 seconds")
        )
      yield* untilShown(1)
      yield* sql`update tickets set status = 'open' where id = 2`
      yield* untilShown(2)
      yield* Effect.promise(() => server.close())
      yield* Effect.promise(() => ended)
    }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase))
  )
})

describe("examples/streams", () => {
  it.effect("history.ts: reads two pages of what the outbox keeps, the oldest first", () =>
    Effect.gen(function* () {
      const { publish } = yield* RealtimeTest.RealtimeTest
      const customer = "Ada"
      for (let id = 1; id <= 50; id++) {
        const data = { id, customer, status: "new" }
        yield* publish(DurableOrders, { operation: "INSERT", data })
      }
      const ids = (yield* recent).map(({ payload }) => payload.data.id)
      expect(ids).toEqual(Array.from({ length: 40 }, (_, index) => index + 11))
    }).pipe(
      Effect.provide(
        RealtimeTest.layer({ channels: [DurableOrders], authorize: RealtimeServer.allowAll })
      )
    )
  )
})
