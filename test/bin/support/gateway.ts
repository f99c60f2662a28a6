/** A gateway of a test, its clients, and what they hear. */
import { Effect, Queue } from "effect"
import { createRealtimeClient } from "effect-realtime/client"
import { SignJWT } from "jose"
import type { Served } from "../../../src/bin/gateway/access.ts"
import { definitionOf, type Described, needsOf } from "../../../src/bin/gateway/channels.ts"
import type * as Config from "../../../src/bin/gateway/config.ts"
import { planned } from "../../../src/bin/gateway/watches.ts"
import { execute, TestDatabase } from "../../support/database.ts"
import { start } from "./run.ts"

/** A table as a gateway serves it that is the first to watch it. */
export const servedTable = (name: string, config: Config.Table, described: Described): Served => {
  const place = `tables.${name}`
  const plan = planned(needsOf(place, name, config, described), undefined, "realtime")
  const definition = definitionOf(place, name, config, described, plan.serves)
  return { definition, read: config.read, publish: undefined }
}

export const secret = "0123456789abcdef0123456789abcdef"

export const tokenOf = (claims: Readonly<Record<string, unknown>>) =>
  Effect.promise(() =>
    new SignJWT({ sub: "ann", ...claims })
      .setProtectedHeader({ alg: "HS256" })
      .setExpirationTime("1 hour")
      .sign(new TextEncoder().encode(secret))
  )

/** Starts a gateway, and gives its address. */
export const serve = (args: ReadonlyArray<string>, env?: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    const { url } = yield* TestDatabase
    const gateway = yield* start(["serve", "--port", "0", ...args], {
      env: { DATABASE_URL: url, ...env }
    })
    const line = yield* Queue.take(gateway.lines).pipe(
      Effect.raceFirst(Effect.flatMap(gateway.ended, ({ stderr }) => Effect.die(stderr)))
    )
    const address = /^ready (http:\/\/127\.0\.0\.1:\d+)$/.exec(line)![1]!
    return { ...gateway, address, sql: (text: string) => execute(url, text) }
  })

export const clientOf = (address: string, token?: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      createRealtimeClient({
        url: `${address.replace("http", "ws")}/realtime`,
        ...(token === undefined ? {} : { token: () => token })
      })
    ),
    (client) => Effect.promise(() => client.close())
  )

type Client = Effect.Success<ReturnType<typeof clientOf>>

/** Subscribes, and gives what arrives: events, and the code of what ends the subscription. */
export const hear = (client: Client, channel: string) =>
  Effect.gen(function* () {
    const heard = yield* Queue.unbounded<unknown>()
    const subscribed = Promise.withResolvers<void>()
    client.listen(channel, (payload) => Queue.offerUnsafe(heard, payload), {
      onCursor: () => subscribed.resolve(),
      onError: (error) => {
        Queue.offerUnsafe(heard, Object(error).code)
        subscribed.resolve()
      }
    })
    yield* Effect.promise(() => subscribed.promise)
    return Queue.take(heard)
  })
