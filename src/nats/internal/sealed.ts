/**
 * The subjects of a database for the feed and for live channels: what a node sends on them is encrypted and
 * signed, and what no node of the database sent is dropped and counted.
 *
 * In: the connection, and the secret of the database. Out: texts. A frame is taken once, and only within
 * 30 s of its time.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { Keys } from "../../server/internal/bus/bus.ts"
import { CounterWindow } from "../../server/internal/bus/counterWindow.ts"
import { maxOff } from "../../server/internal/bus/dayKey.ts"
import { Notices } from "../../server/internal/notices.ts"
import * as metrics from "../../server/internal/metrics.ts"
import { natsDropReasons } from "../../server/internal/tally.ts"
import type { Connection } from "./connection.ts"
import { frameBytes, newSender, seal, unseal } from "./sealing.ts"
import { prefixOf } from "./subjects.ts"

export interface Sealed extends Pick<Connection, "flush" | "state"> {
  /** The identity of the database; `undefined` until it was read once. */
  readonly identity: () => string | undefined
  /** What all subjects of the present database begin with; `undefined` until it is known. */
  readonly prefix: () => string | undefined
  /** The bytes of the largest text, as the present server says. */
  readonly maxBytes: () => number
  /** Sends a text; `false` when it did not leave. */
  readonly publish: (subject: string, text: string) => boolean
  /** Calls `hear` with each text that a node of this database sent, until the scope closes. */
  readonly subscribe: (
    subject: string,
    hear: (text: string) => void
  ) => Effect.Effect<void, never, Scope.Scope>
  /** Reads the secret and the identity again. */
  readonly again: Effect.Effect<void>
}

/** Milliseconds between two reads of the secret because of a frame. */
const doubtEvery = 1000

/** What a header of the library may take beside a frame. */
const headRoom = 256

/** Senders that are remembered: each has several for each node. */
const maxSenders = 256

const drops = {
  forged:
    "A message on the subjects of this database in NATS is of no node of it, and does nothing. If other nodes are not heard, compare their secret: it is read from the database each 10 s.",
  late: `A message over NATS was dropped, because its time is more than ${maxOff / 1000} s off. Set the clocks of the nodes: each reads for itself otherwise.`
}

export const make = (
  connection: Connection,
  schema: string,
  keys: Pick<Keys, "again" | "current">
): Effect.Effect<Sealed, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const now = () => clock.currentTimeMillisUnsafe()
    const sender = newSender()
    const senders = new Map<string, CounterWindow>()
    let counter = 0

    const said = new Notices()
    const say = (reason: keyof typeof drops): void => {
      if (said.due(reason, now()) === undefined) return
      const line = Effect.logWarning(drops[reason])
      runFork(Effect.annotateLogs(line, "component", "effect-realtime nats"))
    }
    const dropped = yield* metrics.countBy(metrics.natsDropped, "reason", natsDropReasons)

    /** Whether it is the first frame of its sender with this number. */
    const isNew = (of: string, number: number): boolean => {
      const window = senders.get(of) ?? new CounterWindow()
      // The one that was silent for longest goes first.
      senders.delete(of)
      senders.set(of, window)
      if (senders.size > maxSenders) senders.delete(senders.keys().next().value!)
      return window.accept(number)
    }

    /** The last frame that no key decrypts. */
    let doubted: { readonly subject: string; readonly data: Uint8Array } | undefined
    const inDoubt = Latch.makeUnsafe(false)
    yield* Effect.gen(function* () {
      yield* inDoubt.await
      yield* keys.again
      inDoubt.closeUnsafe()
      const one = doubted
      const secrets = keys.current()
      doubted = undefined
      if (one !== undefined && secrets !== undefined) {
        if (unseal(secrets, one.subject, one.data, now()) === undefined) say("forged")
      }
      yield* Effect.sleep(doubtEvery)
    }).pipe(Effect.forever, Effect.forkScoped)

    const open = (data: Uint8Array, subject: string): string | undefined => {
      const secrets = keys.current()
      const frame = secrets === undefined ? undefined : unseal(secrets, subject, data, now())
      if (frame === undefined) {
        doubted ??= { subject, data: Uint8Array.from(data) }
        inDoubt.openUnsafe()
        return void dropped("forged")
      }
      if (Math.abs(frame.time - now()) > maxOff) {
        say("late")
        return void dropped("late")
      }
      if (!isNew(frame.sender, frame.counter)) return void dropped("replayed")
      return frame.text
    }

    const identity = () => keys.current()?.identity
    return {
      state: connection.state,
      flush: connection.flush,
      identity,
      prefix: () => {
        const known = identity()
        return known === undefined ? undefined : prefixOf(connection.root, known, schema)
      },
      maxBytes: () => connection.maxPayload() - frameBytes - headRoom,
      publish: (subject, text) => {
        const secrets = keys.current()
        if (secrets === undefined) return false
        const head = { sender, counter: counter++, time: now() }
        return connection.publish(subject, seal(secrets, subject, head, text))
      },
      subscribe: (subject, hear) =>
        connection.subscribe(subject, (data, of) => {
          const text = open(data, of)
          if (text !== undefined) hear(text)
        }),
      again: keys.again
    }
  })
