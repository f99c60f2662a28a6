/** A result in parts over two nodes of one database: a page stops it through the node that does not run it. */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Layer, Schema, Stream } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { createServer } from "node:http"
import * as Channel from "../../src/Channel.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as QueryResults from "../../src/server/QueryResults.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { Address, address } from "../support/app.ts"
import { layerInstalledDatabase } from "../support/database.ts"
import { greet } from "../support/wire.ts"

const Answer = Channel.queryResults(Schema.String, { delivery: "durable", publish: true })

const server = HttpRouter.serve(
  RealtimeServer.layer({ channels: [Answer], authorize: () => Effect.succeed(true) }),
  { disableListenLog: true, disableLogger: true }
)

/** A node of the database: its work, and its address. */
const node = Layer.build(
  Layer.fresh(
    Layer.mergeAll(server, address, QueryResults.layer).pipe(
      Layer.provide(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })),
      Layer.provide(
        Realtime.layer().pipe(
          Layer.provideMerge(OutboxReader.layer()),
          Layer.provide(MemorySource.layer)
        )
      )
    )
  )
)

describe("A result in parts", () => {
  it.live("is stopped by a page of another node than the one that runs it", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const runs = yield* node
      const other = yield* node
      const ends = yield* Deferred.make<void>()
      const channel = "query_results_1"
      yield* QueryResults.stream(
        Answer("1"),
        Stream.concat(Stream.make("said"), Stream.never).pipe(
          Stream.ensuring(Deferred.succeed(ends, undefined))
        )
      ).pipe(Effect.provide(runs))
      const page = yield* greet(Context.get(other, Address).ws)
      page.send({ type: "subscribe", id: 1, channel, cursor: "oldest" })
      expect((yield* page.next("subscribed", "error")).type).toBe("subscribed")
      const told: Array<string> = []
      const until = (status: string) =>
        Effect.repeat(
          Effect.map(page.next("events"), ({ events }) => {
            told.push(...events.map(({ data }) => (data as { status: string }).status))
          }),
          { until: () => told.includes(status) }
        )
      yield* until("running")
      page.send({ type: "publish", id: 2, channel, key: "k", data: { status: "stop" } })
      yield* Deferred.await(ends)
      yield* until("stopped")
      expect(told.filter((status) => status !== "running")).toEqual(["stop", "stopped"])
      const [last] = yield* sql<{ readonly payload: string }>`
        select payload from realtime.messages where channel = ${channel} order by id desc limit 1`
      expect(JSON.parse(last!.payload)).toEqual({ status: "stopped", data: "said" })
    }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase))
  )
})
