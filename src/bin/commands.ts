/** The commands, in the order of the help. */
import { natsCommand } from "./commands/nats.ts"
import { serveCommand } from "./commands/serve.ts"
import { sqlCommand } from "./commands/sql.ts"

export const commands = [serveCommand, sqlCommand, natsCommand] as const
