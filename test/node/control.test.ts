/** Control over all nodes with the class of `./node`: two servers, one database, the bus over PostgreSQL. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { Channel } from "effect-realtime"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import type { Request } from "../../src/server/ServerOptions.ts"
import { database, installedDatabase } from "../support/database.ts"
import { addressOf, httpServer } from "../support/httpServer.ts"
import { connect } from "../support/wire.ts"

const serverOn = (url: string, authorize: (request: Request<string>) => boolean = () => true) =>
  Effect.gen(function* () {
    const http = yield* httpServer
    const server = yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new RealtimeServer<string>(http, url, {
            authenticate: ({ token }) => ({ identity: token ?? "" }),
            authorize,
            control: true
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

/** Two servers that have heard each other. */
const pair = (authorize?: (request: Request<string>) => boolean) =>
  Effect.gen(function* () {
    const { url } = yield* installedDatabase
    const [one, two] = [yield* serverOn(url, authorize), yield* serverOn(url, authorize)]
    yield* Effect.promise(() => Promise.all([one.server.ready, two.server.ready]))
    const both = Effect.promise(() => one.server.stats())
    yield* Effect.repeat(Effect.andThen(Effect.sleep(20), both), {
      until: ({ answered }) => answered.length === 2
    })
    return { one, two, both }
  })

describe("control of the class", () => {
  it.live(
    "reauthorize ends the subscriptions that an identity lost, on both servers, and no other",
    () =>
      Effect.gen(function* () {
        const lost = new Set<string>()
        const { one, two } = yield* pair(
          ({ channel, identity }) => !lost.has(`${identity} ${channel}`)
        )
        const subscribed = (ws: string, token: string) =>
          Effect.gen(function* () {
            const wire = yield* enter(ws, token)
            yield* wire.next("welcome")
            for (const [index, channel] of channels.entries()) {
              wire.send({ type: "subscribe", id: index + 1, channel })
              yield* wire.next("subscribed")
            }
            return wire
          })
        const channels = ["system_notifications", "table_updates_orders"]
        const wires = [yield* subscribed(one.ws, "ann"), yield* subscribed(two.ws, "ann")]
        const other = yield* subscribed(two.ws, "bob")
        lost.add("ann table_updates_orders").add("bob table_updates_orders")
        const reached = yield* Effect.promise(() => one.server.reauthorize("ann"))
        expect([reached.answered.length, reached.missing]).toEqual([2, []])
        for (const wire of wires) {
          expect(yield* wire.next("ended")).toMatchObject({
            channel: "table_updates_orders",
            code: "channel/forbidden"
          })
        }
        // Ann has the other channel, and Bob has both: only Ann's rights were looked at.
        yield* Effect.promise(() =>
          one.server.publish(Channel.systemNotifications, { type: "info", message: "hello" })
        )
        for (const wire of [...wires, other]) yield* wire.next("events")
        expect(other.frames.filter(({ type }) => type === "ended")).toEqual([])
      }).pipe(Effect.scoped)
  )

  it.live("revoke and disconnect reach the other server, and stats are those of both", () =>
    Effect.gen(function* () {
      const { both, one, two } = yield* pair()
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
