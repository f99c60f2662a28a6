/** The hub of a `Realtime`, for the door: the service carries it under an opaque name, and so do its copies. */
import type { Hub } from "./hub.ts"

export const hubOf = (realtime: { readonly "~effect-realtime/server/Realtime": unknown }): Hub =>
  realtime["~effect-realtime/server/Realtime"] as Hub
