/** Why a server did not start, and whether a retry may succeed. */
import type { SqlError } from "effect/sql/SqlError"
import type { NoOutbox, NoSource } from "../../server/internal/hub/errors.ts"
import type { InvalidOption } from "../../server/internal/options.ts"
import type { ChannelConflict } from "../../server/internal/session/registry.ts"
import type * as PgNotificationSource from "../../server/PgNotificationSource.ts"

export type StartError =
  | PgNotificationSource.StartError
  | ChannelConflict
  | InvalidOption
  | NoOutbox
  | NoSource
  | SqlError

/**
 * Whether the failure may end while the process runs: an operator repairs the database, its roles, its
 * certificate or the pooler.
 */
export const mayPass = ({ _tag }: StartError): boolean =>
  _tag === "DatabaseRefused" || _tag === "ListenNotDelivered"
