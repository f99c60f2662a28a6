/** Ends the sessions of a user on every node: each node revokes for itself. */
// #region revoke
import { Effect, Layer, Schema, Stream } from "effect"
import { Channel } from "effect-realtime"
import { Realtime, RealtimeServer } from "effect-realtime/server"

/** For the nodes only: it is not among the channels of the door. */
const SignOuts = Channel.make("sign_outs", Schema.String, { delivery: "durable" })

/** In the transaction that ends the session in your tables. */
export const signOut = (userId: string) => Realtime.publish(SignOuts, userId)

/** Runs on each node: `Revocations.pipe(Layer.provideMerge(door))`. */
export const Revocations = Realtime.events(SignOuts).pipe(
  Stream.runForEach((event) =>
    event._tag === "Event"
      ? RealtimeServer.RealtimeServer.use((server) => server.revoke(event.payload))
      : Effect.logWarning("A sign-out may have been missed: tokens end by themselves.")
  ),
  Effect.forkScoped,
  Layer.effectDiscard
)
// #endregion
