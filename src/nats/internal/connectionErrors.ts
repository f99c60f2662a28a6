/** Why a node has no connection to NATS when it starts. Later it retries after every failure. */
import * as Schema from "effect/Schema"
import { errorText } from "../../internal/errorText.ts"

/**
 * No server of the list answered at the start. So it looks as well where a server asks for a certificate and
 * cuts the connection of a node without one before its reason has arrived: the message names both cures then.
 *
 * @category errors
 * @since 0.1.0
 */
export class NatsUnreachable extends Schema.TaggedError<NatsUnreachable>()("NatsUnreachable", {
  /** The addresses, without what they carry before an `@`. */
  servers: Schema.Array(Schema.String),
  cause: Schema.Defect()
}) {
  override get message(): string {
    const isCut =
      this.cause instanceof Error && "code" in this.cause && this.cause.code === "ECONNRESET"
    const certificate = isCut
      ? ", the options certFile and keyFile of tls if the server asks for a certificate"
      : ""
    return `No NATS server answers at ${this.servers.join(", ")}: ${errorText(this.cause)}. Check the option servers and the network${certificate}, or set startWithout to start before NATS does.`
  }
}

/**
 * A server rejected the user, the password, the token, the credentials or the certificate at the start, or the
 * node rejected the certificate of the server.
 *
 * @category errors
 * @since 0.1.0
 */
export class NatsRefused extends Schema.TaggedError<NatsRefused>()("NatsRefused", {
  /** The addresses, without what they carry before an `@`. */
  servers: Schema.Array(Schema.String),
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `NATS at ${this.servers.join(", ")} is rejected, or rejects this node: ${errorText(this.cause)}. Check the options user, password, token, credentialsFile and tls.`
  }
}

/**
 * The account of this node may not publish to a subject, or not subscribe to it.
 *
 * @category errors
 * @since 0.1.0
 */
export class NatsForbidden extends Schema.TaggedError<NatsForbidden>()("NatsForbidden", {
  operation: Schema.Literals(["publish", "subscribe"]),
  subject: Schema.String
}) {
  override get message(): string {
    const to = this.operation === "publish" ? "publish to" : "subscribe to"
    return `The account of this node in NATS may not ${to} the subject ${this.subject}. Grant what "npx effect-realtime nats" prints.`
  }
}

/**
 * What this node published to a subject did not return to it, and NATS named no missing permission.
 *
 * @category errors
 * @since 0.1.0
 */
export class NatsDeaf extends Schema.TaggedError<NatsDeaf>()("NatsDeaf", {
  subject: Schema.String,
  /** Milliseconds. */
  waited: Schema.Number
}) {
  override get message(): string {
    return `What this node publishes to the subject ${this.subject} of NATS did not return to it within ${this.waited} ms. Check the mappings and permissions of its account, and the network.`
  }
}
