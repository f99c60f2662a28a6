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
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { TransactionConnection } from "effect/sql/SqlClient"
import { createHash, randomBytes } from "node:crypto"
import type * as Channel from "../Channel.ts"
import * as Backoff from "../Backoff.ts"
import { type PublishError, Realtime } from "./Realtime.ts"

/**
 * The payload of a channel of `Channel.queryResults`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Result<out A> {
  /** Whether the query succeeded. */
  readonly status: "completed" | "error"
  /** The value of the query, when it succeeded. */
  readonly data?: A
  /** What `describe` made of the error, when the query failed. */
  readonly error?: unknown
}

/**
 * Options of `run`.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunOptions<in E> {
  /**
   * The `error` that the page receives for a failure, default `"The query failed."`, because an error may
   * contain SQL or rows of other users. It is not called for defects and interruption.
   */
  readonly describe?: ((error: E) => unknown) | undefined
}

const failed = "The query failed."
const interrupted = "The query was interrupted, because the server shut down."

/** How long a server that shuts down tries to publish the end of its unfinished queries. */
const lastWords = "2 seconds"

/** The key under which all SQL clients keep the transaction of an effect. */
const transaction = TransactionConnection(0).key.slice(0, -1)

/** A query may outlive the transaction in which it was started, whose connection then serves others. */
const withoutTransactions = <R>(context: Context.Context<R>): Context.Context<R> =>
  Context.makeUnsafe(
    new Map([...context.mapUnsafe].filter(([key]) => !key.startsWith(transaction)))
  )

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

    /** Retries for as long as the server runs, so that no result is lost. */
    const insist = (publish: Effect.Effect<void, PublishError>) =>
      Effect.retry(publish, {
        schedule: Backoff.schedule(Backoff.link),
        // A retry cannot make the result fit its channel.
        while: (error) => error._tag === "SourceError"
      })

    const run = <A, E, R>(
      channel: Channel.Channel<Result<A>>,
      query: Effect.Effect<A, E, R>,
      options?: RunOptions<E>
    ) => {
      const tell = (result: Result<A>) => realtime.publish(channel, result)
      const publishEnd = (exit: Exit.Exit<A, E>): Effect.Effect<void> => {
        if (Exit.isSuccess(exit)) {
          return insist(tell({ status: "completed", data: exit.value })).pipe(
            Effect.catch((error) =>
              Effect.andThen(
                Effect.logError(`The result for "${channel.name}" cannot be published`, error),
                Effect.ignore(insist(tell({ status: "error", error: failed })))
              )
            )
          )
        }
        const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
        const described =
          error === undefined || options?.describe === undefined ? failed : options.describe(error)
        return Effect.andThen(
          Effect.logWarning(`The query for "${channel.name}" failed`, exit.cause),
          Effect.ignore(insist(tell({ status: "error", error: described })))
        )
      }
      /** A publish that the shutdown interrupts is tried once more. */
      const lastWord = (exit: Exit.Exit<A, E>): Effect.Effect<void> =>
        Effect.ignore(
          Effect.timeout(
            tell(
              Exit.isSuccess(exit)
                ? { status: "completed", data: exit.value }
                : { status: "error", error: interrupted }
            ),
            lastWords
          )
        )
      const work = Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Effect.exit(restore(query)), (exit) =>
          Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
            ? lastWord(exit)
            : Effect.onInterrupt(restore(publishEnd(exit)), () => lastWord(exit))
        )
      )
      return Effect.asVoid(FiberSet.run(fibers, Effect.updateContext(work, withoutTransactions<R>)))
    }

    return QueryResults.of({ run, running: FiberSet.size(fibers) })
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
