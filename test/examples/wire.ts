/** A bare WebSocket that speaks the protocol, like a client in another language. */

interface Frame {
  readonly type: string
  readonly [key: string]: unknown
}

export interface Wire {
  readonly send: (frame: Frame) => void
  /** Waits for the first matching frame of the session. */
  readonly frame: (fits: (frame: Frame) => boolean, what: string) => Promise<Frame>
  /** All frames of one type of a channel so far. */
  readonly all: (type: string, channel: string) => ReadonlyArray<Frame>
  /** The data of all events of a channel so far. */
  readonly data: (channel: string) => ReadonlyArray<unknown>
  /** The same, once there are this many. */
  readonly received: (channel: string, count: number) => Promise<ReadonlyArray<unknown>>
  readonly subscribe: (channel: string, cursor?: string) => Promise<Frame>
  /** Subscribes to a table, and waits for its rows. */
  readonly rows: (channel: string, where?: object) => Promise<ReadonlyArray<unknown>>
  readonly close: () => void
}

const patience = 10_000

export const openWire = async (url: string): Promise<Wire> => {
  const socket = new WebSocket(`${url.replace(/^http/, "ws")}/realtime`, "effect-realtime.v1")
  const frames: Array<Frame> = []
  const looking = new Set<() => void>()
  let id = 0
  socket.addEventListener("message", ({ data }: MessageEvent<string>) => {
    for (const line of data.split("\n")) frames.push(JSON.parse(line) as Frame)
    for (const look of looking) look()
  })
  const send = (frame: Frame) => socket.send(JSON.stringify(frame))
  const frame: Wire["frame"] = (fits, what) =>
    new Promise((resolve, reject) => {
      const look = () => {
        const found = frames.find(fits)
        if (found === undefined) return
        clearTimeout(timer)
        looking.delete(look)
        resolve(found)
      }
      const timer = setTimeout(() => {
        looking.delete(look)
        const came = frames.map((frame) => JSON.stringify(frame).slice(0, 300))
        reject(new Error(`${what} did not come; frames:\n${came.join("\n")}`))
      }, patience)
      looking.add(look)
      look()
    })
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve)
    socket.addEventListener("error", () => reject(new Error(`no WebSocket at ${url}`)))
  })
  send({ type: "hello", version: 1 })
  await frame(({ type }) => type === "welcome", "welcome")
  const all: Wire["all"] = (type, channel) =>
    frames.filter((frame) => frame.type === type && frame["channel"] === channel)
  const data: Wire["data"] = (channel) =>
    all("events", channel)
      .flatMap((frame) => frame["events"] as ReadonlyArray<{ readonly data: unknown }>)
      .map(({ data }) => data)
  const subscribe = (channel: string, more: object) => {
    id += 1
    const mine = id
    send({ type: "subscribe", id: mine, channel, ...more })
    return frame(({ id, type }) => type === "subscribed" && id === mine, `subscribed to ${channel}`)
  }
  return {
    send,
    frame,
    all,
    data,
    received: (channel, count) =>
      frame(() => data(channel).length >= count, `event ${count} on ${channel}`).then(() =>
        data(channel)
      ),
    subscribe: (channel, cursor) => subscribe(channel, cursor === undefined ? {} : { cursor }),
    rows: async (channel, where) => {
      await subscribe(channel, where === undefined ? { state: true } : { state: true, where })
      await frame(({ more, type }) => type === "state" && more === false, `rows of ${channel}`)
      return all("state", channel).flatMap(({ rows }) => rows as ReadonlyArray<unknown>)
    },
    close: () => socket.close()
  }
}
