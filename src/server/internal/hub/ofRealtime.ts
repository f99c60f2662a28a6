/**
 * The hub of a `Realtime` service, for the door. The service and its copies carry it under an opaque
 * name.
 */
import type { Hub } from "./hub.ts"

export const hubOf = (realtime: { readonly "~effect-realtime/server/Realtime": unknown }): Hub =>
  realtime["~effect-realtime/server/Realtime"] as Hub
