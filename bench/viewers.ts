/**
 * Sockets that watch a table, each through one filter or several, and count the events that arrive.
 */
import { WebSocket } from "ws"
import { serve } from "./lib/ipc.ts"
import { silenceMillis } from "./lib/silence.ts"
import type { ViewersApi } from "./lib/types.ts"

interface Frame {
  readonly type: string
  readonly code?: string
  readonly more?: boolean
  readonly rows?: ReadonlyArray<unknown>
}

/** The channel of the table of `server/subjects/realtime.ts`. */
const channel = "table_updates_items"

/** Once in each event, and in no row. */
const mark = Buffer.from('"at":"')
const eventsStart = Buffer.from('{"type":"events"')

/** Events since the opening. */
let events = 0
/** The same of each socket. */
const sockets: Array<{ events: number }> = []
let onEvents = (): void => undefined
let lost: Error | undefined

const fail = (error: Error): void => {
  lost ??= error
  onEvents()
}

const count = (data: Buffer, socket: { events: number }): void => {
  for (let at = data.indexOf(mark); at >= 0; at = data.indexOf(mark, at + 1)) {
    events++
    socket.events++
  }
  onEvents()
}

/** Completes when the socket has subscribed to all filters, and has all rows of their states. */
const enter = (
  port: number,
  name: string,
  filters: ReadonlyArray<number | undefined>,
  state: boolean
): Promise<number> =>
  new Promise((resolve, reject) => {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/realtime`, ["effect-realtime.v1"])
    const socket = { events: 0 }
    sockets.push(socket)
    let left = filters.length
    let rows = 0
    const done = () => {
      left--
      if (left === 0) resolve(rows)
    }
    ws.once("error", reject)
    ws.once("close", (code) => {
      const error = new Error(`closed with ${code}`)
      reject(error)
      fail(error)
    })
    ws.once("open", () => ws.send(JSON.stringify({ type: "hello", version: 1, token: name })))
    ws.on("message", (data: Buffer) => {
      // Other frames may follow in the same message.
      const isEvents = data.subarray(0, eventsStart.length).equals(eventsStart)
      if (isEvents && !data.includes("\n")) return count(data, socket)
      for (const line of data.toString("utf8").split("\n")) {
        const frame = JSON.parse(line) as Frame
        if (frame.type === "welcome") {
          for (const [id, kind] of filters.entries()) {
            const where = kind === undefined ? {} : { where: { kind } }
            ws.send(JSON.stringify({ type: "subscribe", id, channel, state, ...where }))
          }
        } else if (frame.type === "subscribed" && !state) done()
        else if (frame.type === "state") {
          rows += frame.rows!.length
          if (frame.more !== true) done()
        } else if (frame.type === "events") count(Buffer.from(line), socket)
        else if (frame.type === "ping") ws.send(`{"type":"pong"}`)
        else if (["error", "gap", "ended"].includes(frame.type)) {
          const error = new Error(line.slice(0, 200))
          reject(error)
          fail(error)
        }
      }
    })
  })

serve<ViewersApi>({
  enter: async ({ count, filters, first, port, state, subscriptions }) => {
    const rows = await Promise.all(
      Array.from({ length: count }, (_, n) => {
        const at = (first + n) * subscriptions
        const own = Array.from({ length: subscriptions }, (_, i) =>
          filters === 0 ? undefined : (at + i) % filters
        )
        return enter(port, `viewer_${first + n}`, own, state)
      })
    )
    return { rows: rows.reduce((sum, one) => sum + one, 0) }
  },
  arrive: ({ events: wanted }) =>
    new Promise((resolve, reject) => {
      let timer = setTimeout(() => undefined, 0)
      onEvents = () => {
        clearTimeout(timer)
        if (lost !== undefined) return reject(lost)
        if (events > wanted) return reject(new Error(`${events} events, where ${wanted} are`))
        if (events === wanted) return resolve()
        const silent = () => {
          const each = sockets.map(({ events }) => events)
          const [least, most] = [Math.min(...each), Math.max(...each)]
          const of = `${each.length} sockets with ${least} to ${most} each`
          reject(new Error(`${events} of ${wanted} events, and then silence: ${of}`))
        }
        timer = setTimeout(silent, silenceMillis)
      }
      onEvents()
    })
})
