/** Why a server has no control over all nodes, or could not use it. */
import * as Schema from "effect/Schema"
import { errorText } from "../../../internal/errorText.ts"

const cures = {
  NodeBus:
    "it has no bus to other nodes. Provide PgNodeBus.layer() beneath RealtimeServer.layer(), not merged beside it",
  "own NodeBus":
    "another server of this program already has control over its bus. Give each server a Realtime and a bus of its own, such as Layer.fresh(PgNodeBus.layer()): each is then a node",
  PgClient: "it has no database. Provide PgClient.layer(...) beneath RealtimeServer.layer()"
} as const

/**
 * The option `control` needs what this node does not have: a bus, one that no other server of the program
 * controls, or a database.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoControl extends Schema.TaggedError<NoControl>()("NoControl", {
  missing: Schema.Literals(["NodeBus", "own NodeBus", "PgClient"])
}) {
  override get message(): string {
    return `This server has the option control, but ${cures[this.missing]}. Without control: true, revoke and its kind reach this node only.`
  }
}

/**
 * The database did not take a revocation: nothing was closed, and nothing is refused.
 *
 * @category errors
 * @since 0.1.0
 */
export class RevokeFailed extends Schema.TaggedError<RevokeFailed>()("RevokeFailed", {
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `The revocation could not be stored, and closed no session: ${errorText(this.cause)}. Revoke again.`
  }
}
