/** That the client of the random tests folds what the server sends for a row which it cannot send. */
import { expect, it } from "@effect/vitest"
import { Effect, identity, Layer, Schema } from "effect"
import * as Channel from "../../../src/Channel.ts"
import * as Reader from "../../../src/server/internal/outbox/memoryReader.ts"
import { MemoryTable } from "../../../src/server/internal/outbox/memoryTable.ts"
import { make as writes } from "../../../src/server/internal/outbox/memoryWrites.ts"
import { OutboxReader } from "../../../src/server/OutboxReader.ts"
import { allowAll } from "../../../src/server/RealtimeServer.ts"
import { layerDoor, settle, visit } from "../../support/sessions.ts"
import { Followed, RowsClient } from "./rowsClient.ts"

const Doc = Schema.Struct({ id: Schema.Int, note: Schema.String })
const Docs = Channel.table("docs", Doc, { key: "id" })

it.effect("removes a row that was too large to travel when it is deleted, without a state", () => {
  const table = new MemoryTable([{ channel: Docs, maxBytes: 400 }])
  const rows = writes(table, identity)
  return Effect.gen(function* () {
    yield* rows.insert(Docs, { id: 1, note: "" })
    yield* rows.insert(Docs, { id: 2, note: "x".repeat(600) })
    const docs = new Followed(Docs.name, undefined)
    const client = new RowsClient([docs])
    const visitor = yield* visit({})
    client.connected(visitor)
    client.ask()
    yield* settle
    client.take(() => undefined)
    expect([docs.status, docs.rows.size]).toEqual(["live", 2])
    yield* rows.delete(Docs, { id: 2 })
    yield* settle
    client.take(() => undefined)
    expect(visitor.frames.map(({ type }) => type)).toEqual([
      "welcome",
      "subscribed",
      "state",
      "gap"
    ])
    expect([docs.status, ...docs.rows.values()]).toEqual(["live", { id: 1, note: "" }])
  }).pipe(
    Effect.scoped,
    Effect.provide(
      layerDoor({ channels: [Docs], authorize: allowAll }).pipe(
        Layer.provide(Layer.effect(OutboxReader, Reader.make(table, {})))
      )
    )
  )
})
