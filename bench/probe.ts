/**
 * The time from a commit to a socket: publishes now and then, and compares the arrival at its own
 * socket with the moment when the database answered the commit.
 */
import { WebSocket } from "ws"
import { serve } from "./lib/ipc.ts"
import { channelName, messageText } from "./lib/messages.ts"
import { PgWire } from "./lib/PgWire.ts"
import type { ProbeApi } from "./lib/types.ts"
import { silenceMillis } from "./lib/silence.ts"

const bytes = 200

let publisher: PgWire | undefined
let elsewhere: PgWire | undefined
let socket: WebSocket | undefined
/** Messages published so far: the number of the next one. */
let next = 0
const arrivals = new Map<number, number>()
/** Events of other channels that have arrived. */
let others = 0
let onArrival: (() => void) | undefined

interface Frame {
  readonly type: string
  readonly channel: string
  readonly events?: ReadonlyArray<{ readonly data: { readonly id: number } }>
}

const micros = (): number => Number(process.hrtime.bigint() / 1000n)

const enter = (port: number, channels: ReadonlyArray<string>): Promise<WebSocket> =>
  new Promise((resolve, reject) => {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/realtime`, ["effect-realtime.v1"])
    const probed = `{"type":"events","channel":"${channelName(0)}"`
    let answers = 0
    ws.on("open", () => {
      ws.send(JSON.stringify({ type: "hello", version: 1, token: "probe" }))
      channels.forEach((channel, id) => ws.send(JSON.stringify({ type: "subscribe", id, channel })))
    })
    ws.on("error", reject)
    ws.on("message", (data: Buffer) => {
      const at = micros()
      for (const line of data.toString("utf8").split("\n")) {
        if (line.startsWith(probed)) {
          for (const event of (JSON.parse(line) as Frame).events ?? []) {
            arrivals.set(event.data.id, at)
          }
          onArrival?.()
          continue
        }
        const { events, type } = JSON.parse(line) as Frame
        if (type === "events") {
          others += events?.length ?? 0
          onArrival?.()
        }
        if (type === "subscribed" && ++answers === channels.length) resolve(ws)
        if (type === "error" || type === "gap") reject(new Error(`not let in: ${line}`))
        if (type === "ping") ws.send(`{"type":"pong"}`)
      }
    })
  })

/** Completes when this many have arrived. */
const arrived = (count: number, present: () => number): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`${present()} of ${count} messages arrived`)),
      silenceMillis
    )
    onArrival = () => {
      if (present() < count) return
      clearTimeout(timer)
      onArrival = undefined
      if (present() === count) resolve()
      else reject(new Error(`${present()} messages arrived, ${count} were published`))
    }
    onArrival()
  })

serve<ProbeApi>({
  open: async ({ channels, databaseUrl, port }) => {
    publisher = await PgWire.connect(databaseUrl)
    elsewhere = await PgWire.connect(databaseUrl)
    socket = await enter(port, channels)
  },
  run: async ({ hold, millis, perSecond }) => {
    const first = next
    const committed: Array<number> = []
    if (hold) await elsewhere!.query("begin; select pg_current_xact_id()")
    const until = performance.now() + millis
    let due = performance.now()
    while (performance.now() < until) {
      const text = messageText(0, next, bytes)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await publisher!.query(`select realtime.publish('${channelName(0)}', '${text}'::text)`)
      committed.push(micros())
      next++
      // Out of step with everything: with the timers of the reader and with the wakes of the database.
      const pause =
        perSecond === undefined
          ? 7 + ((next * 7919) % 13)
          : (due -= (Math.log(1 - Math.random()) * 1000) / perSecond) - performance.now()
      // oxlint-disable-next-line no-await-in-loop -- that is the point
      await new Promise((resolve) => setTimeout(resolve, pause))
    }
    await arrived(next, () => arrivals.size)
    if (hold) await elsewhere!.query("commit")
    // The answer to the commit and the event travel at the same time, in any order.
    return {
      latencies: committed.map((at, index) => Math.max(0, arrivals.get(first + index)! - at))
    }
  },
  arrive: ({ events }) => arrived(events, () => others),
  close: () => {
    socket?.terminate()
    publisher?.close()
    elsewhere?.close()
    next = 0
    arrivals.clear()
    others = 0
  }
})
