/** The counts by reason: each gap and each reset that a client is sent adds one to its own series. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import { gapTexts } from "../../src/server/internal/gapText.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import type { IdentityOptions } from "../../src/server/ServerOptions.ts"
import { settle, TestDoor, visit } from "../support/sessions.ts"
import { apart, scrape } from "./support/series.ts"

const Live = Channel.make("live", Schema.Finite)
const Log = Channel.make("log", Schema.Finite, { delivery: "durable" })
const Calm = Channel.make("calm", Schema.Finite, { delivery: "durable" })
const Things = Channel.table("things", Schema.Struct({ id: Schema.Int, owner: Schema.String }), {
  key: "id",
  filter: ["owner"]
})

/** Whose rows each identity may see, where they are not its own. */
const instead = new Map<string, string>()

const options: IdentityOptions<string> = {
  channels: [Live, Log, Calm, Things],
  authenticate: ({ token = "" }) => Effect.succeed({ identity: token }),
  authorize: ({ channel, identity }) =>
    Effect.succeed(
      channel === Things.name ? { where: { owner: instead.get(identity) ?? identity } } : true
    )
}

const resets = ["malformed", "identity", "witness", "future", "retention", "bounds"] as const

/** The reader in memory, whose joins from the cursor `reset-bounds` are resets with that reason, and so on. */
const layerReader = Layer.effect(
  OutboxReader,
  OutboxReader.useSync((reader) => ({
    ...reader,
    join: (channel, from, ...rest) => {
      const reason = resets.find((one) => from === `reset-${one}`)
      return reason === undefined
        ? reader.join(channel, from, ...rest)
        : Effect.map(reader.join(channel, undefined, ...rest), (join) => ({
            ...join,
            state: "reset" as const,
            reason
          }))
    }
  }))
)

const layer = Layer.effect(TestDoor, Door.make(options)).pipe(
  Layer.provideMerge(Realtime.layer()),
  Layer.provideMerge(layerReader),
  Layer.provideMerge(MemoryOutbox.layer()),
  Layer.provideMerge(MemorySource.layer)
)

describe("a count by reason", () => {
  it.effect("has each reset in the series of its reason", () =>
    apart(
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "ann" })
        let id = 0
        const resume = (channel: string, cursor: string) =>
          Effect.gen(function* () {
            visitor.send({ type: "subscribe", id: ++id, channel, cursor })
            yield* settle
            expect(visitor.answer(id)).toMatchObject({ type: "subscribed", state: "reset" })
            visitor.send({ type: "unsubscribe", id: ++id, channel })
            yield* settle
          })
        for (const [index, reason] of resets.entries()) {
          for (let n = 0; n <= index; n++) yield* resume("log", `reset-${reason}`)
        }
        for (let n = 0; n < 7; n++) yield* resume("live", "e:1")
        expect(yield* scrape).toMatchObject({
          'resets_total{reason="malformed"}': 1,
          'resets_total{reason="identity"}': 2,
          'resets_total{reason="witness"}': 3,
          'resets_total{reason="future"}': 4,
          'resets_total{reason="retention"}': 5,
          'resets_total{reason="bounds"}': 6,
          'resets_total{reason="memory"}': 7,
          'refused_total{reason="reset"}': 28
        })
      }).pipe(Effect.scoped, Effect.provide(layer))
    )
  )

  it.effect("has each gap of each subscription in the series of its reason", () =>
    apart(
      Effect.gen(function* () {
        const visitors = [yield* visit({ token: "ann" }), yield* visit({ token: "bob" })]
        for (const visitor of visitors) {
          visitor.send({ type: "subscribe", id: 1, channel: "live" })
          visitor.send({ type: "subscribe", id: 2, channel: Things.name })
          yield* settle
          expect(visitor.of("subscribed")).toHaveLength(2)
        }
        const source = yield* NotificationSource
        for (const text of ["1", gapTexts.truncate, "2", gapTexts.truncate, "3", '"a"', "4"]) {
          yield* source.notify("live", text)
          yield* settle
        }
        // At the next token the rights of one client are others.
        instead.set("ann", "eve")
        for (const [index, token] of ["ann", "bob"].entries()) {
          visitors[index]!.send({ type: "authenticate", id: 3, token })
        }
        yield* settle
        instead.clear()
        expect(visitors.map((visitor) => visitor.of("gap").map(({ reason }) => reason))).toEqual([
          ["truncate", "truncate", "invalid", "rights"],
          ["truncate", "truncate", "invalid"]
        ])
        expect(yield* scrape).toMatchObject({
          'gaps_total{reason="truncate"}': 4,
          'gaps_total{reason="invalid"}': 2,
          'gaps_total{reason="rights"}': 1,
          'gaps_total{reason="source"}': 0,
          events_out_total: 8
        })
        const { lose, restore } = yield* MemorySource.MemorySource
        yield* lose
        yield* settle
        yield* restore
        yield* settle
        expect(yield* scrape).toMatchObject({ 'gaps_total{reason="source"}': 2 })
      }).pipe(Effect.scoped, Effect.provide(layer))
    )
  )

  it.effect(
    "has a gap of each subscription when messages were pruned while the reader was away",
    () =>
      apart(
        Effect.gen(function* () {
          const visitors = [yield* visit({ token: "ann" }), yield* visit({ token: "bob" })]
          for (const visitor of visitors) visitor.send({ type: "subscribe", id: 1, channel: "log" })
          visitors[0]!.send({ type: "subscribe", id: 2, channel: "calm" })
          yield* settle
          const outbox = yield* MemoryOutbox.MemoryOutbox
          yield* Realtime.publish(Log, 1)
          yield* settle
          for (let n = 0; n < 3; n++) {
            yield* outbox.lose
            yield* settle
            yield* Realtime.publish(Log, 2)
            // With the third loss nothing is pruned.
            if (n < 2) yield* outbox.prune
            yield* outbox.restore
            yield* settle
          }
          // The reader cannot know of which channels the messages were.
          expect(visitors.map((visitor) => visitor.of("gap").map(({ reason }) => reason))).toEqual([
            ["retention", "retention", "retention", "retention"],
            ["retention", "retention"]
          ])
          expect(yield* scrape).toMatchObject({
            'gaps_total{reason="retention"}': 6,
            'gaps_total{reason="source"}': 0,
            'resets_total{reason="retention"}': 0
          })
        }).pipe(Effect.scoped, Effect.provide(layer))
      )
  )
})
