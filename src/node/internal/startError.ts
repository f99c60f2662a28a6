/** Why a server did not start, and whether a retry may succeed. */
import type { SqlError } from "effect/sql/SqlError"
import type { NoControl } from "../../server/internal/control/controlErrors.ts"
import type { NoOutbox, NoSource } from "../../server/internal/hub/errors.ts"
import type { InvalidOption } from "../../server/internal/options.ts"
import type { ChannelConflict } from "../../server/internal/session/registry.ts"
import type * as Nodes from "../../server/Nodes.ts"
import type * as Realtime from "../../server/Realtime.ts"
import type * as PgNodeBus from "../../server/PgNodeBus.ts"
import type * as PgNotificationSource from "../../server/PgNotificationSource.ts"

export type StartError =
  | Nodes.StartError
  | PgNodeBus.StartError
  | Realtime.StartError
  | PgNotificationSource.StartError
  | ChannelConflict
  | InvalidOption
  | NoControl
  | NoOutbox
  | NoSource
  | SqlError

/**
 * Whether the failure may end while the process runs: an operator repairs the database, its roles, its
 * certificate, the pooler or NATS.
 */
export const mayPass = ({ _tag }: StartError): boolean =>
  _tag.startsWith("Nats") ||
  _tag === "DatabaseRefused" ||
  _tag === "ListenNotDelivered" ||
  _tag === "BusForbidden" ||
  _tag === "NotInstalled" ||
  _tag === "OutdatedInstall"
