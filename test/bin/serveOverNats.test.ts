/** Gateways over a real NATS server: what they share, and what `status` sees of them. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Channel } from "effect-realtime"
import { Nats } from "../../src/nats/index.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import { layerDatabase, TestDatabase } from "../support/database.ts"
import { httpServer } from "../support/httpServer.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { clientOf, hear, serve, tokenOf, secret } from "./support/gateway.ts"
import { record } from "./support/run.ts"

const Here = Channel.presence("here", Schema.Unknown)

interface Present {
  readonly subscribe: (changed: () => void) => () => void
  readonly getSnapshot: () => { readonly members: ReadonlyArray<{ readonly state: unknown }> }
}

/** Resolves when a member of that name is there. */
const memberOf = (presence: Present, name: string) =>
  new Promise<void>((done) => {
    const look = () => {
      if (presence.getSnapshot().members.some(({ state }) => Object(state).name === name)) done()
    }
    presence.subscribe(look)
    look()
  })

describe.skipIf(executablePath === undefined)("serve over NATS", () => {
  it.live("gateways share events, presence and revocations, and status sees them with --nats", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const nats = yield* natsServer()
      const args = ["--live", "news", "--durable", "jobs", "--presence", "here", "--allow-all"]
      const env = { REALTIME_JWT_SECRET: secret, REALTIME_NATS: `nats://${nats.address}` }
      const one = yield* serve([...args, "--name", "web-1"], env)
      const two = yield* serve([...args, "--nats", nats.address], { REALTIME_JWT_SECRET: secret })
      const ann = yield* clientOf(one.address, yield* tokenOf({ sub: "ann" }))
      const eve = yield* clientOf(two.address, yield* tokenOf({ sub: "eve" }))

      const [news, jobs] = [yield* hear(eve, "news"), yield* hear(eve, "jobs")]
      yield* Effect.promise(() => ann.publish("news", 1))
      yield* Effect.promise(() => ann.publish("jobs", 2))
      expect([yield* news, yield* jobs]).toEqual([1, 2])

      const there = eve.presence(Here)
      const joined = memberOf(there, "ann")
      ann.presence(Here, { name: "ann" }).subscribe(() => undefined)
      yield* Effect.promise(() => joined)

      const status = yield* record(["status", "--json", "--database", url, "--nats", nats.address])
      expect([status.code, status.stderr]).toEqual([0, ""])
      const seen = JSON.parse(status.stdout) as {
        readonly nodes: ReadonlyArray<{
          readonly feeds: boolean
          readonly node: string
          readonly sessions: number
        }>
      }
      expect(seen).toMatchObject({ over: "nats", hears: true, silent: [] })
      expect(seen.nodes.map(({ sessions }) => sessions)).toEqual([1, 1])
      expect(seen.nodes.map(({ node }) => node)).toContain("web-1")
      expect(seen.nodes.filter(({ feeds }) => feeds)).toHaveLength(1)
      // The node of an application, which joins the gateways.
      const http = yield* httpServer
      const app = yield* Effect.acquireRelease(
        Effect.sync(
          () =>
            new RealtimeServer(http, url, {
              channels: [Channel.make("other", Schema.Unknown, { delivery: "durable" })],
              authorize: () => true,
              control: true,
              nodes: Nats.nodes({ servers: nats.address })
            })
        ),
        (server) => Effect.promise(() => server.close())
      )
      yield* Effect.promise(() => app.ready)
      const closed = Promise.withResolvers<unknown>()
      ann.listen("news", () => undefined, { onError: closed.resolve })
      expect(yield* Effect.promise(() => app.revoke("ann"))).toMatchObject({ missing: [] })
      expect(yield* Effect.promise(() => closed.promise)).toMatchObject({ code: 4101 })

      // Over PostgreSQL none is heard, and the one that reads for all is named with the cure.
      const unheard = yield* record(["status", "--database", url])
      expect(unheard.stdout).toContain("Nodes are joined over NATS: give its servers with --nats.")
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("a gateway starts without NATS and joins it later, and a rejected login ends it", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const nats = yield* natsServer()
      yield* nats.stop
      const args = ["--live", "news", "--allow-all", "--nats", nats.address]
      const gateway = yield* serve(args)
      const client = yield* clientOf(gateway.address)
      const news = yield* hear(client, "news")
      yield* gateway.sql(`select pg_notify('news', '1')`)
      expect(yield* news).toBe(1)
      const asked = ["status", "--json", "--database", url, "--nats", nats.address]
      const away = yield* record(asked)
      expect([away.code, away.stdout]).toEqual([1, ""])
      expect(away.stderr).toMatch(/^error: No NATS server answers at .*--nats/)
      yield* nats.start
      const seen = yield* Effect.repeat(record(asked), {
        until: ({ stdout }) => stdout.includes('"isReady":true')
      })
      expect(seen.code).toBe(0)
      yield* gateway.signal
      expect((yield* gateway.ended).stderr).toMatch(/level=WARN .*NATS/)

      const guarded = yield* natsServer(`authorization { token: "0123456789abcdef" }`)
      const refused = yield* record(["serve", ...args.slice(0, -1), guarded.address], {
        env: { DATABASE_URL: url, REALTIME_PORT: "0" }
      })
      expect([refused.code, refused.stdout]).toEqual([1, ""])
      expect(refused.stderr).toContain("Check REALTIME_NATS_TOKEN")
      const env = { REALTIME_NATS_TOKEN: "0123456789abcdef" }
      const there = yield* serve([...args.slice(0, -1), guarded.address], env)
      // Before it listens, so that the wrong setting is named and not the port.
      const none = yield* record(["serve", ...args.slice(0, -2), "--nats-user", "a"], {
        env: { DATABASE_URL: url, REALTIME_PORT: new URL(there.address).port }
      })
      expect([none.code, none.stderr]).toEqual([
        64,
        expect.stringContaining("There is no server of NATS. Give --nats")
      ])
    }).pipe(Effect.provide(layerDatabase))
  )
})
