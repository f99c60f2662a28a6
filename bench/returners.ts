/**
 * Clients that cost the server much at once: a crowd that resumes with the same events to replay,
 * and sessions that open new channels as fast as they may.
 *
 * They do what a client should: a rejected client retries after its retryAfter.
 */
import { WebSocket } from "ws"
import { serve } from "./lib/ipc.ts"
import { silenceMillis } from "./lib/silence.ts"
import type { ReturnersApi } from "./lib/types.ts"

interface Frame {
  readonly type: string
  readonly id?: number
  readonly state?: string
  readonly cursor?: string
  readonly code?: string
  readonly retryAfter?: number
}

/** Each client has an identity of its own: one identity may have few sessions. */
const enter = (port: number, name: string): Promise<WebSocket> =>
  new Promise((resolve, reject) => {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/realtime`, ["effect-realtime.v1"])
    ws.once("error", reject)
    ws.once("open", () => {
      ws.send(JSON.stringify({ type: "hello", version: 1, token: name }))
      ws.once("message", () => resolve(ws))
    })
  })

const ask = (ws: WebSocket, frame: object): void => {
  if (ws.readyState === WebSocket.OPEN) ws.send(JSON.stringify(frame))
}

const eventsStart = Buffer.from('{"type":"events"')
/** Once in each event, and in no payload here. */
const mark = Buffer.from('"at":"')

const eventsOf = (frame: Buffer): number => {
  let count = 0
  for (let at = frame.indexOf(mark); at >= 0; at = frame.indexOf(mark, at + 1)) count++
  return count
}

const isEvents = (data: Buffer): boolean => data.subarray(0, eventsStart.length).equals(eventsStart)

/** A client that resumes; completes when it has exactly this many events. */
const resume = (
  ws: WebSocket,
  request: { readonly channel: string; readonly cursor: string },
  events: number,
  refused: Record<string, number>
): Promise<void> =>
  new Promise((resolve, reject) => {
    let id = 0
    let count = 0
    const subscribe = () => ask(ws, { type: "subscribe", id: ++id, ...request })
    let timer = setTimeout(() => undefined, 0)
    const alive = () => {
      clearTimeout(timer)
      const silent = () => reject(new Error(`${count} of ${events} events, and then silence`))
      timer = setTimeout(silent, 2 * silenceMillis)
    }
    alive()
    ws.once("close", (code) => reject(new Error(`closed with ${code} after ${count} events`)))
    ws.on("message", (data: Buffer) => {
      alive()
      if (isEvents(data)) {
        count += eventsOf(data)
        if (count > events) reject(new Error(`${count} events, where ${events} are`))
        if (count < events) return
        clearTimeout(timer)
        return resolve()
      }
      const frame = JSON.parse(data.toString("utf8")) as Frame
      if (frame.type === "error") {
        refused[frame.code!] = (refused[frame.code!] ?? 0) + 1
        return void setTimeout(subscribe, frame.retryAfter ?? 1000)
      }
      if (frame.type === "ping") return ask(ws, { type: "pong" })
      if (frame.type === "gap" || frame.type === "ended" || frame.state === "reset") {
        return reject(new Error(`lost: ${data.toString("utf8").slice(0, 200)}`))
      }
    })
    subscribe()
  })

/** Opens new channels at a rate, and leaves the oldest beyond 50. */
const openMany = (
  ws: WebSocket,
  name: string,
  perSecond: number,
  millis: number,
  answers: Record<string, number>
): Promise<void> =>
  new Promise((resolve, reject) => {
    let id = 0
    const held: Array<string> = []
    const names = new Map<number, string>()
    ws.once("close", (code) => reject(new Error(`closed with ${code}`)))
    ws.on("message", (data: Buffer) => {
      const frame = JSON.parse(data.toString("utf8")) as Frame
      if (frame.type === "ping") return ask(ws, { type: "pong" })
      if (frame.type !== "subscribed" && frame.type !== "error") return
      const what = frame.code ?? frame.type
      answers[what] = (answers[what] ?? 0) + 1
      if (frame.type === "subscribed") held.push(names.get(frame.id!)!)
      names.delete(frame.id!)
    })
    const begun = performance.now()
    const next = () => {
      const elapsed = performance.now() - begun
      if (elapsed >= millis) return resolve()
      // As many subscribes wait as a session may have unanswered, and no more.
      if (names.size < 50) {
        const channel = `live_${name}_${++id}`
        names.set(id, channel)
        ask(ws, { type: "subscribe", id, channel })
      }
      if (held.length > 40) ask(ws, { type: "unsubscribe", id: ++id, channel: held.shift() })
      setTimeout(next, 1000 / perSecond)
    }
    next()
  })

let waiting: Array<WebSocket> = []
let visits = 0

const enterAll = async (port: number, clients: number): Promise<void> => {
  visits++
  waiting = await Promise.all(
    Array.from({ length: clients }, (_, n) => enter(port, `client_${visits}_${n}`))
  )
}

const leaveAll = (): void => {
  for (const ws of waiting) {
    ws.removeAllListeners("close")
    ws.terminate()
  }
  waiting = []
}

serve<ReturnersApi>({
  enter: ({ clients, port }) => enterAll(port, clients),
  cursor: ({ channel }) =>
    new Promise((resolve) => {
      const ws = waiting[0]!
      ws.on("message", (data: Buffer) => {
        const frame = JSON.parse(data.toString("utf8")) as Frame
        if (frame.type === "subscribed") {
          ws.removeAllListeners("message")
          ask(ws, { type: "unsubscribe", id: 2, channel })
          resolve({ cursor: frame.cursor! })
        }
      })
      ask(ws, { type: "subscribe", id: 1, channel })
    }),
  resume: async ({ channel, cursor, events }) => {
    const begun = performance.now()
    const refused: Record<string, number> = {}
    try {
      await Promise.all(waiting.map((ws) => resume(ws, { channel, cursor }, events, refused)))
    } finally {
      leaveAll()
    }
    return { millis: performance.now() - begun, answers: refused }
  },
  openChannels: async ({ millis, perSecond }) => {
    const answers: Record<string, number> = {}
    try {
      await Promise.all(
        waiting.map((ws, n) => openMany(ws, `${visits}_${n}`, perSecond, millis, answers))
      )
    } finally {
      leaveAll()
    }
    return { millis, answers }
  },
  leave: leaveAll
})
