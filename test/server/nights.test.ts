/** How many lines a node logs in a night of 8 hours in which something fails all the time. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger, Queue, References, Schema, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import { vi } from "vitest"
import * as Channel from "../../src/Channel.ts"
import * as Bus from "../../src/server/internal/bus/bus.ts"
import type { Carrier } from "../../src/server/internal/bus/carrier.ts"
import { Told } from "../../src/server/internal/hub/gapCounter.ts"
import { Defects } from "../../src/server/internal/notices.ts"
import type { PgLink } from "../../src/server/internal/link/pgLink.ts"
import { Leases } from "../../src/server/internal/outbox/lease.ts"
import { Tail } from "../../src/server/internal/outbox/tail.ts"
import * as List from "../../src/server/internal/control/revocationList.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import { allowAll, AuthRefused, type Options } from "../../src/server/ServerOptions.ts"
import { layerDoor, settle, visit } from "../support/sessions.ts"
import { until, waitFor } from "../support/until.ts"
import { layerInstalled, publish, quick, session } from "./support/durable.ts"

/** What an operator sees. */
const logged = () => {
  const lines: Array<string> = []
  const layer = Layer.merge(
    Logger.layer([
      Logger.make(({ logLevel, message }) => {
        if (logLevel !== "Debug") lines.push(`${logLevel} ${String([message].flat()[0])}`)
      })
    ]),
    Layer.succeed(References.MinimumLogLevel, "All")
  )
  return { lines, layer }
}

/** Runs until the clock has gone on by 8 hours, in steps. */
const night = <R = never>(
  step: Duration.Input,
  each: Effect.Effect<unknown, never, R> = Effect.void as never
) =>
  Effect.repeat(Effect.andThen(each, TestClock.adjust(step)), {
    times: Duration.toMillis("8 hours") / Duration.toMillis(Duration.fromInputUnsafe(step)) - 1
  })

/** One at the loss and one in each 10 minutes. */
const reminders = 48

const times = { heartbeat: 10_000, silentAfter: 30_000, forgetAfter: 60_000, batchWindow: 50 }
const keys: Bus.Keys = {
  current: () => ({ identity: "1", secrets: ["00".repeat(32)] }),
  lasting: Effect.never,
  again: Effect.void
}

/** A bus whose carrier loses every text while it is deaf. */
const bus = Effect.gen(function* () {
  const state = yield* SubscriptionRef.make<"up" | "down">("up")
  const way: { deaf: boolean; hear: (text: string) => void } = {
    deaf: false,
    hear: () => undefined
  }
  const carrier: Carrier = {
    maxBytes: () => 8000,
    send: (text) => Effect.sync(() => void (way.deaf || way.hear(text))),
    receive: (hear) => Effect.sync(() => void (way.hear = hear)),
    state,
    renew: Effect.andThen(
      SubscriptionRef.set(state, "down"),
      Effect.delay(SubscriptionRef.set(state, "up"), 50)
    )
  }
  yield* Bus.make(carrier, keys, { self: { name: "one", incarnation: "1" }, times })
  return { state, way }
})

describe("A night in which", () => {
  it.effect(
    "the bus delivers nothing has a line in 10 minutes, and one when it delivers again",
    () => {
      const { layer, lines } = logged()
      return Effect.gen(function* () {
        const { way } = yield* bus
        yield* TestClock.adjust("1 minute")
        expect(lines).toEqual([])
        way.deaf = true
        yield* night("10 seconds")
        way.deaf = false
        yield* TestClock.adjust("1 minute")
        expect(lines.length).toBeGreaterThan(40)
        expect(lines.length).toBeLessThanOrEqual(reminders + 4)
        expect(lines[0]).toMatch(/^Warn The bus does not deliver: /)
        expect(lines.at(-1)).toMatch(/^Info The bus delivers: .*, after 7 h 5\d min$|^Info .* 8 h/)
      }).pipe(Effect.scoped, Effect.provide(layer))
    }
  )

  it.effect("a lease cannot be asked for has a line in 10 minutes", () => {
    const { layer, lines } = logged()
    return Effect.gen(function* () {
      const leases = new Leases({ name: "one", incarnation: "1" }, Duration.seconds(2))
      let attempts = 0
      const query = () =>
        Effect.suspend(() => Effect.fail(new Error(`no rights, attempt ${++attempts}`)))
      yield* leases.on({ query } as unknown as PgLink)
      yield* Effect.forkChild(leases.take("reader"))
      yield* TestClock.adjust("1 hour")
      expect(attempts).toBeGreaterThan(10_000)
      expect(lines[0]).toMatch(/^Warn The lease "reader" cannot be asked for: no rights/)
      expect(lines.length).toBeGreaterThan(4)
      expect(lines.length).toBeLessThanOrEqual(6)
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.effect("a lease cannot be asked for because the reader is down has no line of its own", () => {
    const { layer, lines } = logged()
    return Effect.gen(function* () {
      const leases = new Leases({ name: "one", incarnation: "1" }, Duration.seconds(2))
      yield* Effect.forkChild(leases.take("consume:ledger"))
      yield* TestClock.adjust("1 hour")
      expect(lines).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.effect("revocations cannot be read has a line in 10 minutes, and one when they can", () => {
    const { layer, lines } = logged()
    return Effect.gen(function* () {
      let broken = false
      yield* List.make(
        () => Effect.suspend(() => (broken ? Effect.fail(new Error("away")) : Effect.succeed([]))),
        () => undefined
      )
      yield* TestClock.adjust("1 minute")
      broken = true
      yield* night("10 seconds")
      broken = false
      yield* TestClock.adjust("1 minute")
      expect(lines.length).toBeGreaterThan(40)
      expect(lines.length).toBeLessThanOrEqual(reminders + 2)
      expect(lines[0]).toMatch(/^Warn /)
      expect(lines.at(-1)).toMatch(/^Info Revocations are read again, after 7 h 5\d min/)
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.effect("a client is refused each minute has few lines for each reason, of all clients", () => {
    const { layer, lines } = logged()
    const options: Options<string> = {
      channels: [Channel.make("notes", Schema.String)],
      authorize: allowAll,
      authenticate: () => Effect.fail(new AuthRefused({ code: "auth/invalid" }))
    }
    return Effect.gen(function* () {
      let n = 0
      yield* night(
        "1 minute",
        Effect.suspend(() => visit({ token: `t${n++}`, address: `10.0.${n >> 8}.${n & 255}` }))
      )
      expect(n).toBe(480)
      const told = lines.filter((line) => line.includes("its token is not valid"))
      expect(told.length).toBeGreaterThan(5)
      expect(told.length).toBeLessThan(20)
    }).pipe(Effect.scoped, Effect.provide(layerDoor(options)), Effect.provide(layer))
  })

  it.effect("a client asks for 200 channels does not keep other refusals out of the log", () => {
    const { layer, lines } = logged()
    const options: Options<string> = {
      channels: [Channel.family("room_", Schema.String, Schema.String)],
      authorize: () => Effect.die(new Error("authorize is broken")),
      authenticate: ({ token = "" }) =>
        token === "good"
          ? Effect.succeed({ identity: token })
          : Effect.fail(new AuthRefused({ code: "auth/invalid" })),
      limits: { subscribeRate: { perSecond: 100_000, burst: 100_000 } }
    }
    return Effect.gen(function* () {
      const visitor = yield* visit({ token: "good" })
      for (let id = 1; id <= 200; id++) {
        visitor.send({ type: "subscribe", id, channel: `room_${id}` })
        yield* settle
      }
      const errors = lines.filter((line) => line.startsWith("Error")).length
      expect(errors).toBeGreaterThan(0)
      expect(errors).toBeLessThanOrEqual(2)
      yield* visit({ token: "bad" })
      yield* settle
      expect(lines.filter((line) => line.includes("its token is not valid"))).toHaveLength(1)
    }).pipe(Effect.scoped, Effect.provide(layerDoor(options)), Effect.provide(layer))
  })

  it.effect("a loop meets the same defect all the time has few lines, with the place of it", () => {
    const { layer, lines } = logged()
    return Effect.gen(function* () {
      const defects = new Defects()
      yield* night(
        "10 seconds",
        Effect.suspend(() => defects.logged("The tick of a door", new Error(`at ${Math.random()}`)))
      )
      expect(lines.length).toBeLessThan(16)
      expect(lines[0]).toBe("Error The tick of a door failed, and goes on.")
      expect(lines[1]).toMatch(/ \(\d+ more since this was last said\)\.$/)
    }).pipe(Effect.provide(layer))
  })

  it.effect("a writer sends what does not match each second has few lines", () => {
    const { layer, lines } = logged()
    return Effect.gen(function* () {
      const told = new Told()
      let id = 0
      yield* night(
        "1 second",
        Effect.suspend(() =>
          told.tell("orders", [
            {
              id: String(++id),
              tx: "1",
              unfit: { path: '["id"]', expected: "number", cure: undefined }
            } as never
          ])
        )
      )
      expect(id).toBe(28_800)
      expect(lines.length).toBeLessThan(80)
      expect(lines.some((line) => / \(\d+ more since this was last said\)\.$/.test(line))).toBe(
        true
      )
    }).pipe(Effect.provide(layer))
  })

  it.effect("the source is lost each minute has no line for a client", () => {
    const { layer, lines } = logged()
    return Effect.gen(function* () {
      const source = yield* MemorySource.MemorySource
      expect(yield* SubscriptionRef.get((yield* NotificationSource).state)).toBe("up")
      for (let n = 0; n < 50; n++) yield* visit()
      yield* night("1 minute", Effect.andThen(source.lose, source.restore))
      expect(lines).toEqual([])
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerDoor({ channels: [Channel.make("notes", Schema.String)], authorize: allowAll })
      ),
      Effect.provide(layer)
    )
  })
})

describe("A defect in the reader of the outbox", () => {
  it.live("is logged once with its place, costs a gap, and does not end the reader", () => {
    const { layer, lines } = logged()
    const defect = vi.spyOn(Tail.prototype, "rest").mockImplementationOnce(() => {
      throw new TypeError("a defect")
    })
    return Effect.gen(function* () {
      const reader = yield* OutboxReader.OutboxReader
      yield* waitFor(reader, "up")
      const events = yield* reader.follow("orders")
      const db = yield* session
      yield* db.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'effect-realtime reader'"
      )
      yield* until(() =>
        lines.some((line) => line.startsWith("Info The reader of the outbox is back"))
      )
      yield* publish("orders", { id: 1 })
      const got: Array<string> = []
      while (!got.includes("Batch")) got.push((yield* Queue.take(events))._tag)
      expect(got).toContain("Gap")
      expect(defect).toHaveBeenCalled()
      expect(lines.filter((line) => /^(Warn|Error) The reader/.test(line))).toHaveLength(1)
    }).pipe(
      Effect.ensuring(Effect.sync(() => defect.mockRestore())),
      Effect.scoped,
      Effect.provide(OutboxReader.layer(quick).pipe(Layer.provideMerge(layerInstalled()))),
      Effect.provide(layer)
    )
  })
})
