/**
 * `NotificationSource` on PostgreSQL: one link holds every LISTEN, and never stops reconnecting.
 *
 * It opens exactly one connection beside the pool of the application's `PgClient`. It counts the
 * listeners of each channel, and a single fiber brings LISTEN and UNLISTEN in line with them, for each
 * channel one after the other. So a late UNLISTEN never ends the LISTEN of another listener. After a loss
 * it reconnects with full jitter, listens to every channel again, and then sends `lost` to each listener.
 *
 * @since 0.1.0
 */
import type { Notification as PgNotification } from "@effect/sql-pg/PgConnection"
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { randomUUID } from "node:crypto"
import * as Backoff from "../Backoff.ts"
import { pgNotificationSource as Defaults } from "../internal/defaults.ts"
import { channelNameFault } from "../Protocol.ts"
import { InvalidChannelName } from "../RealtimeError.ts"
import type { InvalidDatabaseUrl } from "./internal/link/databaseUrl.ts"
import { leastMisses, selfTest } from "./internal/link/selfTest.ts"
import * as PgLink from "./internal/link/pgLink.ts"
import {
  DatabaseRefused,
  databaseRefusalOf,
  Doubt,
  explained,
  ListenNotDelivered,
  NotPrimary,
  patienceOf,
  type SourceRefused
} from "./internal/link/databaseRefusal.ts"
import { isStandby } from "./internal/link/sqlState.ts"
import { isBusChannel } from "./internal/sql/schemaName.ts"
import * as Guarded from "./internal/guarded.ts"
import { backoff, checked, type InvalidOption, millis } from "./internal/options.ts"
import { Outage } from "./internal/outage.ts"
import * as Reconnecting from "./internal/reconnecting.ts"
import { tally as tallyOfFiber } from "./internal/tally.ts"
import * as Watched from "./internal/link/watched.ts"
import { confirming, one } from "./internal/eventLoopTurns.ts"
import {
  type Heard,
  type Listener,
  lost,
  NotificationSource,
  SourceError,
  type SourceState
} from "./NotificationSource.ts"

export {
  /**
   * @category errors
   * @since 0.1.0
   */
  ListenNotDelivered
} from "./internal/link/databaseRefusal.ts"

/**
 * Options of `layer` and `make`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Where the link connects, default: where the `PgClient` connects. Pass the direct address when the
   * pool connects through a transaction pooler, which drops LISTEN, or when the link has its own user.
   */
  readonly listenUrl?: Redacted.Redacted | undefined
  /** Time between two heartbeats on the link, default 5 s. */
  readonly heartbeatInterval?: Duration.Input | undefined
  /**
   * Time that PostgreSQL has to answer a heartbeat, default 2 s. At the limit the source closes the link
   * and opens a new one.
   */
  readonly heartbeatTimeout?: Duration.Input | undefined
  /**
   * Whether the first link checks that notifications arrive, default `true`: it listens, sends a NOTIFY
   * through the pool, and waits 2 s for it.
   */
  readonly selfTest?: boolean | undefined
  /**
   * When to reconnect, default `Backoff.link`: at once after 30 s up, then full jitter, 100 ms doubling
   * to 10 s, for ever.
   */
  readonly backoff?: Backoff.Policy | undefined
  /**
   * How long PostgreSQL must reject the link before the layer fails, default 10 s. Until the link was up
   * once, a wrong password, database or right, or rejected TLS, fails the layer with `DatabaseRefused`
   * when three connections in a row were rejected for the same reason over this time. Later the link
   * retries after every failure, for ever.
   */
  readonly startPatience?: Duration.Input | undefined
}

/** Limit of a NOTIFY outside of a transaction, because a dead connection may stay silent. */
const notifyTimeout = "5 seconds"

/** LISTENs sent together: a round trip for each would take long after a reconnect. */
const listensAtOnce = 64

interface PgListener {
  readonly hear: Listener
  /** Completes when LISTEN was first confirmed for this listener. */
  readonly ready: Deferred.Deferred<void>
  live: boolean
}

/** Listeners of one channel, and the LISTEN of the current session when it holds one. */
interface ListenedChannel {
  readonly listeners: Set<PgListener>
  scope: Scope.Closeable | undefined
}

/**
 * Why the source opens no link: an option is invalid, the URL cannot be used, PostgreSQL rejects it, or
 * its notifications do not arrive.
 *
 * @category errors
 * @since 0.1.0
 */
export type StartError = InvalidDatabaseUrl | InvalidOption | DatabaseRefused | ListenNotDelivered

/** The options with their defaults. Throws `InvalidOption`. */
const resolved = (options: Options) => ({
  heartbeat: Duration.millis(
    millis("heartbeatInterval", options.heartbeatInterval ?? Defaults.heartbeatInterval)
  ),
  heartbeatTimeout: Duration.millis(
    millis("heartbeatTimeout", options.heartbeatTimeout ?? Defaults.heartbeatTimeout)
  ),
  policy: backoff(options.backoff ?? Backoff.link),
  patience: patienceOf(options.startPatience)
})

/**
 * Opens the link, and keeps it open in the background.
 *
 * Completes when the link has passed its self-test, or when PostgreSQL could not be reached at the first
 * attempt: then the state is `down`, and `listen` waits. Fails with `InvalidOption` and
 * `InvalidDatabaseUrl` at once, with `DatabaseRefused` when PostgreSQL rejects the link for
 * `startPatience`, and with `ListenNotDelivered` when three links connected and received no notification.
 * The link waits for a standby to be promoted; `refused` of the service fails with `NotPrimary` then.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options?: Options
): Effect.Effect<NotificationSource["Service"], StartError, PgClient | Scope.Scope> =>
  Effect.gen(function* () {
    const sql = yield* PgClient
    const { heartbeat, heartbeatTimeout, patience, policy } = yield* checked(() =>
      resolved(options ?? {})
    )
    const state = yield* SubscriptionRef.make<SourceState>("down")
    const tally = yield* tallyOfFiber
    yield* tally.show("linkUp", () => (SubscriptionRef.getUnsafe(state) === "up" ? 1 : 0))
    const { connection } = yield* Effect.fromResult(
      PgLink.secured(PgLink.connectionOf(sql.config, options?.listenUrl))
    )
    yield* PgLink.compare(sql.config)
    const linkOptions: PgLink.LinkOptions = { connection, heartbeat, heartbeatTimeout }
    const watched = yield* Watched.make(sql, "live")
    yield* Watched.looking(sql)
    const channels = new Map<string, ListenedChannel>()
    /** Names whose LISTEN may not match their listeners. */
    const changed = yield* Queue.unbounded<string>()

    const guarded = yield* Guarded.make<Heard>("effect-realtime link", lost)

    /** Sends the listeners of a channel what arrives for it, until the session ends. */
    const hear = Effect.fnUntraced(function* (
      { listeners }: ListenedChannel,
      from: Queue.Dequeue<PgNotification, SqlError>
    ) {
      while (true) {
        const notifications = yield* Queue.takeAll(from)
        for (const { hear } of listeners) {
          for (const { payload } of notifications) hear(payload)
        }
      }
    })

    /** A listener from before the loss may have missed notifications; a new one has not. */
    const announce = ({ listeners }: ListenedChannel): void => {
      for (const listener of listeners) {
        if (listener.live) listener.hear(lost)
        confirm(listener)
      }
    }

    /** Brings the session's LISTEN of one channel in line with its listeners. */
    const reconcile = Effect.fnUntraced(function* (
      link: PgLink.PgLink,
      listening: Scope.Scope,
      dead: Deferred.Deferred<never, SqlError>,
      name: string
    ) {
      const listened = channels.get(name)
      if (listened === undefined) return
      if (listened.listeners.size === 0) {
        channels.delete(name)
        if (listened.scope !== undefined) yield* Scope.close(listened.scope, Exit.void)
        return
      }
      if (listened.scope === undefined) {
        listened.scope = yield* Scope.fork(listening)
        const from = yield* Scope.provide(link.listen(name), listened.scope)
        announce(listened)
        yield* hear(listened, from).pipe(
          Effect.catch((error) => Deferred.fail(dead, error)),
          Effect.forkIn(listened.scope)
        )
        return
      }
      for (const listener of listened.listeners) confirm(listener)
    })

    /** One link from connect to loss. `onUp` runs when it listens to every channel again. */
    const session = (
      onUp: Effect.Effect<void>
    ): Effect.Effect<never, SqlError | ListenNotDelivered | Cause.TimeoutError> =>
      Effect.gen(function* () {
        const link = yield* PgLink.open(linkOptions)
        present = link
        const listening = yield* Scope.fork(yield* Effect.scope)
        const dead = yield* Deferred.make<never, SqlError>()
        // The driver does not read a session that listens to nothing, and would notice its end late.
        const listenOnce = Effect.gen(function* () {
          const name = `realtime_link_${randomUUID()}`
          const own = yield* Scope.provide(link.listen(name), listening)
          if (!tested && (options?.selfTest ?? Defaults.selfTest)) {
            // The pool may be slow, and the link may be lost meanwhile. The first heartbeat waits: through
            // a pooler, one beside the NOTIFY may bring its notification along.
            const beat = Effect.delay(link.beat, heartbeat)
            yield* Effect.raceFirst(selfTest(sql, name, own, onPool), beat)
            tested = true
          }
          yield* watched.load
          return own
        })
        const work = Effect.gen(function* () {
          yield* Queue.clear(changed)
          yield* reconcileAll(channels.keys())
          yield* onUp
          while (true) yield* reconcileAll(new Set(yield* Queue.takeAll(changed)))
        })
        // Each name once, so that the statements of one channel stay in order.
        const reconcileAll = (names: Iterable<string>) =>
          Effect.forEach([...names], (name) => reconcile(link, listening, dead, name), {
            concurrency: listensAtOnce,
            discard: true
          })
        const running = yield* listenOnce.pipe(
          Effect.flatMap((own) =>
            Effect.raceAllFirst([
              work,
              link.beat,
              Effect.forever(Queue.take(own)),
              Deferred.await(dead)
            ])
          ),
          Effect.forkIn(listening)
        )
        // Registered last, so it runs first: an UNLISTEN or a cancelled query would wait for a dead
        // server, but not on a destroyed socket.
        yield* Effect.addFinalizer(() => Effect.sync(link.destroy))
        return yield* Fiber.join(running)
      }).pipe(Effect.scoped)

    let present: PgLink.PgLink | undefined
    let tested = false
    /** Set by a session whose self-test failed at the pool and not at the link. */
    const pool = { failed: false }
    const onPool = Effect.sync(() => void (pool.failed = true))
    let wasUp = false
    let misses = 0
    const doubt = new Doubt(patience)
    const started = yield* Deferred.make<void, StartError>()
    const refused = yield* Deferred.make<never, SourceRefused>()

    /** The reason when a retry cannot help the start. */
    const hopeless = (failure: unknown, now: number): SourceRefused | undefined => {
      misses = failure instanceof ListenNotDelivered ? misses + 1 : 0
      const refusal = databaseRefusalOf(failure)
      doubt.note(refusal?.code ?? (isStandby(failure) ? "standby" : undefined), now)
      const believed = doubt.believed(now)
      if (believed !== undefined && isStandby(failure)) return new NotPrimary()
      if (refusal !== undefined && believed !== undefined) {
        return new DatabaseRefused({
          session: pool.failed ? "pool" : "link",
          ...refusal,
          ...believed
        })
      }
      return failure instanceof ListenNotDelivered && misses >= leastMisses ? failure : undefined
    }

    const attempt = (onUp: Effect.Effect<void>) =>
      Effect.suspend(() => {
        pool.failed = false
        return session(
          Effect.gen(function* () {
            yield* onUp
            if (wasUp) tally.reconnects.link++
            wasUp = true
            yield* SubscriptionRef.set(state, "up")
            yield* Deferred.succeed(started, undefined)
            yield* Effect.logDebug("The link listens")
          })
        )
      })

    // Retries after any failure, whatever its tag: a terminated backend reports an unknown error.
    const onFailure = (cause: Cause.Cause<unknown>, now: number) =>
      Effect.gen(function* () {
        const failure = Cause.squash(cause)
        const verdict = wasUp ? undefined : hopeless(failure, now)
        for (const listened of channels.values()) listened.scope = undefined
        yield* SubscriptionRef.set(state, "down")
        if (verdict instanceof NotPrimary) {
          // A standby may be promoted, so the layer does not fail.
          yield* Deferred.succeed(started, undefined)
          yield* Deferred.fail(refused, verdict)
        } else if (verdict !== undefined) {
          const late = !(yield* Deferred.fail(started, verdict))
          const first = yield* Deferred.fail(refused, verdict)
          // The layer's build did not report it.
          if (late && first) yield* Effect.logError(verdict.message)
        } else if (!inDoubt(failure)) yield* Deferred.succeed(started, undefined)
        const why = isStandby(failure) ? new NotPrimary().message : explained(failure)
        const by = pool.failed ? "the pool could not notify it: " : ""
        return {
          delay: (usual: number) => (wasUp ? usual : doubt.delay(usual, now)),
          reason: `${by}${why}`,
          lasts: isStandby(failure) || inDoubt(failure)
        }
      })

    const outage = new Outage({
      lost: "The link to PostgreSQL is down",
      back: "The link to PostgreSQL is back"
    })
    const reconnecting = yield* Reconnecting.make(policy, {
      fromStart: false,
      name: "link",
      outage
    })
    yield* reconnecting(attempt, onFailure).pipe(
      Effect.annotateLogs("component", "effect-realtime link"),
      Effect.forkScoped
    )

    const listen = (name: string, hear: Listener) =>
      Effect.acquireRelease(
        Effect.gen(function* () {
          const reason = isBusChannel(name) ? undefined : channelNameFault(name)
          if (reason !== undefined) {
            // Rejected here: PostgreSQL would truncate the name, or end the session of all listeners.
            const cause = new InvalidChannelName({ channel: name, reason })
            return yield* new SourceError({ operation: "listen", channel: name, cause })
          }
          const ready = yield* Deferred.make<void>()
          const listener: PgListener = { hear: guarded(hear), ready, live: false }
          const listened = channels.get(name) ?? { listeners: new Set(), scope: undefined }
          channels.set(name, listened)
          listened.listeners.add(listener)
          Queue.offerUnsafe(changed, name)
          return listener
        }),
        (listener) =>
          Effect.sync(() => {
            const listened = channels.get(name)
            if (listened?.listeners.delete(listener) === true && listened.listeners.size === 0) {
              Queue.offerUnsafe(changed, name)
            }
          })
      ).pipe(
        Effect.flatMap(({ ready }) => Deferred.await(ready)),
        // Many are ready at once and each does much work, so that they take turns. A reconnecting link
        // does not wait for them.
        Effect.andThen(confirming.take(one)),
        Effect.andThen(watched.compare(name))
      )

    const notify = (channel: string, payload: string) => {
      const failed = (cause: unknown) => new SourceError({ operation: "notify", channel, cause })
      const sent = Effect.asVoid(sql`select pg_notify(${channel}, ${payload})`)
      return Effect.serviceOption(sql.transactionService).pipe(
        Effect.flatMap((transaction) =>
          // A statement in the caller's transaction has no time limit of its own.
          Option.isSome(transaction) ? sent : Effect.timeout(sent, notifyTimeout)
        ),
        Effect.mapError(failed)
      )
    }

    yield* Deferred.await(started)
    return NotificationSource.of({
      listen,
      notify,
      state,
      checkTable: watched.check,
      renew: Effect.sync(() => present?.destroy()),
      refused: Deferred.await(refused)
    })
  })

/**
 * The source, built on the application's `PgClient`: it takes the address for the link, and uses the pool
 * for NOTIFY.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<NotificationSource, StartError, PgClient> =>
  Layer.effect(NotificationSource, make(options))

/**
 * `layer`, with options from a `Config`.
 *
 * **Example** (A direct address beside that of a pooler)
 *
 * ```ts
 * PgNotificationSource.layerConfig({ listenUrl: Config.Redacted("DATABASE_DIRECT_URL") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<NotificationSource, StartError | Config.ConfigError, PgClient> =>
  Layer.effect(NotificationSource, Effect.flatMap(Config.unwrap(config), make))

const confirm = (listener: PgListener): void => {
  listener.live = true
  Deferred.doneUnsafe(listener.ready, Effect.void)
}

/** Whether the start waits for the failure to repeat. */
const inDoubt = (failure: unknown): boolean =>
  failure instanceof ListenNotDelivered || databaseRefusalOf(failure) !== undefined
