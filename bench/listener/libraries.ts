/**
 * Client libraries as their users run them: one connection, one channel, one handler.
 *
 * Those of `bench/package.json` are there only after `npm run bench` installed them, so they are
 * found at run time, and only the used parts of them are described here.
 */
import * as Schema from "effect/Schema"
import * as Channel from "../../src/Channel.ts"
import { createRealtimeClient, type PlainClient } from "../../src/client/index.ts"
import { channelName } from "../lib/messages.ts"
import type { LibraryName } from "../lib/types.ts"

export interface Ears {
  readonly onEvent: (payload: unknown) => void
  /** Events may be missing, or none will arrive any more. */
  readonly onTrouble: (error: unknown) => void
}

/** Connects and subscribes; the connection ends with the process. */
export type Library = (port: number, ears: Ears) => Promise<void>

const load = async <Module>(name: string): Promise<Module> => (await import(name)) as Module

const channel = channelName(0)

/** See `messageText`. */
const Message = Schema.Struct({
  id: Schema.Finite,
  status: Schema.String,
  note: Schema.String
})

const realtime =
  (
    listen: (
      store: PlainClient.PlainClient,
      handler: PlainClient.Handler<unknown>,
      ...rest: Options
    ) => void
  ): Library =>
  async (port, { onEvent, onTrouble }) => {
    const store = createRealtimeClient({ url: `ws://127.0.0.1:${port}/realtime` })
    const ready = Promise.withResolvers<string>()
    const options = { onCursor: ready.resolve, onError: onTrouble, onGap: onTrouble }
    listen(store, onEvent, options)
    await ready.promise
  }

type Options = [Exclude<Parameters<PlainClient.PlainClient["listen"]>[2], undefined>]

interface SocketIo {
  readonly on: (event: string, listener: (payload: unknown) => void) => void
}

const socketIo: Library = async (port, { onEvent, onTrouble }) => {
  const { io } = await load<{
    readonly io: (url: string, options: { readonly transports: ReadonlyArray<string> }) => SocketIo
  }>("socket.io-client")
  const socket = io(`http://127.0.0.1:${port}`, { transports: ["websocket"] })
  socket.on("message", onEvent)
  socket.on("disconnect", onTrouble)
  await new Promise((resolve) => socket.on("connect", resolve))
}

interface Emitter {
  readonly on: (event: string, listener: (context: { readonly data: unknown }) => void) => void
}

interface Centrifuge extends Emitter {
  readonly newSubscription: (channel: string) => Emitter & { readonly subscribe: () => void }
  readonly connect: () => void
}

const centrifuge: Library = async (port, { onEvent, onTrouble }) => {
  const { Centrifuge } = await load<{
    readonly Centrifuge: new (url: string, options: { readonly websocket: unknown }) => Centrifuge
  }>("centrifuge")
  // As its README says for Node.
  const { WebSocket } = await import("ws")
  const client = new Centrifuge(`ws://127.0.0.1:${port}`, { websocket: WebSocket })
  const subscription = client.newSubscription(channel)
  subscription.on("publication", ({ data }) => onEvent(data))
  client.on("disconnected", onTrouble)
  client.on("error", onTrouble)
  const ready = new Promise((resolve) => subscription.on("subscribed", resolve))
  subscription.subscribe()
  client.connect()
  await ready
}

export const libraries: Readonly<Record<LibraryName, Library>> = {
  // Undecoded payloads, which is all that the others give.
  "effect-realtime": realtime((store, ...rest) => store.listen(channel, ...rest)),
  "effect-realtime-schema": realtime((store, ...rest) =>
    store.listen(Channel.make(channel, Message), ...rest)
  ),
  "socket.io-client": socketIo,
  centrifuge
}
