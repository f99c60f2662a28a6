/**
 * The database of the example: finds or starts PostgreSQL, creates the table, and connects a pool as a
 * role that may read and write orders only.
 */
import { PgClient } from "@effect/sql-pg"
import { Config, Context, Effect, Layer, Option, Redacted, Schedule } from "effect"
import { PgInstaller } from "effect-realtime/server"
import { EmbeddedPostgres } from "effect-realtime/testing"
import { randomBytes, scryptSync } from "node:crypto"
import { fileURLToPath } from "node:url"
import { Orders } from "./channels.ts"
import { allow, type Login, schema } from "./schema.ts"

/** The same database for psql. */
export class Psql extends Context.Service<
  Psql,
  {
    /** The owner's connection string, with `***` for a password. */
    readonly url: string
    /** The arguments for `psql` in a shell. */
    readonly argument: string
  }
>()("live-board/Psql") {}

interface Place {
  readonly owner: string
  /** The password of the app's role, `undefined` if the database requires no password. */
  readonly password: string | undefined
  readonly psql: Psql["Service"]
}

const username = "live_board"

/** The role with exactly the rights that a node needs. */
const nodeRole = "live_board_node"

/** The running server that DATABASE_URL names. */
const given = (owner: string): Place => {
  const url = new URL(owner)
  const secret = url.searchParams.get("password") ?? url.password
  if (url.password !== "") url.password = "***"
  if (url.searchParams.has("password")) url.searchParams.set("password", "***")
  return {
    owner,
    // Derived from the owner's password, so that a second example on this server uses the same one.
    password: (secret === "" ? randomBytes(24) : scryptSync(secret, username, 24)).toString(
      "base64url"
    ),
    psql:
      secret === ""
        ? { url: owner, argument: `"${owner}"` }
        : { url: url.href, argument: `"$DATABASE_URL"` }
  }
}

/** A PostgreSQL of our own, which no other user of this machine can reach. */
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

/** Uses the owner's rights once. Returns the login of the app. */
const prepare = ({ owner, password }: Place) =>
  Effect.gen(function* () {
    yield* schema
    const watch = [Orders]
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
    // Another example that starts at the same time may change the same role.
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

/** The pool of the app. A server that the example started ends with the pool. */
export const layer = Layer.unwrap(
  Effect.gen(function* () {
    const place = yield* locate
    const login = yield* prepare(place)
    return Layer.merge(pool(place, login), Layer.succeed(Psql, place.psql))
  })
)
