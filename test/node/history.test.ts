/** The class RealtimeServer reads pages of history, for code without Effect. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { expectTypeOf } from "vitest"
import * as Channel from "../../src/Channel.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import type { HistoryPage } from "../../src/RealtimeEvent.ts"
import { layerInstalledDatabase, TestDatabase } from "../support/database.ts"
import { httpServer } from "../support/httpServer.ts"

const Notes = Channel.make("notes", Schema.String, { delivery: "durable" })
const Pointer = Channel.make("pointer", Schema.String, { delivery: "volatile" })

describe("history of the class", () => {
  it.live("gives pages backwards until the server closes, and rejects a volatile channel", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const http = yield* httpServer
      yield* Effect.promise(async () => {
        await using server = new RealtimeServer(http, url, {
          channels: [Notes, Pointer],
          authorize: () => true
        })
        await server.publish(Notes, "a")
        await server.publish(Notes, "b")
        await server.publish(Notes, "c")
        const newest = await server.history(Notes, { limit: 2 })
        expectTypeOf(newest).toEqualTypeOf<HistoryPage<string>>()
        expect(newest.events.map(({ payload }) => payload)).toEqual(["b", "c"])
        expect(newest.more).toBe(true)
        const rest = await server.history(Notes, { before: newest.events[0]!.id })
        expect(rest.events.map(({ payload }) => payload)).toEqual(["a"])
        expect(rest.more).toBe(false)
        await expect(server.history(Pointer)).rejects.toMatchObject({ _tag: "NoHistory" })
        await server.close()
        await expect(server.history(Notes)).rejects.toMatchObject({
          _tag: "ServerClosed",
          before: "the history was read"
        })
      })
    }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase))
  )
})
