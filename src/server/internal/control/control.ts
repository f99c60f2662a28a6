/**
 * Control over sessions: of this node, or of all nodes over the bus.
 *
 * In: what an operator or the application asks. Out: sessions that close, and which nodes did it.
 * Revocations are rows, so a node that misses the message reads them. Before a node closes a session it
 * hands on what was published before.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { type BusState, NodeBus } from "../../NodeBus.ts"
import { OutboxReader } from "../../OutboxReader.ts"
import { NotInstalled } from "../../PgInstaller.ts"
import { resolvedBus } from "../bus/busOptions.ts"
import type { Door, DoorControl } from "../door/door.ts"
import { Defects } from "../notices.ts"
import type { InvalidOption } from "../options.ts"
import { objects } from "../sql/objects.ts"
import { revocationsStatement, revokeStatement } from "../sql/revocations.ts"
import { schemaVersion } from "../sql/schema.ts"
import { SchemaName } from "../sql/schemaName.ts"
import { tally } from "../tally.ts"
import { NoControl, RevokeFailed } from "./controlErrors.ts"
import * as Questions from "./questions.ts"
import * as ReadBeside from "./readBeside.ts"
import * as List from "./revocationList.ts"
import {
  checkExpiry,
  checkKey,
  checkWhose,
  endAll,
  type RevokeOptions,
  type Whose
} from "./whose.ts"

/**
 * Which nodes did what was asked, by their names, this one included. A node that is `missing` is dead, or
 * its messages are lost; it reads revocations within 2 s when it lives.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reached {
  readonly answered: ReadonlyArray<string>
  readonly missing: ReadonlyArray<string>
  /**
   * The state of the bus of this node meanwhile; `undefined` without `control`. Where it is not `up`, nodes that
   * this one has not heard for 60 s are not named, and did not do what was asked: `disconnect` again later.
   */
  readonly bus: BusState | undefined
}

/**
 * What a node says of itself.
 *
 * @category models
 * @since 0.1.0
 */
export interface NodeStats {
  readonly node: string
  /** Open sessions. */
  readonly sessions: number
  readonly isReady: boolean
  /** The state of its bus; `undefined` without one. */
  readonly bus: BusState | undefined
  /** The version of the installed objects for which the node is made. */
  readonly version: number
  /** Subscriptions of all sessions of its process. */
  readonly subscriptions: number
  /** Channels that are open in its process. */
  readonly channels: number
  /**
   * Seconds since its reader of the outbox had handed out everything, at most about 1 while all is well;
   * `undefined` without a reader.
   */
  readonly readerLag: number | undefined
}

/**
 * The stats of the nodes that answered, and the names of the others.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats {
  readonly answered: ReadonlyArray<NodeStats>
  readonly missing: ReadonlyArray<string>
}

/** What the services of both servers offer. */
export interface Control {
  readonly revoke: (
    whose: Whose,
    options?: RevokeOptions
  ) => Effect.Effect<Reached, InvalidOption | RevokeFailed>
  readonly reauthorize: (key: string) => Effect.Effect<Reached, InvalidOption>
  readonly disconnect: (whose: Whose) => Effect.Effect<Reached, InvalidOption>
  readonly stats: Effect.Effect<Stats>
}

/** The same for arguments of any type. */
const checkedControl = (control: Control): Control => ({
  ...control,
  revoke: (whose, options) =>
    checkWhose(whose).pipe(
      Effect.andThen(checkExpiry(options)),
      Effect.andThen(Effect.suspend(() => control.revoke(whose, options)))
    ),
  reauthorize: (key) =>
    Effect.andThen(
      checkKey(key),
      Effect.suspend(() => control.reauthorize(key))
    ),
  disconnect: (whose) =>
    Effect.andThen(
      checkWhose(whose),
      Effect.suspend(() => control.disconnect(whose))
    )
})

/** Milliseconds. */
export const defaultExpiry = 86_400_000
/** Milliseconds for an answer, less than 5 s with the time of this node itself. */
const answerWithin = 4000
const statsWithin = 900
/** Milliseconds that sessions stay open for what was published before, at most. */
const handOnWithin = 1000
/** Milliseconds from the reader to the sockets. */
const toSockets = 50

/** The topic of the bus on which nodes ask each other. */
export const controlTopic = "control"

type Command =
  | { readonly act: "revoked" }
  | { readonly act: "close"; readonly name: "revoked" | "removed"; readonly whose: Whose }
  | { readonly act: "reauthorize"; readonly key: string }
  | { readonly act: "stats" }

const statsOf = (door: Door, node: string, bus: BusState | undefined): Effect.Effect<NodeStats> =>
  Effect.map(tally, (tally) => ({
    node,
    sessions: door.size(),
    isReady: door.isReady(),
    bus,
    version: schemaVersion,
    subscriptions: tally.read("subscriptions") ?? 0,
    channels: Object.values(tally.channels).reduce((sum, count) => sum + count, 0),
    readerLag: tally.read("readerLag")
  }))

/** Control over this node alone. */
const alone = (door: Door): Control => {
  const { name } = resolvedBus({}).self
  const reached: Reached = { answered: [name], missing: [], bus: undefined }
  return {
    revoke: (whose) =>
      Effect.sync(() => {
        if (typeof whose === "string") door.revoke(whose)
        else endAll(door, "revoked", whose)
        return reached
      }),
    reauthorize: (key) => Effect.as(door.reauthorize(key), reached),
    disconnect: (whose) =>
      Effect.sync(() => {
        endAll(door, "removed", whose)
        return reached
      }),
    stats: Effect.map(statsOf(door, name, undefined), (own) => ({ answered: [own], missing: [] }))
  }
}

/** Revocations whose sessions are closed together. */
interface Ending {
  readonly revocations: Array<List.Revocation>
  /** Completes when they are. */
  readonly closed: Deferred.Deferred<void>
}

/** The control of a server, in two steps: the door is made with the first. */
export interface Prepared {
  readonly door: DoorControl | undefined
  readonly over: (door: Door) => Effect.Effect<Control, never, Scope.Scope>
}

/** Where revocations are. */
export interface RevocationStore {
  readonly read: List.ReadRevocations
  /** Adds one, which ends at `expires`, or by default after 24 hours. */
  readonly add: (
    kind: List.Revocation["kind"],
    name: string,
    expires: Date | undefined
  ) => Effect.Effect<unknown, SqlError | Error>
}

/**
 * Prepares the control. With `control`, fails with `NoControl` without a bus or a database, and with
 * `NotInstalled` without the objects. Without `store` the revocations are in the database.
 */
export const prepare = (
  control: boolean,
  store?: RevocationStore
): Effect.Effect<Prepared, NoControl | NotInstalled, Scope.Scope> =>
  control
    ? everywhere(store)
    : Effect.succeed({
        door: undefined,
        over: (door) => Effect.succeed(checkedControl(alone(door)))
      })

/** The table of the installed objects. */
const inDatabase: Effect.Effect<RevocationStore, NoControl> = Effect.gen(function* () {
  const sql = Option.getOrUndefined(yield* Effect.serviceOption(PgClient))
  if (sql === undefined) return yield* new NoControl({ missing: "PgClient" })
  const client = yield* objects(sql)
  const read = yield* ReadBeside.make(sql)
  return {
    read: (after) => read<List.RevocationRow>(revocationsStatement, [after]),
    add: (kind, name, expires) =>
      // Relative to the clock of the database, which dates the row.
      expires === undefined
        ? client.unsafe(revokeStatement, [kind, name, null, defaultExpiry])
        : client.unsafe(revokeStatement, [kind, name, expires.getTime(), 0])
  }
})

/** Each bus that a server controls: one more would answer the questions of other nodes twice. */
const controlled = new WeakSet<NodeBus["Service"]>()

const everywhere = (
  given: RevocationStore | undefined
): Effect.Effect<Prepared, NoControl | NotInstalled, Scope.Scope> =>
  Effect.gen(function* () {
    const bus = Option.getOrUndefined(yield* Effect.serviceOption(NodeBus))
    if (bus === undefined) return yield* new NoControl({ missing: "NodeBus" })
    const revocations = given ?? (yield* inDatabase)
    const reader = Option.getOrUndefined(yield* Effect.serviceOption(OutboxReader))
    const schema = yield* SchemaName
    /** Those whose sessions are closed now, and those that wait for the next time. */
    let present: Ending | undefined
    let fresh: Ending | undefined
    const some = Latch.makeUnsafe(false)
    const list = yield* List.make(revocations.read, (revocation) => {
      fresh ??= { revocations: [], closed: Deferred.makeUnsafe() }
      fresh.revocations.push(revocation)
      some.openUnsafe()
    }).pipe(
      // Without the table. Other failures do not end the start.
      Effect.mapError((cause) => new NotInstalled({ cause, schema }))
    )

    /** Waits until what was published before has gone to the sockets. */
    const handOn = Effect.gen(function* () {
      if (reader !== undefined) {
        // The second position is taken when the events up to the first are handed out.
        yield* Effect.repeat(reader.position, { times: 1 }).pipe(
          Effect.timeout(handOnWithin),
          Effect.ignore
        )
      }
      yield* Effect.sleep(toSockets)
    })

    const over = (door: Door): Effect.Effect<Control, never, Scope.Scope> =>
      Effect.gen(function* () {
        const defects = new Defects()
        const closing = Effect.gen(function* () {
          yield* some.await
          some.closeUnsafe()
          present = fresh
          fresh = undefined
          yield* handOn
          for (const one of present?.revocations ?? []) {
            const key = one.kind === "identity" ? one.name : undefined
            door.end("revoked", ({ principal }) => List.concerns(one, principal), key)
          }
        }).pipe(
          Effect.ensuring(
            Effect.sync(() => {
              if (present !== undefined) Deferred.doneUnsafe(present.closed, Effect.void)
              present = undefined
            })
          )
        )
        /** Waits until the sessions of all revocations that the node knows now are closed, and of no later ones. */
        const closed = Effect.suspend(() =>
          Effect.forEach(
            [present, fresh],
            (batch) => (batch === undefined ? Effect.void : Deferred.await(batch.closed)),
            { discard: true }
          )
        )
        yield* closing.pipe(
          Effect.catchDefect((defect) => defects.logged("The end of revoked sessions", defect)),
          Effect.forever,
          Effect.forkScoped
        )

        const act = (command: Command): Effect.Effect<Schema.Json, unknown> => {
          switch (command.act) {
            case "revoked":
              return Effect.as(Effect.andThen(list.refresh, closed), null)
            case "close":
              return Effect.andThen(
                handOn,
                Effect.sync(() => {
                  endAll(door, command.name, command.whose)
                  return null
                })
              )
            case "reauthorize":
              return Effect.as(door.reauthorize(command.key), null)
            case "stats":
              return Effect.flatMap(
                SubscriptionRef.get(bus.state),
                (state) =>
                  statsOf(
                    door,
                    bus.self.name,
                    state
                  ) as Effect.Effect<unknown> as Effect.Effect<Schema.Json>
              )
          }
        }
        const ask = yield* Questions.make(bus, controlTopic, (command) =>
          // A later version may ask for more.
          Effect.orDie(act(command as Command))
        )
        /** Acts here and everywhere; this node counts as the others do. */
        const everyone = (command: Command, within: number) =>
          Effect.map(
            Effect.all(
              [
                act(command).pipe(
                  Effect.timeoutOption(within),
                  Effect.catch(() => Effect.succeedNone)
                ),
                ask(command as unknown as Schema.Json, within)
              ],
              { concurrency: "unbounded" }
            ),
            ([own, { answered, missing }]) => ({
              answered: [
                ...(own._tag === "Some" ? [{ node: bus.self.name, answer: own.value }] : []),
                ...answered
              ],
              missing: [...(own._tag === "Some" ? [] : [bus.self.name]), ...missing]
            })
          )
        const reach = (command: Command): Effect.Effect<Reached> =>
          Effect.gen(function* () {
            const before = yield* SubscriptionRef.get(bus.state)
            const { answered, missing } = yield* everyone(command, answerWithin)
            const after = yield* SubscriptionRef.get(bus.state)
            return {
              answered: answered.map(({ node }) => node),
              missing,
              bus: before === "up" ? after : before
            }
          })

        const store = (kind: List.Revocation["kind"], name: string, expires: Date | undefined) =>
          Effect.timeout(revocations.add(kind, name, expires), answerWithin).pipe(
            Effect.mapError((cause) => new RevokeFailed({ cause }))
          )

        return checkedControl({
          revoke: (whose, options) => {
            if (typeof whose === "object" && "session" in whose) {
              return reach({ act: "close", name: "revoked", whose })
            }
            const [kind, name] =
              typeof whose === "string"
                ? (["identity", whose] as const)
                : (["token", whose.token] as const)
            return Effect.andThen(store(kind, name, options?.expires), reach({ act: "revoked" }))
          },
          reauthorize: (key) => reach({ act: "reauthorize", key }),
          disconnect: (whose) => reach({ act: "close", name: "removed", whose }),
          stats: Effect.map(everyone({ act: "stats" }, statsWithin), ({ answered, missing }) => ({
            answered: answered.map(({ answer }) => answer as NodeStats),
            missing
          }))
        })
      })

    if (controlled.has(bus)) return yield* new NoControl({ missing: "own NodeBus" })
    yield* Effect.acquireRelease(
      Effect.sync(() => controlled.add(bus)),
      () => Effect.sync(() => controlled.delete(bus))
    )
    return { door: { refuses: list.refuses, blind: list.blind }, over }
  })
