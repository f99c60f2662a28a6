/** The warning about a channel that does not receive the changes of its table, while the database fails. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import type { SqlClient } from "effect/sql/SqlClient"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import { TestClock } from "effect/testing"
import * as Watched from "../../../../src/server/internal/link/watched.ts"

const row = { channel: "orders", table: "public.orders", delivery: "durable", rel: 1 }

describe("A channel whose table is watched for the other delivery", () => {
  it.effect(
    "is warned of once, also when the second read of the watched tables failed at first",
    () =>
      Effect.gen(function* () {
        const lines: Array<string> = []
        let fails = false
        const sql = {
          withoutTransforms: () => sql,
          unsafe: () =>
            Effect.suspend(() =>
              fails
                ? Effect.fail(new SqlError({ reason: new UnknownError({ cause: "lost" }) }))
                : Effect.succeed([row])
            )
        } as unknown as SqlClient
        const watched = yield* Watched.make(sql, "live")
        yield* watched.load
        const compare = Effect.andThen(watched.compare("orders"), TestClock.adjust(1)).pipe(
          Effect.provide(
            Logger.layer([Logger.make(({ message }) => void lines.push(String(message)))])
          )
        )
        fails = true
        yield* compare
        expect(lines).toEqual([])
        fails = false
        yield* compare
        yield* compare
        expect(lines).toEqual([expect.stringContaining("do not reach the live channel")])
      }).pipe(Effect.scoped)
  )
})
