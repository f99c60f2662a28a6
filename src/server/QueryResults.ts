/**
 * Long queries in the background, whose end is told on `query_results_${queryId}`.
 *
 * The answer to the request that starts one is immediate; the result arrives on the channel. On a
 * durable channel it also reaches a page that reloaded meanwhile. Whatever ends a query is told:
 * success, failure, a defect, and the server going away. Ids carry their owner, so `authorize` can
 * tell whose result it is without asking anybody, on every node and after every restart.
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
  readonly status: "completed" | "error"
  readonly data?: A
  readonly error?: unknown
}

/**
 * @category models
 * @since 0.1.0
 */
export interface RunOptions<in E> {
  /**
   * What the page is told of a failure, default `"The query failed."`: an error may hold SQL or rows of
   * somebody else. Defects and interruption are never described.
   */
  readonly describe?: ((error: E) => unknown) | undefined
}

const failed = "The query failed."
const interrupted = "The query was interrupted, because the server went away."

/** Time a server that goes away takes to tell of its unfinished queries. */
const lastWords = "2 seconds"

/** Where SQL clients, whichever they are, keep the transaction that an effect runs in. */
const transaction = TransactionConnection(0).key.slice(0, -1)

/** A query goes on when the transaction it was started in is over, and its connection is somebody else's. */
const withoutTransactions = <R>(context: Context.Context<R>): Context.Context<R> =>
  Context.makeUnsafe(
    new Map([...context.mapUnsafe].filter(([key]) => !key.startsWith(transaction)))
  )

const mark = (owner: string): string =>
  createHash("sha256").update(owner).digest("base64url").slice(0, 16)

/**
 * @category services
 * @since 0.1.0
 */
export class QueryResults extends Context.Service<
  QueryResults,
  {
    /**
     * Starts a query and completes at once. Its end is published on the channel: the value as
     * `completed`, anything else as `error`. Publishing is tried until the database takes it, or the
     * server goes away.
     *
     * Neither the query nor its answer is part of a transaction of the caller: the query does not see
     * what is not committed yet, and a rollback does not take them back. One that is to begin with the
     * commit is `sql.afterCommit(run(Report(queryId), query))`.
     *
     * Write it like this: `run(Report(queryId), query)`.
     */
    readonly run: <A, E, R>(
      channel: Channel.Channel<Result<A>>,
      query: Effect.Effect<NoInfer<A>, E, R>,
      options?: RunOptions<E>
    ) => Effect.Effect<void, never, R>
    /** Queries that have not ended. */
    readonly running: Effect.Effect<number>
  }
>()("effect-realtime/server/QueryResults") {}

/**
 * Queries live as long as this layer. Needs `Realtime`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<QueryResults, never, Realtime> = Layer.effect(
  QueryResults,
  Effect.gen(function* () {
    const realtime = yield* Realtime
    const fibers = yield* FiberSet.make<void>()

    /** For as long as the server lives: a result that cannot be told yet is not lost. */
    const insist = (publish: Effect.Effect<void, PublishError>) =>
      Effect.retry(publish, {
        schedule: Backoff.schedule(Backoff.link),
        // A result that does not fit its channel will not fit later either.
        while: (error) => error._tag === "SourceError"
      })

    const run = <A, E, R>(
      channel: Channel.Channel<Result<A>>,
      query: Effect.Effect<A, E, R>,
      options?: RunOptions<E>
    ) => {
      const tell = (result: Result<A>) => realtime.publish(channel, result)
      const told = (exit: Exit.Exit<A, E>): Effect.Effect<void> => {
        if (Exit.isSuccess(exit)) {
          return insist(tell({ status: "completed", data: exit.value })).pipe(
            Effect.catch((error) =>
              Effect.andThen(
                Effect.logError(`The result for "${channel.name}" cannot be told`, error),
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
      /** Interrupted while it insists, a result is told once more, as the last word. */
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
            : Effect.onInterrupt(restore(told(exit)), () => lastWord(exit))
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
 * A new id that belongs to an owner: 39 characters, not to be guessed. `owner` is the text that stands
 * for an identity, such as a user's id.
 *
 * @category ids
 * @since 0.1.0
 */
export const newId = (owner: string): string =>
  `${mark(owner)}-${randomBytes(16).toString("base64url")}`

/**
 * Whether an id was made for this owner: for `authorize`.
 *
 * **Example** (Letting everybody read their own results)
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
