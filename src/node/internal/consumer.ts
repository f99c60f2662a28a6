/**
 * A named consumer for code without Effect: it retries after each failure, until it is stopped.
 *
 * In: a channel, `onEvents`, and a function that runs an Effect until a signal. Out: a handle. The cursor
 * and the transaction are those of `Realtime.consume`.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { isSqlError } from "effect/sql/SqlError"
import * as Backoff from "../../Backoff.ts"
import type { Channel } from "../../Channel.ts"
import { errorText } from "../../internal/errorText.ts"
import type { RealtimeEvent } from "../../RealtimeEvent.ts"
import { keeps } from "../../server/internal/hub/durable.ts"
import { sqlState } from "../../server/internal/link/sqlState.ts"
import { invalid } from "../../server/internal/options.ts"
import { Defects } from "../../server/internal/notices.ts"
import { Outage } from "../../server/internal/outage.ts"
import * as Reconnecting from "../../server/internal/reconnecting.ts"
import type { OutboxReader } from "../../server/OutboxReader.ts"
import * as Realtime from "../../server/Realtime.ts"
import type { Consumer, ConsumeOptions } from "../Options.ts"
import { openTransaction, transactionError, type TransactionError } from "./transaction.ts"

type Durable<A> = Channel<A, boolean, string, "durable">
type Services = OutboxReader | PgClient

/** Wraps what `onEvents` threw, which may be an error that `Realtime.consume` handles itself. */
class BatchFailed extends Data.TaggedError("BatchFailed")<{ readonly error: unknown }> {}

/** Throws `InvalidOption`, `InvalidChannelName`, `NotDurable`, and `NoOutbox` on a server without a reader. */
export const checkConsumer = <A>(
  channel: Durable<A>,
  options: ConsumeOptions<A>,
  readsOutbox: boolean
): void => {
  if (channel?._tag !== "Channel") {
    throw invalid("channel", channel, "a channel, such as Channel.make(name, schema)")
  }
  if (channel.fault !== undefined) throw channel.fault
  if (!keeps(channel)) {
    throw new Realtime.NotDurable({ channel: (channel as { readonly name: string }).name })
  }
  if (!readsOutbox) throw new Realtime.NoOutbox({ channel: channel.name })
  if (typeof options !== "object" || options === null) {
    throw invalid("options", options, "options by their names, such as { name, onEvents }")
  }
  const { name, onError, onEvents, start } = options
  const bytes = typeof name === "string" ? Buffer.byteLength(name) : 0
  if (bytes < 1 || bytes > 200 || name.includes("\0")) {
    throw invalid("name", name, "1-200 bytes of UTF-8 without NUL")
  }
  if (typeof onEvents !== "function") throw invalid("onEvents", onEvents, "a function")
  if (onError !== undefined && typeof onError !== "function") {
    throw invalid("onError", onError, "a function")
  }
  const isStart =
    start === undefined ||
    start === "now" ||
    start === "oldest" ||
    (typeof start === "object" && typeof start?.cursor === "string")
  if (!isStart) throw invalid("start", start, `"now", "oldest" or { cursor }`)
}

/** Whether `onEvents` has a batch whose transaction is open. */
interface Hand {
  busy: boolean
  /** Runs when the transaction of the batch has ended. */
  onIdle: () => void
  /** Rolls the batch back. */
  readonly givenUp: AbortSignal
}

/** Runs `onEvents` in the transaction that moves the cursor. */
const handled = <A>(
  { onEvents }: ConsumeOptions<A>,
  events: ReadonlyArray<RealtimeEvent<A>>,
  hand: Hand,
  onFailed: (error: TransactionError | undefined) => void
): Effect.Effect<void, BatchFailed, PgClient> =>
  Effect.gen(function* () {
    const sql = yield* PgClient
    const { cut, end, failed, transaction } = openTransaction(
      sql.withoutTransforms(),
      yield* Effect.context<never>()
    )
    hand.busy = true
    yield* sql.afterCommit(Effect.sync(() => hand.onIdle()))
    yield* Effect.callback<void, BatchFailed>((resume) => {
      const working = new AbortController()
      /** Ends what is still under way. */
      const leave = () => {
        hand.givenUp.removeEventListener("abort", onGivenUp)
        cut()
        working.abort()
      }
      const fail = (error: unknown) => {
        leave()
        resume(Effect.fail(new BatchFailed({ error })))
      }
      const onGivenUp = () => fail(hand.givenUp.reason)
      hand.givenUp.addEventListener("abort", onGivenUp)
      const work = async () => {
        const value = onEvents(events, transaction)
        const { signal } = working
        await (Effect.isEffect(value) ? Effect.runPromise(value, { signal }) : value)
        await end()
        hand.givenUp.removeEventListener("abort", onGivenUp)
        resume(Effect.void)
      }
      work().catch(fail)
      return Effect.sync(leave)
    })
    onFailed(failed())
  })

/** Consumes until an interruption, or until the name or the channel is rejected. */
const consuming = <A>(
  channel: Durable<A>,
  options: ConsumeOptions<A>,
  hand: Hand
): Effect.Effect<never, Realtime.ConsumerConflict | Realtime.NotDurable, Services> =>
  Effect.gen(function* () {
    const { name, onError, start } = options
    const defects = new Defects()
    let queryFailed: TransactionError | undefined
    /** PostgreSQL rejects all queries after a failed one, so the failed one is the reason. */
    const reasonOf = (error: unknown): unknown =>
      error instanceof BatchFailed
        ? error.error
        : isSqlError(error)
          ? sqlState(error) === "25P02"
            ? (queryFailed ?? transactionError(error))
            : transactionError(error)
          : error
    const attempt = (onUp: Effect.Effect<void>) =>
      Realtime.consume(channel, {
        name,
        start,
        onEvents: (events) =>
          Effect.gen(function* () {
            yield* (yield* PgClient).afterCommit(onUp)
            yield* handled(options, events, hand, (error) => (queryFailed = error))
          })
      })
    const reconnecting = yield* Reconnecting.make(Backoff.link, {
      fromStart: true,
      outage:
        onError === undefined
          ? new Outage({
              lost: `The consumer "${name}" has rolled its batch back, and retries it`,
              back: `The consumer "${name}" has committed its batch`
            })
          : `The consumer "${name}" has rolled its batch back`
    })
    return yield* reconnecting(attempt, (cause) =>
      Effect.gen(function* () {
        hand.onIdle()
        const lasting = Cause.findErrorOption(cause)
        if (
          lasting._tag === "Some" &&
          (lasting.value._tag === "ConsumerConflict" || lasting.value._tag === "NotDurable")
        ) {
          return yield* Effect.fail(lasting.value)
        }
        if (Cause.hasInterrupts(cause) || hand.givenUp.aborted) return yield* Effect.interrupt
        const error = reasonOf(Cause.squash(cause))
        if (onError !== undefined) {
          // It may be an async function, for which the retry does not wait.
          yield* Effect.tryPromise({
            try: async () => onError(error),
            catch: (thrown) => thrown
          }).pipe(
            Effect.catch((thrown) =>
              defects.logged(`The onError of the consumer "${name}"`, thrown)
            ),
            Effect.forkDetach({ startImmediately: true })
          )
        }
        return { reason: errorText(error) }
      })
    )
  })

/** Runs a consumer until the signal, or until its server closes. */
export type Run = <E>(
  effect: Effect.Effect<never, E, Services>,
  signal: AbortSignal
) => Promise<Exit.Exit<never, unknown>>

/** Starts a consumer. `finishMillis` is the time that a batch has to commit after `stop`. */
export const startConsumer = <A>(
  channel: Durable<A>,
  options: ConsumeOptions<A>,
  run: Run,
  finishMillis: number
): Consumer => {
  const stopping = new AbortController()
  const givingUp = new AbortController()
  const hand: Hand = {
    busy: false,
    onIdle: () => {
      hand.busy = false
    },
    givenUp: givingUp.signal
  }
  const done = run(consuming(channel, options, hand), stopping.signal).then((exit) => {
    if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return
    throw Cause.squash(exit.cause)
  })
  const ended = done.catch((error: unknown) => {
    // For an application that does not await `done`.
    Effect.runFork(Effect.logError(`The consumer "${options.name}" has ended`, error))
  })
  const stop = async () => {
    if (hand.busy) {
      hand.onIdle = () => {
        hand.busy = false
        stopping.abort()
      }
      const late = Effect.sync(() => givingUp.abort(stopped))
      await Effect.runPromise(
        Effect.raceFirst(
          Effect.promise(() => ended),
          Effect.andThen(Effect.sleep(finishMillis), late)
        )
      )
    }
    stopping.abort()
    await ended
  }
  return { done, stop, [Symbol.asyncDispose]: stop }
}

/** The failure of a batch that did not commit in time after `stop`. */
const stopped = new Error("The consumer was stopped before its batch was committed.")
