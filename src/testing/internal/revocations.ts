/**
 * The revocations of the database in memory, which every server of the system reads.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { defaultExpiry, type RevocationStore } from "../../server/internal/control/control.ts"
import type { RevocationRow } from "../../server/internal/control/revocationList.ts"

/** `check` fails while the database is away. */
export const make = (clock: Clock.Clock, check: Effect.Effect<void, Error>): RevocationStore => {
  const rows: Array<RevocationRow & { readonly expires: number }> = []
  const now = () => clock.currentTimeMillisUnsafe()
  return {
    read: (after) =>
      Effect.map(check, () =>
        rows.filter(({ expires, id }) => Number(id) > Number(after) && expires > now())
      ),
    add: (kind, name, expires) =>
      Effect.map(check, () => {
        const until = expires?.getTime() ?? now() + defaultExpiry
        rows.push({ id: String(rows.length + 1), kind, name, at: now(), expires: until })
      })
  }
}
