/** Why a node has no bus. */
import * as Schema from "effect/Schema"

/**
 * The role of the node may not read the secret of the bus.
 *
 * @category errors
 * @since 0.1.0
 */
export class BusForbidden extends Schema.TaggedError<BusForbidden>()("BusForbidden", {
  /** The schema of the objects, default `realtime`. */
  schema: Schema.String
}) {
  override get message(): string {
    return `The role of this node may not read ${this.schema}.bus_secrets, so it has no bus to other nodes. Install again with the option roles.node, and grant that role to the role of the node.`
  }
}

/**
 * The node listens to nothing, so it cannot have a bus over PostgreSQL.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoBus extends Schema.TaggedError<NoBus>()("NoBus", {}) {
  override get message(): string {
    return `This node has no bus to other nodes: it listens to nothing, as behind a transaction pooler. Provide PgNotificationSource.layer({ listenUrl }) with a direct address beneath it, or a listenUrl to the class.`
  }
}
