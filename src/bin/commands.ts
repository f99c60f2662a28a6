/** The commands, in the order of the help. */
import { doctorCommand } from "./commands/doctor.ts"
import { natsCommand } from "./commands/nats.ts"
import { publishCommand } from "./commands/publish.ts"
import { serveCommand } from "./commands/serve.ts"
import { sqlCommand } from "./commands/sql.ts"
import { statusCommand } from "./commands/status.ts"
import { tailCommand } from "./commands/tail.ts"

export const commands = [
  serveCommand,
  sqlCommand,
  publishCommand,
  tailCommand,
  doctorCommand,
  statusCommand,
  natsCommand
] as const
