/**
 * NATS for the commands that use it: its flags, variables and keys in one place, and its layers, which need a
 * package of their own.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Stdio from "effect/Stdio"
import type { BusOptions } from "../../server/internal/bus/busOptions.ts"
import { natsConnection as Defaults } from "../../internal/defaults.ts"
import { CommandFailed, exitCodes } from "./exit.ts"
import { missingOf, missingText } from "./peers.ts"
import { file, secret, type Setting, several, text } from "./setting.ts"

/** How nodes are joined over NATS, as the gateway's file says it. */
export interface NatsGiven {
  readonly servers?: ReadonlyArray<string> | string
  readonly user?: string
  readonly password?: Redacted.Redacted
  readonly token?: Redacted.Redacted
  /** The path of a `.creds` file. */
  readonly credentials?: string
  /** What all subjects begin with. */
  readonly root?: string
  /** Paths of files for TLS: of the authority, and of the certificate and key of this node. */
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

/** The settings of NATS. */
export const natsSettings: ReadonlyArray<Setting> = [
  several("nats", "<address,...>", {
    key: "nats.servers",
    what: "The NATS servers that join the nodes, such as nats-1:4222,nats-2:4222; tls:// for TLS"
  }),
  text("nats-user", "<name>", { key: "nats.user", what: "The user of a node in NATS" }),
  secret("nats-password", { key: "nats.password", what: "The password of that user" }),
  secret("nats-token", { key: "nats.token", what: "A token in place of a user" }),
  file("nats-credentials", {
    key: "nats.credentials",
    what: "A .creds file in place of a user"
  }),
  text("nats-root", "<text>", {
    key: "nats.root",
    what: `What all subjects begin with, default ${Defaults.root}`
  }),
  file("nats-ca", { key: "nats.ca", what: "The authority of the NATS servers, for TLS" }),
  file("nats-cert", { key: "nats.cert", what: "The certificate of a node, for TLS" }),
  file("nats-key", { key: "nats.key", what: "Its private key" })
]

/** NATS is given in part. */
export class InvalidNats extends Data.TaggedError("InvalidNats")<{ readonly reason: string }> {
  override get message(): string {
    return this.reason
  }
}

/** The options of the connection; `undefined` without NATS. */
const optionsOf = (given: NatsGiven) => {
  const { ca, cert, credentials, key, password, root, servers, token, user } = given
  const list = servers === undefined ? [] : [servers].flat().flatMap((one) => one.split(","))
  if (list.length === 0) {
    throw new InvalidNats({
      reason: `There is no server of NATS. Give --nats, REALTIME_NATS or "nats": { "servers": [...] }.`
    })
  }
  const tls = {
    ...(ca === undefined ? {} : { caFile: ca }),
    ...(cert === undefined ? {} : { certFile: cert }),
    ...(key === undefined ? {} : { keyFile: key })
  }
  return {
    servers: list,
    user,
    password,
    token,
    credentialsFile: credentials,
    root,
    // PostgreSQL alone serves while NATS is away.
    startWithout: true,
    ...(Object.keys(tls).length === 0 ? {} : { tls })
  }
}

const natsPackage = "@nats-io/transport-node"

/** Ends the command with the line that brings the package of NATS, where it is missing. */
const requirePackage = Stdio.Stdio.use(({ args }) =>
  Effect.flatMap(args, (given) =>
    missingOf([natsPackage]).length === 0
      ? Effect.void
      : Effect.fail(
          new CommandFailed({
            message: `Nodes are joined over NATS with a package of its own.\n${missingText([natsPackage], given)}`,
            code: exitCodes.peers
          })
        )
  )
)

/** What joins nodes over NATS, and what connects a guest. Fails with `InvalidNats`. */
export const overNats = Effect.fnUntraced(function* (given: NatsGiven) {
  yield* requirePackage
  const options = yield* Effect.try({
    try: () => optionsOf(given),
    catch: (error) => error as InvalidNats
  })
  const [{ nodes }, NatsConnection, carrier] = yield* Effect.promise(() =>
    Promise.all([
      import("../../nats/Nats.ts"),
      import("../../nats/NatsConnection.ts"),
      import("../../nats/internal/natsCarrier.ts")
    ])
  )
  return {
    /** Throws `InvalidOption`. */
    nodes: (bus: BusOptions) => nodes({ ...options, bus }),
    carrier,
    connect: (more: { readonly startWithout: boolean }) =>
      NatsConnection.make({ ...options, ...more })
  }
})
