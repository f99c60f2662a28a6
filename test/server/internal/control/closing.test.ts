/** The end of revoked sessions on a node whose reader of the outbox has a fault. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import * as Control from "../../../../src/server/internal/control/control.ts"
import type { RevocationRow } from "../../../../src/server/internal/control/revocationList.ts"
import type { Door } from "../../../../src/server/internal/door/door.ts"
import * as MemoryBus from "../../../../src/server/MemoryBus.ts"
import { NodeBus } from "../../../../src/server/NodeBus.ts"
import { OutboxReader } from "../../../../src/server/OutboxReader.ts"

describe("A node whose reader dies of a defect", () => {
  it.effect("the node closes the sessions that are revoked or disconnected", () =>
    Effect.gen(function* () {
      const rows: Array<RevocationRow> = []
      const store: Control.RevocationStore = {
        read: (after) => Effect.sync(() => rows.filter(({ id }) => Number(id) > Number(after))),
        add: (kind, name) =>
          Effect.sync(() =>
            rows.push({ id: `${rows.length + 1}`, kind, name, at: 1, expires: 1e15 })
          )
      }
      const reader = { position: Effect.die(new Error("no place")) } as unknown
      const bus = yield* MemoryBus.make(MemoryBus.network(), { name: "one" })
      const prepared = yield* Control.prepare(true, store).pipe(
        Effect.provideService(NodeBus, bus),
        Effect.provideService(OutboxReader, reader as OutboxReader["Service"])
      )
      const ended: Array<string | undefined> = []
      const door = {
        end: (_name: string, _which: unknown, key?: string) => void ended.push(key)
      } as unknown as Door
      const control = yield* prepared.over(door)
      yield* Effect.forkChild(control.revoke("ann"), { startImmediately: true })
      yield* TestClock.adjust(3000)
      expect(ended).toEqual(["ann"])
      yield* Effect.forkChild(control.disconnect("bob"), { startImmediately: true })
      yield* TestClock.adjust(3000)
      expect(ended).toEqual(["ann", "bob"])
    }).pipe(Effect.scoped)
  )
})
