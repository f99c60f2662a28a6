/** The door of the desk: who reads what, and what a message becomes. */
// #region server
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Stream } from "effect"
import { QueryResults, Realtime, RealtimeServer } from "effect-realtime/server"
import { reportOf, talkAbout, ticketsOf, typingAbout } from "./channels.ts"
import { readersChanged } from "./database.ts"
import { isLead, type Person } from "./people.ts"

/** Whether a person may read one ticket. */
const mayRead = (person: Person, ticket: number) =>
  PgClient.PgClient.use((sql) =>
    Effect.map(
      sql`select from tickets where id = ${ticket} and team = ${person.team} and (${isLead(person)} or not restricted)`,
      (rows) => rows.length > 0
    )
  ).pipe(Effect.orDie)

const away = new RealtimeServer.RuleRefused({ message: "Your team does not have this ticket." })

/** The value, if the person may read the ticket. */
const forReaders = <A>(person: Person, ticket: number, value: A) =>
  Effect.flatMap(mayRead(person, ticket), (may) =>
    may ? Effect.succeed(value) : Effect.fail(away)
  )

/**
 * Asks the rules again when a ticket has other readers: who may not read its talk any more is sent no more of
 * it. After a gap such a change may have been missed.
 */
const followReaders = (people: ReadonlySet<string>) =>
  Effect.gen(function* () {
    const { reauthorize } = yield* RealtimeServer.RealtimeServer
    yield* Realtime.events(readersChanged).pipe(
      Stream.runForEach(() => Effect.forEach(people, reauthorize, { discard: true })),
      Effect.forkScoped
    )
  })

export const door = (find: (token: string) => Person | undefined) => {
  const people = new Set<string>()
  return Layer.effectDiscard(followReaders(people)).pipe(Layer.provideMerge(doorFor(find, people)))
}

const doorFor = (find: (token: string) => Person | undefined, people: Set<string>) =>
  RealtimeServer.layer({
    channels: [ticketsOf, talkAbout, typingAbout, reportOf],
    authenticate: ({ token = "" }) => {
      const identity = find(token)
      if (identity === undefined) {
        return Effect.fail(new RealtimeServer.AuthRefused({ code: "auth/invalid" }))
      }
      people.add(identity.id)
      return Effect.succeed({ identity })
    },
    identityKey: ({ id }) => id,
    rules: ({ onPublish, onSubscribe }) => [
      onSubscribe(ticketsOf, ({ identity, params: team }) =>
        identity.team !== team ? false : isLead(identity) || { where: { restricted: false } }
      ),
      onSubscribe(talkAbout, ({ identity, params }) => mayRead(identity, params)),
      onSubscribe(typingAbout, ({ identity, params }) => mayRead(identity, params)),
      onSubscribe(reportOf, ({ identity, params }) => QueryResults.isOwner(identity.team, params)),
      // Whatever name the page sends, this one is published.
      onPublish(talkAbout, ({ identity, params, payload }) =>
        forReaders(identity, params, { ...payload, sender: identity.name })
      ),
      onPublish(typingAbout, ({ identity, params }) =>
        forReaders(identity, params, { sender: identity.name })
      ),
      // The channel lets clients publish `stop`, and nothing else.
      onPublish(reportOf, ({ identity, params, payload }) =>
        QueryResults.isOwner(identity.team, params) ? payload : away
      )
    ]
  })
// #endregion

// #region report
/** Starts a report, and returns its id at once. */
export const report = (team: string) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const id = QueryResults.newId(team)
    const lines = sql<{
      readonly line: string
    }>`select title || ': ' || status line from tickets where team = ${team} and not restricted order by id`
      .stream
    yield* QueryResults.stream(
      reportOf(id),
      Stream.map(lines, ({ line }) => [line])
    )
    return id
  })
// #endregion
