/**
 * A lease of a node: a row of the database that one node at a time holds (`sql/leases.ts`).
 *
 * In: a name, a holder, and how to ask the database. Out: the lease, once this node has it. It is renewed
 * every second until its scope closes, which releases it. Any doubt ends it: a renewal that another holder
 * made impossible, none for 3 s by the monotonic clock, or a process that was stopped for that long.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Node } from "../../NodeBus.ts"
import type { PgLink } from "../link/pgLink.ts"
import { errorText } from "../../../internal/errorText.ts"
import { Outage } from "../outage.ts"
import { explained } from "../link/databaseRefusal.ts"
import * as metrics from "../metrics.ts"
import { SchemaName } from "../sql/schemaName.ts"
import { type LeaseStatements, make as statementsOn, NoSession } from "./leaseStatements.ts"

/**
 * What a node may do alone.
 *
 * @category models
 * @since 0.1.0
 */
export interface NodeLease {
  /** Grows with each holder. */
  readonly term: bigint
  /** Whether this node still has it. Once `false`, it stays `false`. */
  readonly held: () => boolean
  /** Completes when this node has it no more. */
  readonly lost: Effect.Effect<void>
}

/** The leases of a node, on the session of its reader, which reaches the primary. */
export class Leases {
  readonly #self: Node
  readonly #statements: LeaseStatements
  #link: PgLink | undefined
  #taken = 0

  /** `patience`: how long PostgreSQL may take to answer. */
  constructor(self: Node, patience: Duration.Duration) {
    this.#self = self
    this.#statements = statementsOn((text, params) =>
      this.#link === undefined
        ? Effect.fail(new NoSession())
        : this.#link.query(text, params, patience)
    )
  }

  /** Uses a session until its scope closes. */
  on(link: PgLink): Effect.Effect<void, never, Scope.Scope> {
    return Effect.asVoid(
      Effect.acquireRelease(
        Effect.sync(() => (this.#link = link)),
        () => Effect.sync(() => (this.#link = undefined))
      )
    )
  }

  /** Waits until this node has the lease, and no other holder in this process. */
  readonly take = (name: string): Effect.Effect<NodeLease, never, Scope.Scope> =>
    Effect.suspend(() =>
      take(
        name,
        { ...this.#self, incarnation: `${this.#self.incarnation}.${++this.#taken}` },
        this.#statements
      )
    )
}

/** What the names of the leases of consumers begin with. */
export const consumerLease = "consume:"

/** Milliseconds between two renewals. */
const renewEvery = 1000
/** Milliseconds without a renewal after which the node gives the lease up, before the database does. */
const doubtAfter = 3000
/** Milliseconds until the next attempt after a failed one. */
const retryAfter = 250
/** The most milliseconds between two attempts to take it: its holder may release it early. */
const lookEvery = 1000

/** Waits until this holder has the lease. It lasts until the scope closes, or until it is lost. */
const take = (
  name: string,
  holder: Node,
  statements: LeaseStatements
): Effect.Effect<NodeLease, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
    const { incarnation, name: node } = holder
    const schema = yield* SchemaName

    const outage = new Outage({
      lost: `The lease "${name}" cannot be asked for`,
      back: `The lease "${name}" can be asked for again`
    })

    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const ask = () => runFork(statements.take(name, node, incarnation))
    /** The last request: the database may give the lease to a node that stops meanwhile. */
    let asked: ReturnType<typeof ask> | undefined
    yield* Effect.addFinalizer(() =>
      asked === undefined
        ? Effect.void
        : Fiber.join(asked).pipe(
            Effect.flatMap(({ term }) =>
              typeof term === "string" ? statements.release(name, incarnation, term) : Effect.void
            ),
            Effect.timeoutOption(renewEvery),
            Effect.ignoreCause
          )
    )

    /** When the last renewal was sent. */
    let renewedAt = now()
    let term: bigint | undefined
    while (term === undefined) {
      yield* statements.gathered
      renewedAt = now()
      asked = ask()
      const answer = yield* Fiber.join(asked).pipe(
        Effect.tap(outage.recovered),
        // The reader logs that it has no session.
        Effect.tapError((error) =>
          error instanceof NoSession ? Effect.void : outage.failing(explained(error, schema))
        ),
        Effect.option,
        Effect.catchDefect((defect) =>
          Effect.as(outage.failing(errorText(defect), Cause.die(defect)), Option.none())
        )
      )
      if (Option.isNone(answer)) {
        yield* Effect.sleep(retryAfter)
        continue
      }
      const row = answer.value
      if (typeof row["term"] === "string") term = BigInt(row["term"])
      // Slightly later than its end, by which the clock of this node may differ.
      else yield* Effect.sleep(Math.min(lookEvery, Number(row["wait_ms"] ?? 0) + 10))
    }

    const lease = name.startsWith(consumerLease) ? "consumer" : name
    const labelled = <Input, State>(metric: Metric.Metric<Input, State>) =>
      Metric.withAttributes(metric, { lease })
    yield* Metric.update(labelled(metrics.leasesTaken), 1)
    yield* Effect.acquireRelease(Metric.modify(labelled(metrics.leasesHeld), 1), () =>
      Metric.modify(labelled(metrics.leasesHeld), -1)
    )

    const mine = [name, incarnation, String(term)] as const
    const lost = yield* Deferred.make<void>()
    const held = () => !Deferred.isDoneUnsafe(lost) && now() - renewedAt < doubtAfter
    const renewing = Effect.gen(function* () {
      let pause = renewEvery
      while (true) {
        yield* Effect.sleep(pause)
        const at = now()
        const left = doubtAfter - (at - renewedAt)
        if (left <= 0) return
        const answer = yield* statements.renew(...mine).pipe(
          Effect.map((row) => row["mine"] === true),
          Effect.timeoutOption(left),
          // Without an answer the database may have it as renewed or not.
          Effect.catchCause(() => Effect.succeed(Option.none<boolean>()))
        )
        if (!Option.getOrElse(answer, () => false)) {
          yield* Metric.update(labelled(metrics.leaseRenewalsFailed), 1)
        }
        if (Option.isSome(answer) && !answer.value) return
        if (Option.isSome(answer)) renewedAt = at
        pause = Option.isSome(answer) ? renewEvery : retryAfter
      }
    })
    yield* renewing.pipe(Effect.andThen(Deferred.succeed(lost, undefined)), Effect.forkScoped)
    return { term, held, lost: Deferred.await(lost) }
  })
