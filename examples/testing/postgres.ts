// #region postgres
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { EmbeddedPostgres } from "effect-realtime/testing"

/** Prints the URL of its database, and runs until Ctrl-C. The data stays in ./data. */
EmbeddedPostgres.make({ dataDirectory: "data" }).pipe(
  Effect.tap(({ url }) => Console.log(`export DATABASE_URL=${url}`)),
  Effect.andThen(Effect.never),
  Effect.scoped,
  NodeRuntime.runMain
)
// #endregion
