/**
 * The gateway: an HTTP server with a WebSocket door, its health and its metrics. It needs no
 * code of an application.
 *
 * It listens before it reaches the database, so that its health can be asked meanwhile.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { isSqlError } from "effect/sql/SqlError"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { gateway as Defaults } from "../../internal/defaults.ts"
import { awaited } from "../../node/internal/awaited.ts"
import { databaseLayer } from "../../node/internal/databaseLayer.ts"
import { openDoor } from "../../node/internal/openDoor.ts"
import { waitingDoor } from "../../node/internal/waitingDoor.ts"
import { attach } from "../../server/internal/door/attach.ts"
import { checkSent, pathOf } from "../../server/internal/door/claimedPaths.ts"
import { databaseRefusalOf, explained } from "../../server/internal/link/databaseRefusal.ts"
import { Outage } from "../../server/internal/outage.ts"
import { keeps } from "../../server/internal/hub/durable.ts"
import { LogWords } from "../../server/internal/limits/boundedLog.ts"
import { checkOptions, resolveLimits } from "../../server/internal/limits/limits.ts"
import { SchemaName } from "../../server/internal/sql/schemaName.ts"
import * as PgInstaller from "../../server/PgInstaller.ts"
import * as PgTls from "../../server/PgTls.ts"
import * as Realtime from "../../server/Realtime.ts"
import { allowAll } from "../../server/ServerOptions.ts"
import { layerDatabase } from "../shared/database.ts"
import { failed } from "../shared/exit.ts"
import { overNats } from "../shared/nats.ts"
import { authorizer, type Client } from "./access.ts"
import { answers, checkSocketPath } from "./answers.ts"
import { servedChannel } from "./channels.ts"
import { InvalidGateway } from "./config.ts"
import type { Joined } from "./given.ts"
import { authenticator } from "./identity.ts"
import { install, servedTables } from "./tables.ts"
import { words } from "./words.ts"

/** What a gateway needs, beside what its file may leave out. */
export interface Options {
  readonly config: Joined
  readonly database: Redacted.Redacted
  readonly schema: string
}

/** Throws are faults of the file. */
const checked = <A>(make: () => A): Effect.Effect<A, unknown> =>
  Effect.try({ try: make, catch: (error) => error })

/** Listens, and closes with the scope. */
const listen = (config: Joined, isReady: () => boolean) =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    const http = yield* Effect.acquireRelease(
      Effect.sync(() => createServer(answers(isReady, pathOf(config), context))),
      (http) =>
        Effect.callback<void>((done) => {
          http.close(() => done(Effect.void))
          http.closeAllConnections()
        })
    )
    const { host = Defaults.host, port = Defaults.port } = config
    yield* Effect.callback<void, unknown>((done) => {
      http.once("error", (error: NodeJS.ErrnoException) =>
        done(
          Effect.fail(
            error.code === "EADDRINUSE"
              ? failed(
                  `Port ${port} of ${host} is taken. Give another with --port, or 0 for a free one.`
                )
              : failed(
                  `The gateway cannot listen on port ${port} of ${host} (${error.code ?? error.message}). Give an address of this machine with --host, and a port that its user may listen on with --port.`
                )
          )
        )
      )
      http.listen(port, host, () => done(Effect.void))
    })
    const { address, family, port: bound } = http.address() as AddressInfo
    const url = `http://${family === "IPv6" ? `[${address}]` : address}:${bound}`
    return { http, url }
  })

/** Repeats while the database is away, and says so. */
const patiently = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const outage = new Outage({
      lost: "The database does not answer",
      back: "The database answers"
    })
    return effect.pipe(
      Effect.retry({
        schedule: Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("15 seconds")]),
        while: (error: unknown) =>
          isSqlError(error) &&
          error.reason._tag === "ConnectionError" &&
          databaseRefusalOf(error) === undefined
            ? Effect.as(outage.failing(explained(error)), true)
            : Effect.succeed(false)
      }),
      Effect.tap(outage.recovered)
    )
  })

/** The tables as the database describes them, and whether the objects are there. */
const prepare = (needsObjects: boolean, { config, database, schema }: Options) =>
  Effect.gen(function* () {
    const mayWatch = needsObjects && config.install !== false && (yield* install)
    const tables = yield* servedTables(config.tables, mayWatch)
    const installed = yield* PgInstaller.check.pipe(
      Effect.as(true),
      // A gateway of live channels needs no objects.
      Effect.catchTag("NotInstalled", (error) =>
        needsObjects ? Effect.fail(error) : Effect.succeed(false)
      )
    )
    return { tables, installed }
  }).pipe(Effect.provide(layerDatabase({ database, schema })), patiently)

/** Listens, waits for the database, opens the door, and gives its address once clients can come in. */
export const open = Effect.fnUntraced(function* (options: Options) {
  const { config, database, schema } = options
  yield* checked(() => {
    const { limits, origins, path, trustProxy } = config
    checkOptions({ origins, path, trustProxy, authorize: allowAll })
    checkSent(pathOf(config))
    checkSocketPath(pathOf(config))
    resolveLimits(limits)
  })
  for (const key of ["database", "listen"] as const) {
    const address = key === "database" ? database : config.listen
    if (address === undefined) continue
    yield* PgTls.config(address).pipe(
      Effect.mapError(
        ({ message }) => new InvalidGateway({ where: config.placeOf(key), reason: message })
      )
    )
  }
  const channels = yield* checked(() =>
    config.channels.map(({ config, name, place }) => servedChannel(name, config, place))
  )
  const authenticate = yield* checked(() => authenticator(config.jwt, config.placeOf))
  const bus = config.name === undefined ? {} : { name: config.name }
  const nats = config.nats === undefined ? undefined : yield* overNats(config.nats)
  const nodes = nats === undefined ? undefined : yield* checked(() => nats.nodes(bus))
  let isReady = () => false
  const { http, url } = yield* listen(config, () => isReady())
  const waiting = yield* Scope.fork(yield* Effect.scope)
  const path = pathOf(config)
  yield* attach(
    waitingDoor(path, () => "The gateway is starting."),
    http
  ).pipe(Scope.provide(waiting))
  const keepsSome = config.tables.length > 0 || channels.some(({ definition }) => keeps(definition))
  const hasNats = nodes !== undefined
  // The secret of the bus is one of the objects.
  const needsObjects = keepsSome || hasNats
  yield* awaited({
    link: true,
    reader: keepsSome,
    bus: needsObjects,
    nats: hasNats
  }).pipe(Scope.provide(waiting))
  const { installed, tables } = yield* prepare(needsObjects, options)
  const served = [...channels, ...tables]
  const definitions = served.map(({ definition }) => definition)
  const listenUrl = config.listen === undefined ? undefined : Redacted.value(config.listen)
  const beneath = yield* Layer.build(
    Layer.effect(Realtime.Realtime, Realtime.make()).pipe(
      Layer.provideMerge(
        databaseLayer(
          Redacted.value(database),
          { listenUrl, nodes, bus },
          definitions,
          new Set(),
          installed
        )
      ),
      Layer.provideMerge(Layer.succeed(SchemaName, schema))
    )
  )
  const { door } = yield* openDoor<Client>(
    {
      channels: definitions,
      path: config.path,
      origins: config.origins,
      trustProxy: config.trustProxy,
      limits: config.limits,
      control: installed,
      authenticate,
      identityKey: ({ key }) => key,
      authorize: authorizer(served)
    },
    Effect.void
  ).pipe(Effect.provide(beneath), Effect.provideService(LogWords, words))
  yield* attach(door, http)
  yield* Scope.close(waiting, Exit.void)
  isReady = door.isReady
  yield* door.ready
  yield* Effect.logInfo(`Clients connect to ${url.replace("http", "ws")}${path}`)
  return url
})
