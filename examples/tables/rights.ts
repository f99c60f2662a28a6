// #region rights
import type { RealtimeServer } from "effect-realtime/server"
import { Messages, Tickets } from "./tables.ts"

/** Your user, as `authenticate` returns it. */
export interface User {
  readonly isAdmin: boolean
  readonly teams: ReadonlyArray<string>
  readonly rooms: ReadonlyArray<string>
}

/** `RealtimeServer.layer({ channels: [Tickets, Messages], rules, authenticate, identityKey })` */
export const rules = ({ onSubscribe }: RealtimeServer.RuleMaker<User>) => [
  onSubscribe(Tickets, ({ identity }) => identity.isAdmin || { where: { team: identity.teams } }),
  onSubscribe(Messages, ({ identity, params: room }) => identity.rooms.includes(room))
]
// #endregion
