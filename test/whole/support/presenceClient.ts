/** A client in its own process that is a member of the presence channel, until it is killed. */
import { createRealtimeClient } from "effect-realtime/client"
import { setupOf } from "../../support/program.ts"
import { Room } from "./presenceChannels.ts"

export interface ClientSetup {
  readonly name: string
  readonly urls: ReadonlyArray<string>
}

const { name, urls } = setupOf<ClientSetup>()
const client = createRealtimeClient({
  url: urls,
  token: () => name,
  backoff: { initial: 100, cap: 500, resetAfter: 5000 }
})
const room = client.presence(Room)
room.subscribe(() => undefined)
await room.getSnapshot().update({ name, n: 0 })
process.send?.("present")
