/**
 * The other end of a client library: sends what the library's own server would send, at a pace. It
 * is not measured.
 */
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { type WebSocket, WebSocketServer } from "ws"
import { inTurn } from "../lib/inTurn.ts"
import { serve } from "../lib/ipc.ts"
import { messageText } from "../lib/messages.ts"
import type { FeederApi, LibraryName } from "../lib/types.ts"
import { wires } from "./wires.ts"

let server: WebSocketServer | undefined
let wire = wires["effect-realtime"]
let socket: WebSocket | undefined

const admit = (newcomer: WebSocket): void => {
  socket = newcomer
  if (wire.greeting !== undefined) newcomer.send(wire.greeting)
  newcomer.on("message", (data) => {
    // A library may send several messages at once.
    for (const line of String(data).split("\n")) {
      const answer = wire.answer(line)
      if (answer !== undefined) newcomer.send(answer)
    }
  })
}

const open = async (library: LibraryName): Promise<number> => {
  wire = wires[library]
  server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: false })
  server.on("connection", admit)
  await once(server, "listening")
  return (server.address() as AddressInfo).port
}

/** The most bytes that wait for the library: more would only fill memory. */
const backlog = 4 * 1024 * 1024

/** Waits until a time is reached and the library has kept up. */
const ready = async (due: number): Promise<void> => {
  // A timer has whole milliseconds, and is late anyway: events due by then are sent at once.
  if (due - performance.now() <= 1 && socket!.bufferedAmount <= backlog) return
  await new Promise((resolve) => setTimeout(resolve, 1))
  return ready(due)
}

serve<FeederApi>({
  open: async ({ library }) => ({ port: await open(library) }),
  feed: async ({ bytes, count, from, perSecond, together }) => {
    const begun = performance.now()
    const turns = Array.from({ length: Math.ceil(count / together) }, (_, turn) => turn * together)
    await inTurn(turns, async (sent) => {
      await ready(begun + (sent * 1000) / perSecond)
      const events = Array.from({ length: Math.min(together, count - sent) }, (_, index) =>
        messageText(0, from + sent + index, bytes)
      )
      for (const message of wire.write(events, from + sent)) socket!.send(message)
    })
  }
})
