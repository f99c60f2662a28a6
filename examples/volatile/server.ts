// #region server
import { Layer } from "effect"
import { HttpRouter } from "effect/http"
import { Realtime, RealtimeServer } from "effect-realtime/server"
import { typingIn } from "./channels.ts"

const Door = RealtimeServer.layer({ channels: [typingIn], authorize: RealtimeServer.allowAll })

export const App = HttpRouter.serve(Door).pipe(Layer.provide(Realtime.layerVolatile()))
// #endregion
