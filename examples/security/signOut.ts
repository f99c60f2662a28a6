/** Ends the sessions of a user on every node. Each node revokes its own sessions. */
// #region revoke
import { Effect, Layer, Schema, Stream } from "effect"
import { Channel } from "effect-realtime"
import { Realtime, RealtimeServer } from "effect-realtime/server"

/** For the nodes only, so the door does not serve it. */
const SignOuts = Channel.make("sign_outs", Schema.String, { delivery: "durable" })

/** Call it in the transaction that ends the session in your tables. */
export const signOut = (userId: string) => Realtime.publish(SignOuts, userId)

/** Run it on each node: `Revocations.pipe(Layer.provideMerge(door))`. */
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
