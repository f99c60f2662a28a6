/**
 * The members of a presence channel as one value that is kept current.
 *
 * `RealtimeClient.presence` and `PlainClient.presence` give it, and `usePresence` of React shows it.
 *
 * @since 0.1.0
 */
export type { Member, Members, Own, Presence, Shown } from "../internal/presenceTypes.ts"
