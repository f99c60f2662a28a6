/**
 * The feed of the nodes of a measurement.
 */
import { Layer } from "effect"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as NatsFeed from "../../src/nats/NatsFeed.ts"

/** One node reads for all, over the NATS server of this port. */
export const feedOver = (port: number) =>
  NatsFeed.layer.pipe(Layer.provide(NatsConnection.layer({ servers: [`127.0.0.1:${port}`] })))
