/**
 * What the class runs its calls with.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import type { OutboxReader } from "../../server/OutboxReader.ts"
import type { QueryResults } from "../../server/QueryResults.ts"
import type { Realtime } from "../../server/Realtime.ts"

export type ServerServices = QueryResults | Realtime | OutboxReader | PgClient
