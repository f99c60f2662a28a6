/**
 * The database of the example, ready to use: found or started, with its table, and a pool that
 * connects as a role which may read and write orders and nothing else.
 */
import { PgClient } from "@effect/sql-pg"
import { Config, Context, Effect, Layer, Option, Redacted, Schedule } from "effect"
import { PgInstaller } from "effect-realtime/server"
import { EmbeddedPostgres } from "effect-realtime/testing"
import { randomBytes, scryptSync } from "node:crypto"
import { fileURLToPath } from "node:url"
import { OrderUpdates } from "./channels.ts"
import { allow, type Login, schema } from "./schema.ts"

/** How people reach the same database with psql. */
export class Psql extends Context.Service<
  Psql,
  {
    /** The owner's connection string; a password is shown as `***`. */
    readonly url: string
    /** What to write after `psql` in a shell. */
    readonly argument: string
  }
>()("live-board/Psql") {}

interface Place {
  readonly owner: string
  /** The password that the app's own role gets; none where the database asks for none. */
  readonly password: string | undefined
  readonly psql: Psql["Service"]
}

const username = "live_board"

/** Gets exactly the rights that a server of the library needs. */
const nodeRole = "live_board_node"

/** A server that runs already, where DATABASE_URL says. */
const given = (owner: string): Place => {
  const url = new URL(owner)
  const secret = url.searchParams.get("password") ?? url.password
  if (url.password !== "") url.password = "***"
  if (url.searchParams.has("password")) url.searchParams.set("password", "***")
  return {
    owner,
    // Made from the owner's, so that a second example on the same server does not lock out the first.
    password: (secret === "" ? randomBytes(24) : scryptSync(secret, username, 24)).toString(
      "base64url"
    ),
    psql:
      secret === ""
        ? { url: owner, argument: `"${owner}"` }
        : { url: url.href, argument: `"$DATABASE_URL"` }
  }
}

/** A PostgreSQL of our own, which nobody else on this machine can reach. */
const embedded = Effect.gen(function* () {
  const dataDirectory = yield* Config.String("LIVE_BOARD_DATA").pipe(
    Config.withDefault(fileURLToPath(new URL("../../.data/postgres", import.meta.url)))
  )
  const { notice, url } = yield* EmbeddedPostgres.make({ dataDirectory })
  if (notice !== undefined) yield* Effect.logWarning(notice)
  return { owner: url, password: undefined, psql: { url, argument: `"${url}"` } } satisfies Place
})

const locate = Effect.gen(function* () {
  const url = yield* Config.option(Config.Redacted("DATABASE_URL"))
  const owner = Option.getOrElse(Option.map(url, Redacted.value), () => "")
  return owner === "" ? yield* embedded : given(owner)
})

/** Uses the owner's rights, once. Gives back the login of the app. */
const prepare = ({ owner, password }: Place) =>
  Effect.gen(function* () {
    yield* schema
    const watch = [{ channel: OrderUpdates }]
    return yield* PgInstaller.install({ watch, roles: { node: nodeRole } }).pipe(
      Effect.andThen(allow({ username, password }, nodeRole)),
      Effect.catchReason("SqlError", "AuthorizationError", () =>
        Effect.gen(function* () {
          yield* Effect.logWarning(
            "The user of DATABASE_URL may not create roles, so the app works as this user."
          )
          yield* PgInstaller.install({ watch })
          return undefined
        })
      )
    )
  }).pipe(
    // Another example that starts at this moment may change the same role.
    Effect.retry({
      schedule: Schedule.spaced("200 millis"),
      times: 3,
      while: (error) => error._tag === "SqlError"
    }),
    Effect.provide(
      PgClient.layer({
        url: Redacted.make(owner),
        maxConnections: 1,
        applicationName: "live-board setup"
      })
    )
  )

const pool = ({ owner }: Place, login: Login | undefined) =>
  PgClient.layer({
    url: Redacted.make(owner),
    username: login?.username,
    password: login?.password === undefined ? undefined : Redacted.make(login.password),
    maxConnections: 5,
    applicationName: "live-board"
  })

/** The pool of the app. The server that was started for it ends with it. */
export const layer = Layer.unwrap(
  Effect.gen(function* () {
    const place = yield* locate
    const login = yield* prepare(place)
    return Layer.merge(pool(place, login), Layer.succeed(Psql, place.psql))
  })
)
