/** The commands, in the order of the help. */
import { natsCommand } from "./commands/nats.ts"
import { sqlCommand } from "./commands/sql.ts"

export const commands = [sqlCommand, natsCommand] as const
