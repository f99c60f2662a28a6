/**
 * Runs long queries in the background and publishes their results on `query_results_${queryId}`.
 *
 * The request that starts a query is answered at once, and the result arrives on the channel. On a
 * durable channel it also reaches a page that reloaded meanwhile. Every end of a query is published:
 * success, failure, a defect, and the shutdown of the server. An id contains its owner, so `authorize`
 * can check it without a query, on every node and after every restart.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Checked from "effect/Result"
import * as Stream from "effect/Stream"
import { TransactionConnection } from "effect/sql/SqlClient"
import { createHash, randomBytes } from "node:crypto"
import type * as Channel from "../Channel.ts"
import * as Backoff from "../Backoff.ts"
import { Notices, sentence, signatureOf } from "./internal/notices.ts"
import { toJson } from "../ChannelBase.ts"
import { keeps } from "./internal/hub/durable.ts"
import { NotDurable } from "./internal/hub/errors.ts"
import { Parts, ResultTooLarge } from "./internal/parts.ts"
import { type EventBatch, type PublishError, Realtime } from "./Realtime.ts"

/**
 * The payload of a channel of `Channel.queryResults`.
 *
 * @category models
 * @since 0.1.0
 */
export type Result<A> = Channel.QueryResult<A>

/**
 * Options of `run` and `stream`.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunOptions<in E> {
  /**
   * The `error` that the page receives for a failure, default `"The query failed."`, because an error may
   * contain SQL or rows of other users. It is not called for defects and interruption. Where it throws, the
   * page receives the default.
   */
  readonly describe?: ((error: E) => unknown) | undefined
}

const failed = "The query failed."
const interrupted = "The query was interrupted."
const shutDown = "The query was interrupted, because the server shut down."

/** How long a server that shuts down tries to publish the end of its unfinished queries. */
const lastWords = "2 seconds"

/** The key under which all SQL clients keep the transaction of an effect. */
const transaction = TransactionConnection(0).key.slice(0, -1)

/** A query may outlive the transaction in which it was started, whose connection then serves others. */
const withoutTransactions = <R>(context: Context.Context<R>): Context.Context<R> =>
  Context.makeUnsafe(
    new Map([...context.mapUnsafe].filter(([key]) => !key.startsWith(transaction)))
  )

/** Marks the error of the query, which `describe` may read, among those of the library. */
class Failed extends Data.TaggedError("Failed")<{ readonly error: unknown }> {}

const failedBy = (error: unknown) => new Failed({ error })

const ownError = (error: unknown): unknown => (error instanceof Failed ? error.error : error)

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

const dataOf = <A>(data: A | undefined): { readonly data?: A } =>
  data === undefined ? {} : { data }

const isStop = ({ events }: EventBatch<Result<unknown>>): boolean =>
  events.some((event) => event._tag === "Event" && event.payload.status === "stop")

/** The bytes of a part as JSON, or why it does not fit its channel. */
const partBytes = <A>(channel: Channel.Channel<Result<A>>, chunk: A) =>
  Checked.map(
    toJson(channel, { status: "running", chunk }),
    (json) => Buffer.byteLength(json) - envelopeBytes
  )

const envelopeBytes = `{"status":"running","chunk":}`.length

/** The result of work without any part: the empty text or list, whichever fits. */
const emptyOf = <A>(channel: Channel.Channel<Result<A>>): A | undefined =>
  ["", []].find((data) =>
    Checked.isSuccess(channel.encode({ status: "completed", data: data as A }))
  ) as A | undefined

const mark = (owner: string): string =>
  createHash("sha256").update(owner).digest("base64url").slice(0, 16)

/**
 * The queries that run in the background of this server.
 *
 * @category services
 * @since 0.1.0
 */
export class QueryResults extends Context.Service<
  QueryResults,
  {
    /**
     * Starts a query and completes at once. Publishes its end on the channel: the value as `completed`,
     * anything else as `error`. Retries the publish until the database accepts it or the server shuts
     * down.
     *
     * Neither the query nor its result is part of a transaction of the caller: the query does not see
     * uncommitted changes, and a rollback does not stop it. To start a query at the commit, use
     * `sql.afterCommit(run(Report(queryId), query))`.
     *
     * Write it like this: `run(Report(queryId), query)`.
     */
    readonly run: <A, E, R>(
      channel: Channel.Channel<Result<A>>,
      query: Effect.Effect<NoInfer<A>, E, R>,
      options?: RunOptions<E>
    ) => Effect.Effect<void, never, R>
    /**
     * Starts work whose result arrives in parts, and completes at once. Each element of `parts` is a text or
     * a list that continues the result: tokens, or `Stream.map(rows, (row) => [row])`.
     *
     * Publishes `running` when the work begins, and what arrives within 100 ms as one `chunk`. It ends with
     * the whole as `completed`, `error` or `stopped`. A page that subscribes or reloads later receives all of
     * it within the retention, with `useQueryStream` or `from: "oldest"`. The Stream waits while a chunk of
     * 64 KiB is being published. A result larger than 3 MiB of JSON ends as `error`.
     *
     * `{ status: "stop" }` on the channel, published by any node or, with `publish: true`, by a page, stops
     * the work. A channel has one work at a time. A node that is killed publishes no end.
     */
    readonly stream: <A, E, R>(
      channel: Channel.Channel<Result<A>, boolean, string, "durable">,
      parts: Stream.Stream<NoInfer<A>, E, R>,
      options?: RunOptions<E>
    ) => Effect.Effect<void, NotDurable, R>
    /** The number of queries that have not ended. */
    readonly running: Effect.Effect<number>
  }
>()("effect-realtime/server/QueryResults") {}

/**
 * Runs queries for as long as this layer lives. Needs `Realtime`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<QueryResults, never, Realtime> = Layer.effect(
  QueryResults,
  Effect.gen(function* () {
    const realtime = yield* Realtime
    const fibers = yield* FiberSet.make<void>()
    /** Whether the server shuts down. */
    let closing = false
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closing = true
      })
    )
    const notices = new Notices()

    /** Logs an end that is no result: each kind once a minute at first, less often later, whatever queries fail. */
    const logged = (what: string, why: Cause.Cause<unknown>, level: "Error" | "Warn") =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const more = notices.due(`${level} ${signatureOf(Cause.squash(why))}`, now)
        return more === undefined
          ? Effect.void
          : Effect.logWithLevel(level)(sentence(what, more), why)
      })

    /** Retries for as long as the server runs, so that no result is lost. */
    const insist = (publish: Effect.Effect<void, PublishError>) =>
      Effect.retry(publish, {
        schedule: Backoff.schedule(Backoff.link),
        // A retry cannot make the result fit its channel.
        while: (error) => error._tag === "SourceError"
      })

    /** Publishes the end of work, whatever it is. */
    const endsOf = <A, E>(channel: Channel.Channel<Result<A>>, options?: RunOptions<E>) => {
      const publish = (result: Result<A>) => realtime.publish(channel, result)
      /** A publish that the shutdown interrupts is tried once more. */
      const lastWord = (result: Result<A>): Effect.Effect<void> =>
        Effect.ignore(Effect.timeout(publish(result), lastWords))

      const tell = (restore: Restore, result: Result<A>): Effect.Effect<void> => {
        /** What is being published. */
        let last = result
        const insistOn = (next: Result<A>) =>
          Effect.suspend(() => {
            last = next
            return insist(publish(next))
          })
        return insistOn(result).pipe(
          Effect.catch((error) =>
            Effect.andThen(
              logged(
                `The result for "${channel.name}" cannot be published`,
                Cause.fail(error),
                "Error"
              ),
              insistOn({ status: "error", error: result.error ?? failed })
            )
          ),
          // The words of `describe` may not fit either.
          Effect.catch(() => Effect.ignore(insistOn({ status: "error", error: failed }))),
          restore,
          Effect.onInterrupt(() => lastWord(last))
        )
      }

      /** The words for a failure of the query. */
      const described = (error: E): Effect.Effect<unknown> => {
        try {
          return Effect.succeed(options?.describe === undefined ? failed : options.describe(error))
        } catch (thrown) {
          const what = `The describe of the query for "${channel.name}" failed`
          return Effect.as(logged(what, Cause.fail(thrown), "Error"), failed)
        }
      }

      const failure = (
        restore: Restore,
        cause: Cause.Cause<unknown>,
        said: A | undefined
      ): Effect.Effect<void> => {
        const end = (error: unknown): Result<A> => ({ status: "error", error, ...dataOf(said) })
        if (Cause.hasInterruptsOnly(cause)) {
          return closing ? lastWord(end(shutDown)) : tell(restore, end(interrupted))
        }
        const error = Option.getOrUndefined(Cause.findErrorOption(cause))
        const words =
          error instanceof Failed
            ? Effect.suspend(() => described(error.error as E))
            : Effect.succeed(error instanceof ResultTooLarge ? error.message : failed)
        return Effect.andThen(
          logged(`The query for "${channel.name}" failed`, Cause.map(cause, ownError), "Warn"),
          Effect.flatMap(words, (text) => tell(restore, end(text)))
        )
      }
      /** The end of what would begin while the server shuts down. */
      const unbegun = Effect.suspend(() => lastWord({ status: "error", error: shutDown }))
      return { tell, failed: failure, unbegun }
    }

    /** Runs work with its ends, outside of the caller's transaction. */
    const start = <R>(work: Effect.Effect<void, never, R>, unbegun: Effect.Effect<void>) =>
      Effect.contextWith((context: Context.Context<R>) => {
        const outside = withoutTransactions(context)
        if (closing) return Effect.provideContext(unbegun, outside)
        // In the same step as the check, so that work that begins is always ended.
        FiberSet.addUnsafe(fibers, Effect.runForkWith(outside)(work))
        return Effect.void
      })

    const run = <A, E, R>(
      channel: Channel.Channel<Result<A>>,
      query: Effect.Effect<A, E, R>,
      options?: RunOptions<E>
    ) => {
      const ends = endsOf(channel, options)
      return start(
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(Effect.exit(restore(Effect.mapError(query, failedBy))), (exit) =>
            Exit.isSuccess(exit)
              ? ends.tell(restore, { status: "completed", data: exit.value })
              : ends.failed(restore, exit.cause, undefined)
          )
        ),
        ends.unbegun
      )
    }

    const stream = <A, E, R>(
      channel: Channel.Channel<Result<A>, boolean, string, "durable">,
      parts: Stream.Stream<A, E, R>,
      options?: RunOptions<E>
    ): Effect.Effect<void, NotDurable, R> =>
      Effect.suspend(() => {
        if (!keeps(channel)) return Effect.fail(new NotDurable({ channel: channel.name }))
        const ends = endsOf<A, E>(channel, options)
        const result = new Parts<A>()
        const id = randomBytes(12).toString("base64url")
        /** A retry of a chunk is the same chunk. */
        const publish = (payload: Result<A>, index: number) =>
          insist(
            realtime.publish<A & Result<A>>(channel as never, payload as never, {
              key: `${id} ${index}`
            })
          )
        const add = (part: A) =>
          Effect.flatMap(Effect.fromResult(partBytes(channel, part)), (bytes) =>
            result.add(part, bytes)
          )
        const said = Effect.gen(function* () {
          yield* publish({ status: "running" }, 0)
          yield* Effect.raceFirst(
            Effect.andThen(
              Stream.runForEach(Stream.mapError(parts, failedBy), add),
              result.settled
            ),
            result.publishing((chunk, index) => publish({ status: "running", chunk }, index + 1))
          )
          return "completed" as const
        })
        const work = Effect.gen(function* () {
          // What is published from now on arrives, so no `stop` is missed.
          const listening = yield* Deferred.make<void>()
          const stop = realtime.batches(channel as Channel.Channel<Result<A>>).pipe(
            Stream.tap(() => Deferred.succeed(listening, undefined)),
            Stream.takeUntil(isStop),
            Stream.runDrain,
            Effect.as("stopped" as const)
          )
          return yield* Effect.raceFirst(Effect.andThen(Deferred.await(listening), said), stop)
        })
        return start(
          Effect.uninterruptibleMask((restore) =>
            Effect.flatMap(Effect.exit(restore(work)), (exit) => {
              if (Exit.isFailure(exit)) return ends.failed(restore, exit.cause, result.whole())
              const whole = result.whole() ?? emptyOf(channel)
              return ends.tell(restore, { status: exit.value, ...dataOf(whole) })
            })
          ),
          ends.unbegun
        )
      })

    return QueryResults.of({ run, stream, running: FiberSet.size(fibers) })
  })
)

/**
 * See `run` of the service.
 *
 * @category running
 * @since 0.1.0
 */
export const run = <A, E, R>(
  channel: Channel.Channel<Result<A>>,
  query: Effect.Effect<NoInfer<A>, E, R>,
  options?: RunOptions<E>
): Effect.Effect<void, never, R | QueryResults> =>
  QueryResults.use((service) => service.run<A, E, R>(channel, query, options))

/**
 * See `stream` of the service.
 *
 * **Example** (An answer that a page reads while it is written)
 *
 * ```ts
 * QueryResults.stream(Answer(id), tokens) // Answer = Channel.queryResults(Schema.String, { delivery: "durable" })
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const stream = <A, E, R>(
  channel: Channel.Channel<Result<A>, boolean, string, "durable">,
  parts: Stream.Stream<NoInfer<A>, E, R>,
  options?: RunOptions<E>
): Effect.Effect<void, NotDurable, R | QueryResults> =>
  QueryResults.use((service) => service.stream<A, E, R>(channel, parts, options))

/**
 * A new random id that belongs to an owner: 39 characters. `owner` is the text of an identity, such as a
 * user's id.
 *
 * @category ids
 * @since 0.1.0
 */
export const newId = (owner: string): string =>
  `${mark(owner)}-${randomBytes(16).toString("base64url")}`

/**
 * Whether an id was made for this owner. Use it in `authorize`.
 *
 * **Example** (Letting each user read their own results)
 *
 * ```ts
 * authorize: ({ definition, identity, params }) =>
 *   Effect.succeed(definition !== Report || QueryResults.isOwner(identity.id, String(params)))
 * ```
 *
 * @category ids
 * @since 0.1.0
 */
export const isOwner = (owner: string, queryId: string): boolean =>
  queryId.startsWith(`${mark(owner)}-`)
