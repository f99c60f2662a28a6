/**
 * Questions of a program that is no node: it asks all nodes for their stats, and does nothing that they ask.
 *
 * In: the bus of a guest. Out: the stats of the nodes that answered, and the names of the others.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { NodeBus } from "../../NodeBus.ts"
import { controlTopic, type NodeStats, type Stats } from "./control.ts"
import * as Questions from "./questions.ts"

/** Milliseconds until each node has sent a heartbeat, with the default times of a bus. */
const hearing = 1200

/** Milliseconds that nodes have for an answer. */
const within = 900

/** Joins the bus; the result asks the nodes each time it runs, for at most a second or two. */
export const statsAsked = (
  bus: NodeBus["Service"]
): Effect.Effect<Effect.Effect<Stats>, never, Scope.Scope> =>
  Effect.gen(function* () {
    // A guest has no sessions.
    const ask = yield* Questions.make(bus, controlTopic, () => Effect.succeed(null))
    const begun = yield* Clock.currentTimeMillis
    return Effect.gen(function* () {
      const left = begun + hearing - (yield* Clock.currentTimeMillis)
      if (left > 0) yield* Effect.sleep(left)
      const { answered, missing } = yield* ask({ act: "stats" }, within)
      return { answered: answered.map(({ answer }) => answer as NodeStats), missing }
    })
  })
