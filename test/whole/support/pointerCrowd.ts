/**
 * Many bare clients in one process: each shows its pointer to the others of its room, is a member of the board,
 * and changes its state there once a second. A message to the process asks for its counts.
 */
import { WebSocket } from "ws"
import { setupOf } from "../../support/program.ts"

export interface CrowdSetup {
  readonly url: string
  readonly clients: number
  /** Clients that see each other's pointers. */
  readonly perRoom: number
  /** Pointers of each client in a second. */
  readonly rate: number
}

/** Since the start. */
export interface CrowdCounts {
  readonly sent: number
  readonly published: number
  readonly received: number
  readonly refused: number
}

const { clients, perRoom, rate, url } = setupOf<CrowdSetup>()
const counts = { sent: 0, published: 0, received: 0, refused: 0 }

const connect = (index: number): Promise<WebSocket> =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(url, ["effect-realtime.v1"])
    socket.once("error", reject)
    socket.once("close", (code) => reject(new Error(`closed with ${code}`)))
    const send = (frame: object) => socket.send(JSON.stringify(frame))
    let subscribed = 0
    socket.on("open", () => send({ type: "hello", version: 1 }))
    socket.on("message", (data: Buffer) => {
      for (const text of data.toString("utf8").split("\n")) {
        if (text.startsWith(`{"type":"events"`)) counts.received += text.split(`"data":`).length - 1
        else if (text.startsWith(`{"type":"published"`)) counts.published++
        else if (text.startsWith(`{"type":"error"`)) counts.refused++
        else if (text.startsWith(`{"type":"ping"`)) send({ type: "pong" })
        else if (text.startsWith(`{"type":"welcome"`)) {
          const room = Math.floor(index / perRoom)
          send({ type: "subscribe", id: 1, channel: `pointers_${room}` })
          send({ type: "subscribe", id: 2, channel: "board" })
        } else if (text.startsWith(`{"type":"subscribed"`)) {
          subscribed++
          if (subscribed === 2) resolve(socket)
        }
      }
    })
  })

const sockets = await Promise.all(Array.from({ length: clients }, (_, index) => connect(index)))
process.send?.("ready")

const begun = performance.now()
let rounds = 0
setInterval(() => {
  const due = ((performance.now() - begun) / 1000) * rate
  // A late timer sends what it missed, but not more than a session may.
  rounds = Math.max(rounds, Math.floor(due - rate))
  for (; rounds < due; rounds++) {
    for (const [index, socket] of sockets.entries()) {
      const channel = `pointers_${Math.floor(index / perRoom)}`
      const id = 10 + 2 * rounds
      const user = `user ${index}`
      socket.send(JSON.stringify({ type: "publish", id, channel, data: { user, x: rounds } }))
      counts.sent++
      if (rounds % rate !== index % rate) continue
      const member = { user: `${user}, ${rounds}` }
      socket.send(JSON.stringify({ type: "present", id: id + 1, channel: "board", member }))
    }
  }
}, 5)

process.on("message", () => process.send?.(counts satisfies CrowdCounts))
