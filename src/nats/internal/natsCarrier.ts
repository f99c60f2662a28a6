/**
 * A carrier over NATS: one subject of the database.
 *
 * The subject follows the identity of the database, so that nodes that run while its objects are installed
 * anew go on to hear those that start later.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Carrier } from "../../server/internal/bus/carrier.ts"
import type { Connection } from "./connection.ts"
import { prefixOf } from "./subjects.ts"
import { textOf } from "./text.ts"

/** The text did not leave, or NATS did not confirm it. */
class NotSent extends Data.TaggedError("NotSent")<{ readonly why: string }> {
  override get message(): string {
    return `the bus over NATS did not send: ${this.why}`
  }
}

/** Larger envelopes save nothing more. */
const maxBytes = 65_536

/** Milliseconds that NATS has to confirm a text. */
const patience = 2000

/** The subject of the bus of a database. */
export const busSubject = (root: string, identity: string, schema: string): string =>
  `${prefixOf(root, identity, schema)}.bus`

/** `identity`: of the database, `undefined` until it was read once. */
export const make = (
  connection: Connection,
  schema: string,
  identity: () => string | undefined
): Carrier => {
  let ear: { readonly hear: (text: string) => void; readonly scope: Scope.Scope } | undefined
  let subscribed: { readonly subject: string; readonly scope: Scope.Closeable } | undefined

  const subjectNow = (): string | undefined => {
    const known = identity()
    return known === undefined ? undefined : busSubject(connection.root, known, schema)
  }

  /** Subscribes to the present subject, and to no other. */
  const follow = Effect.suspend(() => {
    const subject = subjectNow()
    if (ear === undefined || subject === undefined || subscribed?.subject === subject) {
      return Effect.void
    }
    const { hear, scope } = ear
    const before = subscribed
    // In this step, because texts are sent at once.
    const own = Scope.forkUnsafe(scope)
    subscribed = { subject, scope: own }
    return connection
      .subscribe(subject, (data) => hear(textOf(data)))
      .pipe(
        Scope.provide(own),
        Effect.andThen(before === undefined ? Effect.void : Scope.close(before.scope, Exit.void))
      )
  }).pipe(Effect.uninterruptible)

  return {
    maxBytes: () => Math.max(1024, Math.min(maxBytes, connection.maxPayload())),
    send: (text) =>
      Effect.gen(function* () {
        yield* follow
        const subject = subjectNow()
        if (subject === undefined) return yield* new NotSent({ why: "the database is not known" })
        if (!connection.publish(subject, text)) {
          return yield* new NotSent({ why: "the connection is down, or too much waits" })
        }
        if (!(yield* connection.flush(patience))) {
          return yield* new NotSent({ why: `NATS did not confirm it within ${patience} ms` })
        }
      }),
    receive: (hear) =>
      Effect.gen(function* () {
        ear = { hear, scope: yield* Effect.scope }
        yield* follow
        yield* connection.flush(patience)
      }),
    state: connection.state,
    renew: connection.renew
  }
}
