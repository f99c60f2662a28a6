/** The commands, in the order of the help. */
import { natsCommand } from "./commands/nats.ts"
import { publishCommand } from "./commands/publish.ts"
import { serveCommand } from "./commands/serve.ts"
import { sqlCommand } from "./commands/sql.ts"
import { tailCommand } from "./commands/tail.ts"

export const commands = [
  serveCommand,
  sqlCommand,
  publishCommand,
  tailCommand,
  natsCommand
] as const
