/**
 * One subject with its audience: a server process, and client processes that are connected to it.
 */
import { start, type Child } from "./child.ts"
import type { Arrival, Audience, ClientApi, Cpu, DialectName, Memory, Pace, ServerApi, Setup, SubjectName } from "./types.ts"

const dialectOf: Readonly<Record<SubjectName, DialectName>> = {
  "effect-realtime": "realtime",
  "effect-realtime-route": "realtime",
  ws: "plain",
  floor: "plain",
  "ws+pg-listen": "plain",
  "socket.io": "socket.io",
  "effect-rpc": "rpc",
  "effect-stream": "plain"
}

/** More sockets than this are spread over two client processes. */
const socketsPerProcess = 5000

/** What one window of a subject gave. */
export interface Sample extends Cpu {
  /** Messages that reached a socket, all sockets together. */
  readonly deliveries: number
  /** Bytes on the wire, all sockets together. */
  readonly bytes: number
  readonly frames: number
  readonly seconds: number
}

export interface WindowOptions {
  readonly pace: Pace
  /** Messages at most, all channels together. */
  readonly messages: number
  /** For paces without a rate. */
  readonly millis: number
  readonly profile?: string
}

export class Rig implements AsyncDisposable {
  readonly setup: Setup
  readonly #server: Child<ServerApi>
  readonly #clients: ReadonlyArray<Child<ClientApi>>
  /** Messages published so far. */
  #sent = 0

  private constructor(setup: Setup, server: Child<ServerApi>, clients: ReadonlyArray<Child<ClientApi>>) {
    this.setup = setup
    this.#server = server
    this.#clients = clients
  }

  /** Starts the processes; nobody is connected yet. */
  static start(setup: Setup): Rig {
    const processes = Math.ceil(setup.audience.sockets / socketsPerProcess)
    return new Rig(
      setup,
      start<ServerApi>("server/main.ts"),
      Array.from({ length: processes }, () => start<ClientApi>("client/main.ts"))
    )
  }

  /** Opens the server and connects everybody. */
  async connect(options: { readonly flow?: boolean; readonly timed?: boolean } = {}): Promise<void> {
    const { port } = await this.#server.call("open", this.setup)
    await this.join(port, options)
  }

  async listen(): Promise<number> {
    return (await this.#server.call("open", this.setup)).port
  }

  async join(
    port: number,
    { flow = false, timed = false }: { readonly flow?: boolean; readonly timed?: boolean } = {}
  ): Promise<void> {
    const { audience, subject } = this.setup
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
  }

  /** Publishes, waits until every byte has arrived, and tells what it cost the server. */
  async window({ messages, millis, pace, profile }: WindowOptions): Promise<Sample> {
    const { sockets } = this.setup.audience
    await this.#server.call("prepare", { from: this.#sent, count: messages })
    await this.#server.call("start", profile === undefined ? {} : { profile })
    const begun = performance.now()
    const published = await this.#server.call("publish", { pace, millis })
    this.#sent += published.messages
    const { bytes, frames } = await this.#arrive()
    const cpu = await this.#server.call("stop", {})
    const seconds = (performance.now() - begun) / 1000
    const deliveries = (published.messages / this.setup.audience.channels) * sockets
    return { ...cpu, deliveries, bytes, frames, seconds }
  }

  memory(): Promise<Memory> {
    return this.#server.call("memory", {})
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#all((client) => client[Symbol.asyncDispose]())
    await this.#server[Symbol.asyncDispose]()
  }

  async #arrive(): Promise<Arrival> {
    const messages = this.#sent / this.setup.audience.channels
    const arrivals = await this.#all((client) => client.call("arrive", { messages }))
    return {
      bytes: arrivals.reduce((sum, { bytes }) => sum + bytes, 0),
      frames: arrivals.reduce((sum, { frames }) => sum + frames, 0)
    }
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

  #all<A>(run: (client: Child<ClientApi>, index: number) => Promise<A>): Promise<ReadonlyArray<A>> {
    return Promise.all(this.#clients.map(run))
  }
}

export type { Audience }
