/**
 * A cluster of server processes for a test: PostgreSQL, NATS where it is wanted, and nodes behind proxies. It
 * knows no client and no fault.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, type Layer, Redacted, Schedule } from "effect"
import { PgInstaller } from "effect-realtime/server"
import type { SqlError } from "effect/sql/SqlError"
import type { EmbeddedPostgres } from "effect-realtime/testing"
import { ownServer } from "../../support/cluster.ts"
import { execute } from "../../support/database.ts"
import { type NatsServer, natsServer } from "../../support/natsServer.ts"
import { type ClusterNode, clusterNode } from "./clusterNode.ts"
import { createParts, Parts } from "./pairs.ts"

export interface World {
  readonly postgres: EmbeddedPostgres.EmbeddedPostgres
  readonly nats: NatsServer | undefined
  readonly nodes: ReadonlyArray<ClusterNode>
  /** The URLs of the nodes for a client: each begins with another node, and goes on to the next ones. */
  readonly urlsFor: (client: number) => ReadonlyArray<string>
  /** The pool of the load. */
  readonly layerPg: Layer.Layer<PgClient.PgClient, SqlError>
  /** Runs a statement on a connection of its own, over a crash of the server. */
  readonly query: (statement: string) => Effect.Effect<ReadonlyArray<Record<string, unknown>>>
}

const nodeCount = 3

export const world = (options: { readonly nats: boolean; readonly seed: number }) =>
  Effect.gen(function* () {
    const [postgres, nats] = yield* Effect.all(
      [ownServer(), options.nats ? natsServer() : Effect.succeed(undefined)],
      { concurrency: 2 }
    )
    const { socketDirectory, url } = postgres
    const layerPg = PgClient.layer({ url: Redacted.make(url), maxConnections: 8 })
    yield* execute(url, createParts)
    yield* Effect.andThen(PgInstaller.install(), PgInstaller.watch({ channel: Parts })).pipe(
      Effect.provide(layerPg)
    )
    const nodes = yield* Effect.forEach(
      Array.from({ length: nodeCount }, (_, index) => index + 1),
      (index) =>
        clusterNode({
          name: `node ${index}`,
          seed: options.seed + index,
          databaseUrl: url,
          socketDirectory,
          natsPort: nats?.port
        }),
      { concurrency: "unbounded" }
    )
    const urls = nodes.map(({ toNode }) => `ws://127.0.0.1:${toNode.port}/realtime`)
    const query = (statement: string) =>
      execute(url, statement).pipe(
        Effect.retry(Schedule.upTo(Schedule.spaced(100), { times: 100 })),
        Effect.orDie
      ) as Effect.Effect<ReadonlyArray<Record<string, unknown>>>
    return {
      postgres,
      nats,
      nodes,
      urlsFor: (client) => {
        const first = client % urls.length
        return [...urls.slice(first), ...urls.slice(0, first)]
      },
      layerPg,
      query
    } satisfies World as World
  })
