/** The checks of `doctor` between this machine and the database: TLS, the primary, LISTEN, the clocks. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { randomUUID } from "node:crypto"
import { pgNotificationSource as Defaults } from "../../../internal/defaults.ts"
import { maxOff } from "../../../server/internal/bus/dayKey.ts"
import { ListenNotDelivered } from "../../../server/internal/link/databaseRefusal.ts"
import { readUrl } from "../../../server/internal/link/databaseUrl.ts"
import * as PgLink from "../../../server/internal/link/pgLink.ts"
import { leastMisses, selfTest } from "../../../server/internal/link/selfTest.ts"
import { undelivered } from "../../shared/cures.ts"
import { type Check, fix, ok, type Patient } from "./verdict.ts"

const loopback = /^(localhost|127\.\d+\.\d+\.\d+|::1)$/

const verifying = "sslmode=verify-full&sslrootcert=<file of the authority>"

const tls: Check = {
  name: "tls",
  look: Effect.fnUntraced(function* ({ config, database, pool }: Patient) {
    const [row] = yield* pool<{ readonly ssl: boolean; readonly version: string | null }>`
      select ssl, version from pg_stat_ssl where pid = pg_backend_pid()`
    const to = PgLink.address(config)
    const place = "path" in to ? undefined : to.host
    const isHere = place === undefined || loopback.test(place)
    if (row?.ssl !== true) {
      return isHere
        ? ok("not encrypted, and the server is on this machine")
        : fix(
            `The connection to ${place} is not encrypted.`,
            `Add ${verifying} to the database URL.`
          )
    }
    const mode = Result.getOrUndefined(readUrl(database))?.mode
    return mode?.startsWith("verify") === true
      ? ok(`${row.version}, and the certificate of the server is verified (sslmode=${mode})`)
      : fix(
          `The connection is encrypted, and any server may pose as ${place ?? "this one"}: its certificate is not verified.`,
          `Write ${verifying} in the database URL.`
        )
  })
}

const primary: Check = {
  name: "primary",
  look: Effect.fnUntraced(function* ({ pool }: Patient) {
    const [row] = yield* pool<{ readonly standby: boolean }>`
      select pg_is_in_recovery() as standby`
    return row?.standby === true
      ? fix(
          "The database is a standby. Notifications and positions are those of the primary only.",
          "Give the URL of the primary, or a name that leads to it."
        )
      : ok("the server is the primary")
  })
}

/** One link that listens, and one notification through the pool. */
const heard = ({ database, listen, pool }: Patient) =>
  Effect.gen(function* () {
    const { connection } = yield* Effect.fromResult(PgLink.secured({ url: listen ?? database }))
    const link = yield* PgLink.open({
      connection,
      heartbeat: Duration.millis(Defaults.heartbeatInterval),
      heartbeatTimeout: Duration.millis(Defaults.heartbeatTimeout)
    })
    // An UNLISTEN would wait for a server that does not answer.
    yield* Effect.addFinalizer(() => Effect.sync(link.destroy))
    const name = `realtime_link_${randomUUID()}`
    yield* selfTest(pool, name, yield* link.listen(name))
    return undefined
  }).pipe(
    Effect.scoped,
    Effect.catchIf(
      (error) => error instanceof ListenNotDelivered,
      (error) => Effect.succeed(error)
    )
  )

const listening: Check = {
  name: "listen",
  look: Effect.fnUntraced(function* (patient: Patient) {
    const found = yield* Effect.all(
      Array.from({ length: leastMisses }, () => heard(patient)),
      { concurrency: "unbounded" }
    )
    const missed = found.find((one) => one !== undefined)
    return missed === undefined || found.includes(undefined)
      ? ok("a notification through the pool arrived on the link")
      : fix(undelivered)
  })
}

/** The looks at the clocks, of which the quickest is the most exact. */
const looks = 3

const clock: Check = {
  name: "clock",
  look: Effect.fnUntraced(function* ({ pool }: Patient) {
    let best = { away: 0, trip: Number.POSITIVE_INFINITY }
    for (let look = 0; look < looks; look++) {
      const before = yield* Clock.currentTimeMillis
      const [row] = yield* pool<{ readonly now: number }>`
        select (extract(epoch from clock_timestamp()) * 1000)::float8 as now`
      const after = yield* Clock.currentTimeMillis
      const trip = after - before
      if (trip < best.trip) best = { away: row!.now - (before + after) / 2, trip }
    }
    const away = Math.max(0, Math.abs(best.away) - best.trip / 2)
    const seconds = (away / 1000).toFixed(1)
    return away > maxOff / 6
      ? fix(
          `The clocks of this machine and of the database differ by ${seconds} s. Nodes drop what they send each other from ${maxOff / 1000} s on, and tokens begin and expire at other times.`,
          "Let both follow a time server."
        )
      : ok(`the clocks agree within ${Math.max(0.1, away / 1000).toFixed(1)} s`)
  })
}

export const connectionChecks: ReadonlyArray<Check> = [tls, primary, listening, clock]
