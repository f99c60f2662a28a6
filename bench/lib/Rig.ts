/**
 * One subject with its audience: a server process, client processes that are connected to it, and a
 * notifier where the messages come from a database.
 */
import { type Child, start } from "./child.ts"
import type {
  Arrival,
  ClientApi,
  Cpu,
  DialectName,
  Memory,
  NotifierApi,
  Pace,
  Recovery,
  ServerApi,
  Setup,
  SubjectName
} from "./types.ts"

const dialectOf: Readonly<Record<SubjectName, DialectName>> = {
  "effect-realtime": "realtime",
  "effect-realtime-seen": "realtime",
  "effect-realtime-route": "realtime",
  "effect-realtime-durable": "realtime",
  "effect-realtime-both": "realtime",
  "effect-realtime-table": "realtime",
  ws: "plain",
  floor: "plain",
  "ws+pg-listen": "plain",
  "socket.io": "socket.io",
  "effect-rpc": "rpc",
  "effect-stream": "plain",
  "nats-server": "nats",
  mosquitto: "mqtt"
}

/** More sockets than this are spread over two client processes. */
const socketsPerProcess = 5000

/** The results of a window of a subject. */
export interface Sample extends Cpu {
  /** Messages that reached a socket, all sockets together. */
  readonly deliveries: number
  /** Bytes on the wire and the WebSocket messages that carried them, all sockets together. */
  readonly bytes: number
  readonly frames: number
  readonly seconds: number
  /** Microseconds from the NOTIFY to each socket; empty unless the rig is timed. */
  readonly latencies: ReadonlyArray<number>
}

export interface Window {
  readonly pace: Pace
  /** Messages at most, all channels together. */
  readonly messages: number
  /** How long a pace without a rate lasts. */
  readonly millis: number
}

export interface RigOptions extends Setup {
  /** Whether windows go as fast as the clients read. */
  readonly flow?: boolean
  /** Whether the time of every arrival is kept. */
  readonly timed?: boolean
  /** How the paths of CPU profiles begin. */
  readonly profile?: string | undefined
}

export class Rig implements AsyncDisposable {
  #options: RigOptions
  readonly #server: Child<ServerApi>
  readonly #clients: ReadonlyArray<Child<ClientApi>>
  #notifier: Child<NotifierApi> | undefined
  /** Messages published so far, all channels together. */
  #sent = 0
  /** Rejects when a client fails. */
  #broken: Promise<never> = new Promise(() => undefined)

  /** Starts the processes, without connecting clients. */
  constructor(options: RigOptions) {
    const processes = Math.ceil(options.audience.sockets / socketsPerProcess)
    this.#options = options
    this.#server = start<ServerApi>("server/main.ts")
    this.#clients = Array.from({ length: processes }, () => start<ClientApi>("client/main.ts"))
  }

  /** Opens the server; returns its port. */
  async open(): Promise<number> {
    const { audience, databaseUrl, subject } = this.#options
    if (databaseUrl !== undefined) {
      this.#notifier = start<NotifierApi>("notifier.ts")
      await this.#notifier.call("connect", { databaseUrl })
    }
    const setup = { audience, subject, ...(databaseUrl === undefined ? {} : { databaseUrl }) }
    return (await this.#server.call("open", setup)).port
  }

  /** Connects every socket. */
  async join(port: number): Promise<void> {
    const { audience, flow = false, subject, timed = false } = this.#options
    const share = Math.ceil(audience.sockets / this.#clients.length)
    if (flow) this.#relayProgress()
    await this.#all((client, index) =>
      client.call("connect", {
        dialect: dialectOf[subject],
        port,
        audience,
        first: index * share,
        count: Math.min(share, audience.sockets - index * share),
        flow,
        timed
      })
    )
    this.#broken = Promise.race(this.#clients.map((client) => client.call("watch", {})))
    // The next window sees it, or none.
    this.#broken.catch(() => undefined)
  }

  /** Publishes, waits until every byte has arrived, and returns what that cost the server. */
  async window({ messages, millis, pace }: Window): Promise<Sample> {
    const { audience, profile, subject } = this.#options
    const path =
      profile === undefined ? {} : { profile: `${profile}-${subject}-${this.#sent}.cpuprofile` }
    const from = this.#sent
    await this.#server.call("prepare", { from, count: this.#notifier === undefined ? messages : 0 })
    await this.#server.call("start", path)
    const begun = performance.now()
    const times = await Promise.race([this.#publish(messages, millis, pace), this.#broken])
    const arrival = await this.#arrive()
    const cpu = await this.#server.call("stop", {})
    const seconds = (performance.now() - begun) / 1000
    await this.#all((client) => client.call("settle", {}))
    const deliveries = ((this.#sent - from) / audience.channels) * audience.sockets
    return { ...cpu, ...arrival, deliveries, seconds, latencies: await this.#latencies(times) }
  }

  /** Connects every socket, and returns what one of them cost the server, in microseconds. */
  async joinAtCost(port: number): Promise<number> {
    await this.#server.call("start", {})
    await this.join(port)
    const { system, user } = await this.#server.call("stop", {})
    return (user + system) / this.#options.audience.sockets
  }

  memory(): Promise<Memory> {
    return this.#server.call("memory", {})
  }

  /** Adds sockets that do not read until `recover`. */
  async stall(count: number): Promise<void> {
    await this.#clients[0]!.call("stall", { count, messages: this.#sent })
  }

  async recover(): Promise<Recovery> {
    return this.#clients[0]!.call("recover", { messages: this.#sent })
  }

  /** Reuses the processes: closes all sockets and the server, opens and connects again. */
  async reopen(options: RigOptions): Promise<void> {
    await this.#close()
    this.#options = options
    await this.join(await this.open())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#all((client) => client[Symbol.asyncDispose]())
    await this.#notifier?.[Symbol.asyncDispose]()
    await this.#server[Symbol.asyncDispose]()
  }

  async #close(): Promise<void> {
    await this.#all((client) => client.call("close", {}))
    await this.#notifier?.[Symbol.asyncDispose]()
    await this.#server.call("close", {})
    this.#notifier = undefined
    this.#sent = 0
  }

  /** Returns when each message was sent, where it was a NOTIFY. */
  async #publish(count: number, millis: number, pace: Pace): Promise<ReadonlyArray<number>> {
    if (this.#notifier === undefined) {
      const { messages } = await this.#server.call("publish", { pace, millis })
      this.#sent += messages
      return []
    }
    if (pace.kind !== "rate") throw new Error("a database is written to at a rate")
    const { audience, subject } = this.#options
    const { times } = await this.#notifier.call("notify", {
      from: this.#sent,
      count,
      perSecond: pace.perSecond,
      bytes: audience.bytes,
      format: subject === "socket.io" ? "socket.io" : "text"
    })
    this.#sent += count
    return times
  }

  async #arrive(): Promise<Arrival> {
    const messages = this.#sent / this.#options.audience.channels
    const arrivals = await this.#all((client) => client.call("arrive", { messages }))
    return {
      bytes: arrivals.reduce((sum, { bytes }) => sum + bytes, 0),
      frames: arrivals.reduce((sum, { frames }) => sum + frames, 0)
    }
  }

  async #latencies(sentAt: ReadonlyArray<number>): Promise<ReadonlyArray<number>> {
    if (this.#options.timed !== true) return []
    const times = await this.#all((client) => client.call("times", {}))
    return times.flatMap(({ micros }) =>
      micros.flatMap((arrivals, index) => arrivals.map((at) => at - sentAt[index]!))
    )
  }

  /** A server that publishes as fast as it can waits for the slowest client. */
  #relayProgress(): void {
    const progress = this.#clients.map(() => 0)
    this.#clients.forEach((client, index) => {
      client.onNote = (value) => {
        progress[index] = value
        this.#server.tell(Math.min(...progress))
      }
    })
  }

  #all<A>(
    run: (client: Child<ClientApi>, index: number) => PromiseLike<A>
  ): Promise<ReadonlyArray<A>> {
    return Promise.all(this.#clients.map(run))
  }
}

/** A rig with all clients connected. */
export const connected = async (options: RigOptions): Promise<Rig> => {
  const rig = new Rig(options)
  try {
    await rig.join(await rig.open())
    return rig
  } catch (error) {
    await rig[Symbol.asyncDispose]()
    throw error
  }
}
