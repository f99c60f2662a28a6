/** What nodes say to each other over NATS beside the bus: which node reads it, and what it drops. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { TestClock } from "effect/testing"
import type { Connection, Hear } from "../../../src/nats/internal/connection.ts"
import * as Sealed from "../../../src/nats/internal/sealed.ts"
import { seal, unseal } from "../../../src/nats/internal/sealing.ts"
import type { Secrets } from "../../../src/server/internal/bus/dayKey.ts"
import * as metrics from "../../../src/server/internal/metrics.ts"

const day = 86_400_000
const database: Secrets = { identity: "database", secrets: ["secret"] }
const head = { sender: "0123456789abcdef", counter: 7, time: 20_000 * day }

describe("A frame over NATS", () => {
  it("is read by a node with the secret, also with the one before, and near midnight", () => {
    const text = "größer, \0 und 🦉"
    const data = seal(database, "a.b", head, text)
    expect(data.includes("und")).toBe(false)
    const rotated = { ...database, secrets: ["new", "secret"] }
    for (const of of [database, rotated]) {
      for (const now of [head.time, head.time - 1, head.time + day]) {
        expect(unseal(of, "a.b", data, now)).toEqual({ ...head, text })
      }
    }
  })

  it("is none with another secret, database, subject, day or byte", () => {
    const data = seal(database, "a.b", head, "text")
    expect(unseal({ ...database, secrets: ["other"] }, "a.b", data, head.time)).toBeUndefined()
    expect(unseal({ ...database, identity: "copy" }, "a.b", data, head.time)).toBeUndefined()
    expect(unseal(database, "a.c", data, head.time)).toBeUndefined()
    expect(unseal(database, "a.b", data, head.time + 2 * day)).toBeUndefined()
    for (let at = 0; at < data.length; at++) {
      const changed = Buffer.from(data)
      changed[at]! ^= 1
      expect(unseal(database, "a.b", changed, head.time)).toBeUndefined()
      expect(unseal(database, "a.b", data.subarray(0, at), head.time)).toBeUndefined()
    }
  })
})

/** A connection whose messages the test carries. */
const wire = () => {
  const ears = new Map<string, Hear>()
  const sent: Array<{ readonly subject: string; readonly data: Uint8Array }> = []
  const connection = {
    root: "root",
    maxPayload: () => 1000,
    publish: (subject: string, data: Uint8Array) => sent.push({ subject, data }) > 0,
    subscribe: (subject: string, hear: Hear) => Effect.sync(() => void ears.set(subject, hear)),
    flush: () => Effect.succeed(true)
  } as unknown as Connection
  const carry = ({ data, subject }: (typeof sent)[number]) => ears.get(subject)?.(data, subject)
  return { connection, sent, carry }
}

const dropped = (reason: string) =>
  Effect.map(Metric.value(Metric.withAttributes(metrics.natsDropped, { reason })), ({ count }) =>
    Number(count)
  )

describe("The subjects of a database", () => {
  it.effect("take a frame once, within 30 s, and count what they drop", () =>
    Effect.gen(function* () {
      const { carry, connection, sent } = wire()
      let secrets = database
      let reads = 0
      const again = Effect.sync(() => {
        reads++
        secrets = { ...database, secrets: ["rotated", "secret"] }
      })
      const keys = { current: () => secrets, again }
      const one = yield* Sealed.make(connection, "schema", keys)
      const got: Array<string> = []
      yield* one.subscribe("a", (text) => got.push(text))
      const before = yield* Effect.all(["forged", "late", "replayed"].map(dropped))

      for (const text of ["1", "2", "3"]) one.publish("a", text)
      for (const index of [1, 0, 0, 2, 1]) carry(sent[index]!)
      expect(got).toEqual(["2", "1", "3"])
      one.publish("a", "late")
      yield* TestClock.adjust("31 seconds")
      carry(sent[3]!)
      expect(got).toEqual(["2", "1", "3"])

      // A node that reads the secret after another one: the frame is lost, and the next one arrives.
      const other = { current: () => ({ ...database, secrets: ["rotated"] }), again: Effect.void }
      const two = yield* Sealed.make(connection, "schema", other)
      two.publish("a", "first")
      carry(sent[4]!)
      yield* TestClock.adjust(1)
      expect(reads).toBe(1)
      two.publish("a", "second")
      carry(sent[5]!)
      expect(got).toEqual(["2", "1", "3", "second"])
      const after = yield* Effect.all(["forged", "late", "replayed"].map(dropped))
      expect(after.map((count, index) => count - before[index]!)).toEqual([1, 1, 2])
    })
  )
})
