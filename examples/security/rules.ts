/** A door with rules: only members write to a room, and the server writes their names. */
// #region rules
import { Effect } from "effect"
import { RealtimeServer } from "effect-realtime/server"
import { OrderUpdates } from "../channels.ts"
import { Room } from "./rooms.ts"

/** Your user, as your API finds it for a token. */
interface User {
  readonly id: string
  readonly name: string
  readonly rooms: ReadonlyArray<string>
}

export const door = (find: (token: string) => Effect.Effect<User | undefined>) =>
  RealtimeServer.layer({
    channels: [OrderUpdates, Room],
    authenticate: ({ token = "" }) =>
      Effect.flatMap(find(token), (user) =>
        user === undefined
          ? Effect.fail(new RealtimeServer.AuthRefused({ code: "auth/invalid" }))
          : Effect.succeed({ identity: user })
      ),
    identityKey: ({ id }) => id,
    rules: ({ onPublish, onSubscribe }) => [
      onSubscribe(OrderUpdates, () => true),
      // `params` is what follows "room_".
      onSubscribe(Room, ({ identity, params }) => identity.rooms.includes(params)),
      onPublish(Room, ({ identity, params, payload }) =>
        identity.rooms.includes(params)
          ? { ...payload, sender: identity.name }
          : new RealtimeServer.RuleRefused({ message: "Join the room before you write." })
      )
    ]
  })
// #endregion
