/**
 * Checks the arguments of the class before anything connects, also for callers without types.
 *
 * The constructor throws every fault that the text of an argument shows. `ready` rejects with those that
 * only PostgreSQL can find.
 */
import * as Data from "effect/Data"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { Server as HttpServer } from "node:http"
import { Server as NetServer } from "node:net"
import { Server as TlsServer } from "node:tls"
import * as Channel from "../../Channel.ts"
import { readRules } from "../../server/internal/auth/rules.ts"
import { checkSent, pathOf } from "../../server/internal/door/claimedPaths.ts"
import { checkOptions, resolveLimits } from "../../server/internal/limits/limits.ts"
import { secured } from "../../server/internal/link/pgLink.ts"
import { patienceOf } from "../../server/internal/link/databaseRefusal.ts"
import { count, invalid, InvalidOption } from "../../server/internal/options.ts"
import { resolved } from "../../server/internal/hub/realtimeOptions.ts"
import { together } from "../../server/internal/outbox/readerOptions.ts"
import { schemaNameFault } from "../../server/internal/sql/schemaName.ts"
import { allowAll } from "../../server/ServerOptions.ts"
import type { Options } from "../Options.ts"

/**
 * The server cannot start: an argument or an option is missing or invalid.
 *
 * @category errors
 * @since 0.1.0
 */
export class RefusedToStart extends Data.TaggedError("RefusedToStart")<{
  readonly reason: "NoAuthorize" | "NoDatabaseUrl" | "BadDatabaseUrl" | "NoHttpServer"
  /** The details that the reason lacks. */
  readonly detail?: string | undefined
}> {
  override get message(): string {
    return {
      NoAuthorize: `NODE_ENV is "production" and there is neither authorize nor rules: every client could read every channel. Pass { authorize: ({ channel, action }) => boolean }, or { authorize: RealtimeServer.allowAll } for a server that is open on purpose.`,
      NoDatabaseUrl: `The database URL is missing. Pass a connection string such as postgres://user:password@host:5432/database; is DATABASE_URL set?`,
      BadDatabaseUrl: this.detail ?? "The database URL cannot be followed.",
      NoHttpServer: `The first argument is ${this.detail ?? "something else"}, not an http.Server, which receives upgrade requests. Express, Koa, Connect: pass what app.listen(port) gives, or http.createServer(app). Fastify: pass app.server. NestJS: pass app.getHttpServer().`
    }[this.reason]
  }
}

/** Every option by its name: a misspelt option would have no effect. */
const names: Readonly<Record<keyof Options, true>> = {
  authenticate: true,
  authorize: true,
  channels: true,
  control: true,
  identityKey: true,
  limits: true,
  listenUrl: true,
  maxChannels: true,
  maxConnections: true,
  maxFilters: true,
  maxMembers: true,
  memberRate: true,
  presenceGrace: true,
  nodes: true,
  origins: true,
  path: true,
  maxMemoryAge: true,
  maxMemoryBytes: true,
  maxMemoryEvents: true,
  maxReplayMemory: true,
  maxReplayQueue: true,
  maxReplays: true,
  maxStateBytes: true,
  maxStateRows: true,
  rules: true,
  schema: true,
  slowConsumer: true,
  startPatience: true,
  trustProxy: true,
  wake: true
}

const kindOf = (value: unknown): string =>
  typeof value === "function"
    ? "a function"
    : typeof value === "object" && value !== null
      ? `an object (${value.constructor?.name ?? "Object"})`
      : value === null
        ? "null"
        : typeof value

const checkServer = (server: unknown): void => {
  // An http2 server that accepts HTTP/1 counts too, and has no class of its own.
  const isHttp =
    server instanceof HttpServer ||
    (server instanceof NetServer &&
      ![NetServer.prototype, TlsServer.prototype].includes(Object.getPrototypeOf(server)))
  if (!isHttp) throw new RefusedToStart({ reason: "NoHttpServer", detail: kindOf(server) })
}

const checkUrl = (url: unknown, which: string): void => {
  if (typeof url !== "string") {
    throw new RefusedToStart({
      reason: "BadDatabaseUrl",
      detail: `The ${which} is ${kindOf(url)}, not a text. Write it like postgres://user:password@host:5432/database.`
    })
  }
  const read = secured({ url: Redacted.make(url) })
  if (Result.isSuccess(read)) return
  const { cure, reason } = read.failure
  throw new RefusedToStart({ reason: "BadDatabaseUrl", detail: `The ${which} ${reason}. ${cure}.` })
}

const checkChannels = (channels: unknown): void => {
  const list = "a list of definitions, such as [Channel.make(name, schema)]"
  if (!Array.isArray(channels)) throw invalid("channels", channels, list)
  for (const [index, channel] of (channels as ReadonlyArray<unknown>).entries()) {
    const isOne =
      (typeof channel === "object" || typeof channel === "function") &&
      channel !== null &&
      "_tag" in channel &&
      (channel._tag === "Channel" || channel._tag === "Family")
    if (!isOne)
      throw invalid(
        `channels[${index}]`,
        channel,
        "a definition, such as Channel.make(name, schema)"
      )
    if ("fault" in channel && channel.fault instanceof Error) throw channel.fault
  }
}

const checkOwn = (options: Options): void => {
  const { channels, listenUrl, maxConnections, nodes, schema, startPatience, wake } = options
  if (channels !== undefined) checkChannels(channels)
  if (listenUrl !== undefined) checkUrl(listenUrl, "listenUrl")
  if (maxConnections !== undefined) {
    count("maxConnections", maxConnections, { unlimited: false })
  }
  if (nodes !== undefined && !["bus", "feed", "source"].every((name) => name in Object(nodes))) {
    throw invalid("nodes", nodes, "what Nats.nodes of effect-realtime/nats makes")
  }
  resolved(options)
  together(options)
  patienceOf(startPatience)
  if (
    schema !== undefined &&
    (typeof schema !== "string" || schemaNameFault(schema) !== undefined)
  ) {
    throw invalid("schema", schema, `1-31 of a-z 0-9 _, not beginning with a digit or "pg_"`)
  }
  if (wake !== undefined && wake !== "poll") throw invalid("wake", wake, `"poll", or left out`)
}

/** Throws `RefusedToStart`, `InvalidOption` or `InvalidChannelName`. */
export const checkArguments = (server: unknown, url: unknown, options: unknown): void => {
  checkServer(server)
  if (url === undefined || url === null || url === "") {
    throw new RefusedToStart({ reason: "NoDatabaseUrl" })
  }
  checkUrl(url, "database URL")
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw invalid("options", options, "options by their names, such as { authorize }")
  }
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(names, name)) {
      // The value may be a secret under another name.
      throw new InvalidOption({
        option: name,
        value: "not known",
        expected: `one of ${Object.keys(names).join(", ")}`
      })
    }
  }
  const given = options as Options
  const { authorize, rules } = given
  const isOpen = authorize === undefined && rules === undefined
  if (isOpen && process.env["NODE_ENV"] === "production") {
    throw new RefusedToStart({ reason: "NoAuthorize" })
  }
  checkOptions({ ...given, authorize: isOpen ? allowAll : authorize })
  checkSent(pathOf(given))
  resolveLimits(given.limits)
  checkOwn(given)
  if (rules !== undefined) readRules({ channels: given.channels ?? Channel.known(), rules })
}
