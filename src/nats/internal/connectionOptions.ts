/** The options of a connection to NATS, and what the library `@nats-io/transport-node` takes for them. */
import {
  type Authenticator,
  type ConnectionOptions as LibraryOptions,
  credsAuthenticator,
  type TlsOptions
} from "@nats-io/transport-node"
import type * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import * as Fs from "node:fs"
import * as Backoff from "../../Backoff.ts"
import { natsConnection as Defaults } from "../../internal/defaults.ts"
import { backoff, invalid, millis } from "../../server/internal/options.ts"
import { rootFault } from "./subjects.ts"

/**
 * Options of a connection to NATS.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionOptions {
  /**
   * The addresses of the servers of one cluster, `nats://host:4222` or `host:4222`, as a list or with commas
   * between them: the node tries them in random order. List all of them: it takes no others from the cluster.
   */
  readonly servers: string | ReadonlyArray<string>
  /** The user, with `password`. */
  readonly user?: string | undefined
  /** The password of `user`. */
  readonly password?: Redacted.Redacted | string | undefined
  /** A token instead of a user. */
  readonly token?: Redacted.Redacted | string | undefined
  /** The path of a `.creds` file, which is read again at each connect. */
  readonly credentialsFile?: string | undefined
  /** Another proof of this node: see the authenticators of `@nats-io/transport-node`. */
  readonly authenticator?: Authenticator | undefined
  /** TLS as `@nats-io/transport-node` takes it; `{}` requires it. Default: if a server offers it. */
  readonly tls?: TlsOptions | undefined
  /** The name of the connection in NATS, default `effect-realtime`. */
  readonly name?: string | undefined
  /**
   * What all subjects begin with, default `effect_realtime`: 1-100 of `A-Z a-z 0-9 _ -`, and single dots
   * between them. All nodes of a database have the same.
   */
  readonly root?: string | undefined
  /** Time that one server has to accept the connection, default 5 s. */
  readonly connectTimeout?: Duration.Input | undefined
  /** Time between two heartbeats on the connection, default 2 s. */
  readonly heartbeatInterval?: Duration.Input | undefined
  /**
   * Time that NATS has to answer a heartbeat, default 2 s. At the limit the node opens another connection.
   */
  readonly heartbeatTimeout?: Duration.Input | undefined
  /**
   * Whether the node also starts while no server can be reached, default `false`: it then connects when one
   * can be. Without it the layer fails with `NatsUnreachable`. A rejected login always fails the start.
   */
  readonly startWithout?: boolean | undefined
  /**
   * When to reconnect, default `Backoff.link`: at once after 30 s up, then full jitter, 100 ms doubling to 10 s,
   * for ever.
   */
  readonly backoff?: Backoff.Policy | undefined
}

export interface ResolvedConnection {
  /** Without what stands before an `@`. */
  readonly servers: ReadonlyArray<string>
  /** For each connect anew. Throws when the file of the credentials cannot be read. */
  readonly library: () => LibraryOptions
  readonly root: string
  readonly beat: number
  readonly patience: number
  readonly startWithout: boolean
  readonly policy: Backoff.Policy
}

const plain = (secret: Redacted.Redacted | string): string =>
  typeof secret === "string" ? secret : Redacted.value(secret)

const scheme = /^(?:(?:nats|tls):\/\/)?(?:([^@]*)@)?([^@/,]+)\/?$/

/** Throws `InvalidOption`. */
export const resolvedConnection = (options: ConnectionOptions): ResolvedConnection => {
  const { servers: given } = options
  const list: ReadonlyArray<unknown> = typeof given === "string" ? given.split(",") : [given].flat()
  let needsTls = false
  const servers = list.map((one) => {
    const parts = typeof one === "string" ? scheme.exec(one.trim()) : null
    if (parts === null) {
      // The text may hold a password.
      throw invalid(
        "servers",
        "a text that is no such address",
        "nats://host:port, or a list of them"
      )
    }
    if (parts[1] !== undefined) {
      throw invalid(
        "servers",
        "an address with a user",
        "an address without one: use user, password"
      )
    }
    needsTls ||= (one as string).trim().startsWith("tls://")
    return parts[2]!
  })
  if (servers.length === 0) throw invalid("servers", given, "a list of one address or more")
  const root = options.root ?? Defaults.root
  const fault = rootFault(root)
  if (fault !== undefined) throw invalid("root", root, fault)
  const { authenticator, credentialsFile, password, token, user } = options
  if (credentialsFile !== undefined) {
    try {
      Fs.accessSync(credentialsFile, Fs.constants.R_OK)
    } catch {
      throw invalid(
        "credentialsFile",
        credentialsFile,
        "the path of a file that this node may read"
      )
    }
  }
  const connectTimeout = millis("connectTimeout", options.connectTimeout ?? Defaults.connectTimeout)
  const tls = options.tls ?? (needsTls ? {} : undefined)
  return {
    servers,
    root,
    beat: millis("heartbeatInterval", options.heartbeatInterval ?? Defaults.heartbeatInterval),
    patience: millis("heartbeatTimeout", options.heartbeatTimeout ?? Defaults.heartbeatTimeout),
    startWithout: (options.startWithout ?? Defaults.startWithout) === true,
    policy: backoff(options.backoff ?? Backoff.link),
    library: () => {
      const proof =
        credentialsFile === undefined
          ? authenticator
          : credsAuthenticator(Fs.readFileSync(credentialsFile))
      return {
        servers: [...servers],
        name: options.name ?? Defaults.name,
        timeout: connectTimeout,
        // The node reconnects by itself, and so never gives up.
        reconnect: false,
        ignoreAuthErrorAbort: true,
        ignoreClusterUpdates: true,
        noAsyncTraces: true,
        ...(user === undefined ? {} : { user }),
        ...(password === undefined ? {} : { pass: plain(password) }),
        ...(token === undefined ? {} : { token: plain(token) }),
        ...(proof === undefined ? {} : { authenticator: proof }),
        ...(tls === undefined ? {} : { tls })
      }
    }
  }
}
