/** Control over all nodes with the class of `./node`: two servers, one database, the bus over PostgreSQL. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import { database, installedDatabase } from "../support/database.ts"
import { addressOf, httpServer } from "../support/httpServer.ts"
import { connect } from "../support/wire.ts"

const serverOn = (url: string, wake?: "poll") =>
  Effect.gen(function* () {
    const http = yield* httpServer
    const server = yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new RealtimeServer<string>(http, url, {
            authenticate: ({ token }) => ({ identity: token ?? "" }),
            authorize: () => true,
            control: true,
            wake
          })
      ),
      (server) => Effect.promise(() => server.close())
    )
    return { server, ws: `ws://${addressOf(http)}/realtime` }
  })

const enter = (ws: string, token: string) =>
  Effect.gen(function* () {
    const wire = yield* connect(ws)
    wire.send({ type: "hello", version: 1, token })
    return wire
  })

describe("control of the class", () => {
  it.live("revoke and disconnect reach the other server, and stats are those of both", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const [one, two] = [yield* serverOn(url), yield* serverOn(url)]
      yield* Effect.promise(() => Promise.all([one.server.ready, two.server.ready]))
      const both = Effect.promise(() => one.server.stats())
      // Until each has heard the other.
      yield* Effect.repeat(Effect.andThen(Effect.sleep(20), both), {
        until: ({ answered }) => answered.length === 2
      })
      const wires = [yield* enter(two.ws, "ann"), yield* enter(two.ws, "bob")]
      for (const wire of wires) yield* wire.next("welcome")
      expect((yield* both).answered.map(({ sessions }) => sessions).toSorted()).toEqual([0, 2])
      const reached = yield* Effect.promise(() => one.server.revoke("ann"))
      expect([reached.answered.length, reached.missing]).toEqual([2, []])
      expect(yield* wires[0]!.closed).toBe(4101)
      for (const { ws } of [one, two]) {
        expect(yield* (yield* enter(ws, "ann")).closed).toBe(4101)
      }
      yield* Effect.promise(() => one.server.disconnect("bob"))
      expect(yield* wires[1]!.closed).toBe(4205)
    }).pipe(Effect.scoped)
  )

  it.live("a server without the objects does not start with control", () =>
    Effect.gen(function* () {
      const bare = yield* database
      const { server } = yield* serverOn(bare.url)
      const error = yield* Effect.promise(() => server.ready.catch((error: unknown) => error))
      expect(error).toMatchObject({ _tag: "NotInstalled" })
    }).pipe(Effect.scoped)
  )
})
