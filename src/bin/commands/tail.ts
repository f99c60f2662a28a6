/** `tail` prints the events of a channel as they arrive: its flags. */
import * as Effect from "effect/Effect"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { channelArgument, deliveryFlag } from "../shared/channels.ts"
import { definitionsFlag } from "../shared/definitions.ts"
import { pathFlag } from "../shared/pathFlag.ts"
import { databaseFlag, listenFlag, schemaFlag, switchFlag } from "../shared/flags.ts"

/** The part with the hub, which the help of all commands does not wait for. */
const load = () => import("./tail/follow.ts")

export const tailCommand = Command.make(
  "tail",
  {
    channel: channelArgument,
    from: Flag.String("from").pipe(
      Flag.withMetavar("<cursor|oldest>"),
      Flag.withDescription(
        "Begin after this cursor of a durable channel, or with the oldest event that is kept (default: now)"
      ),
      Flag.optional
    ),
    cursorFile: pathFlag("cursor-file").pipe(
      Flag.withMetavar("<path>"),
      Flag.withDescription("Keep the cursor in this file, and go on from there the next time"),
      Flag.optional
    ),
    limit: Flag.Int("limit").pipe(
      Flag.withMetavar("<n>"),
      Flag.withDescription("End after so many events and gaps"),
      Flag.filter(
        (count) => count > 0,
        () => "a whole number from 1 on"
      ),
      Flag.optional
    ),
    json: switchFlag("json", "Print a line of JSON for each event, gap and position"),
    delivery: deliveryFlag,
    definitions: definitionsFlag,
    schema: schemaFlag,
    database: databaseFlag,
    listen: listenFlag
  },
  (given) => Effect.flatMap(Effect.promise(load), ({ follow }) => follow(given))
).pipe(
  Command.withDescription(
    "Print the events of a channel as they arrive, until Ctrl-C. A gap is a line of its own. Of a durable channel each position has a cursor, with which another run goes on."
  ),
  Command.withShortDescription("Print the events of a channel as they arrive"),
  Command.withExamples([
    { command: "effect-realtime tail table_updates_orders" },
    {
      command:
        "effect-realtime tail table_updates_orders --json --cursor-file orders.cursor | work",
      description: "Each event once, also across restarts"
    }
  ])
)
