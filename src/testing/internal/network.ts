/**
 * The network between clients and servers in one process, with its faults.
 *
 * Each client has a `Path` of its own. A socket on it is a `Link` of two pipes. A pipe keeps the order,
 * delays each message as the path says, and holds as many bytes as a kernel would before the writer must
 * wait. No message arrives in the turn in which it was sent. A pipe never has a hole: a link that lost
 * something delivers nothing more in either direction, and neither end notices, as behind a middlebox
 * that dropped a connection.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { IncomingHttpHeaders } from "node:http"
import type { WebSocketConstructor, WebSocketLike } from "../../client/Connection.ts"
import { decodeServerMessage, type ServerFrame } from "../../Frame.ts"
import { closeCodes } from "../../Protocol.ts"
import type { Door } from "../../server/internal/door/door.ts"
import type { Peer } from "../../server/internal/session/peer.ts"
import { Line, type Outgoing } from "../../server/internal/hub/outgoing.ts"

/** A session's end of a link. */
type Ears = ReturnType<Door["accept"]>

/** Starts a session at the end of a new link; `undefined` when the server rejects it. */
export type Entrance = (peer: Peer, headers: IncomingHttpHeaders) => Ears | undefined

/** The session at the end of a link, and the index of its node. */
export interface Entered {
  readonly ears: Ears
  readonly node: number
}

/** What every path of a network shares. */
export interface Ground {
  readonly now: () => number
  /** Runs on a fiber that ends with the network. */
  readonly run: (effect: Effect.Effect<void>) => void
  /** Starts a session on a node, or on the next one that accepts it. */
  readonly enter: (peer: Peer, headers: IncomingHttpHeaders, node: number) => Entered | undefined
  /** A larger message of a client closes with 1009. */
  readonly maxMessageBytes: number
  /** Bytes in flight to a client beyond which the server must wait. */
  readonly socketBytes: number
  /** Every link that at least one end still needs. */
  readonly links: Set<Link>
}

/** The faults of a path. */
export interface Weather {
  silent: boolean
  refusing: boolean
  /** In milliseconds, each way. */
  delay: number
}

const abnormal = 1006

/** Clocks may have fractions of a millisecond, and adding and subtracting one leaves this much. */
const rounding = 0.001

interface Parcel {
  readonly at: number
  readonly deliver: () => void
}

/** One direction of a link. */
class Pipe {
  readonly #path: Path
  #parcels: Array<Parcel> = []
  #moving = false
  #paused = false
  #latest = 0

  constructor(path: Path) {
    this.#path = path
  }

  get empty(): boolean {
    return this.#parcels.length === 0
  }

  clear(): void {
    this.#parcels = []
  }

  send(deliver: () => void): void {
    const { ground, weather } = this.#path
    // Never before an earlier message, also when the path has become faster.
    this.#latest = Math.max(this.#latest, ground.now() + weather.delay)
    this.#parcels.push({ at: this.#latest, deliver })
    this.#go()
  }

  /** The reader takes nothing until `resume`. */
  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#go()
  }

  #go(): void {
    if (this.#moving || this.#paused || this.empty) return
    this.#moving = true
    this.#path.ground.run(this.#move)
  }

  /**
   * Delivers what is due, then sleeps until the next message is. Not a generator, because it runs for
   * each message.
   */
  #deliver(): Effect.Effect<void> {
    let next: Parcel | undefined
    while (!this.#paused && (next = this.#parcels[0]) !== undefined) {
      const wait = next.at - this.#path.ground.now()
      // The parcels may have changed during the sleep.
      if (wait > rounding) return Effect.andThen(Effect.sleep(wait), this.#again)
      this.#parcels.shift()
      next.deliver()
    }
    // In the step of the last look, so that a later message begins anew.
    this.#moving = false
    return Effect.void
  }

  readonly #again = Effect.suspend(() => this.#deliver())

  readonly #move = Effect.yieldNow.pipe(
    Effect.andThen(this.#again),
    Effect.onError(() =>
      Effect.sync(() => {
        this.#moving = false
      })
    )
  )
}

/** The client's end of a link, as the client sees it. */
class MemorySocket implements WebSocketLike {
  readyState = 0
  onopen: ((event: never) => void) | null = null
  onmessage: ((event: never) => void) | null = null
  onclose: ((event: never) => void) | null = null
  onerror: ((event: never) => void) | null = null
  readonly #link: Link

  constructor(path: Path) {
    this.#link = new Link(path, this)
  }

  send(text: string): void {
    if (this.readyState === 0) throw new Error("The socket is not open yet")
    if (this.readyState === 1) this.#link.fromClient(text)
  }

  close(code = 1000): void {
    if (this.readyState >= 2) return
    const wasOpen = this.readyState === 1
    this.readyState = 2
    this.#link.closedByClient(wasOpen ? code : abnormal)
  }
}

const dispatch = (handler: ((event: never) => void) | null, event: object = {}): void => {
  ;(handler as ((event: object) => void) | null)?.(event)
}

/** In bytes. A message has no frame around it here. */
const sizeOf = ({ text }: Outgoing): number => Buffer.byteLength(text)

export class Link {
  readonly path: Path
  readonly #socket: MemorySocket
  readonly #toServer: Pipe
  readonly #toClient: Pipe
  readonly #waiting = new Set<() => void>()
  #entered: Entered | undefined
  #serverOpen = false
  /** Bytes in flight to the client. */
  #inFlight = 0
  #written = 0
  #lost = false
  readonly subscriptions = new Set<string>()

  constructor(path: Path, socket: MemorySocket) {
    this.path = path
    this.#socket = socket
    this.#toServer = new Pipe(path)
    this.#toClient = new Pipe(path)
    path.ground.links.add(this)
    this.#send(this.#toServer, () => this.#arrive())
  }

  /** The node whose session has this link. */
  get node(): number | undefined {
    return this.#entered?.node
  }

  #arrive(): void {
    const { ground, headers, node, weather } = this.path
    this.#entered = weather.refusing ? undefined : ground.enter(this.#peer, headers, node)
    if (this.#entered === undefined) {
      return this.#send(this.#toClient, () => this.#endClient(abnormal, ""))
    }
    this.#serverOpen = true
    this.#send(this.#toClient, () => {
      if (this.#socket.readyState !== 0) return
      this.#socket.readyState = 1
      dispatch(this.#socket.onopen)
    })
  }

  readonly #peer: Peer = {
    written: () => this.#written,
    sizeOf,
    keep: (message) => new Line(message.text),
    write: (message) => {
      if (!this.#serverOpen) return true
      const { text } = message
      const size = sizeOf(message)
      this.#written += size
      this.#inFlight += size
      this.#note(text)
      if (this.path.loses(text)) this.#lost = true
      this.#send(this.#toClient, () => {
        if (this.#socket.readyState === 1) dispatch(this.#socket.onmessage, { data: text })
        this.#inFlight -= size
        this.#drained()
      })
      return !this.#full
    },
    writeAll: (messages) => {
      for (const message of messages) this.#peer.write(message)
      return !this.#full
    },
    onDrain: (drained) => {
      if (!this.#full) {
        drained()
        return () => undefined
      }
      this.#waiting.add(drained)
      return () => this.#waiting.delete(drained)
    },
    pause: () => this.#toServer.pause(),
    resume: () => this.#toServer.resume(),
    close: (code, reason) => {
      if (!this.#serverOpen) return
      this.#serverOpen = false
      this.#send(this.#toClient, () => {
        this.#endClient(code, reason)
        // The client answers the close frame, and then the server's socket is closed.
        this.#send(this.#toServer, () => this.#endServer())
      })
    },
    closing: () => !this.#serverOpen,
    terminate: () => this.endByServer()
  }

  get #full(): boolean {
    return this.#inFlight >= this.path.ground.socketBytes
  }

  #drained(): void {
    if (this.#full) return
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const drained of waiting) drained()
  }

  /** Records the subscriptions for tests. */
  #note(message: string): void {
    if (!/"type":"(?:subscribed|unsubscribed|ended)"/.test(message)) return
    for (const line of message.split("\n")) {
      const frame: { readonly type: string; readonly channel: string } = JSON.parse(line)
      if (frame.type === "subscribed") this.subscriptions.add(frame.channel)
      else if (frame.type === "unsubscribed" || frame.type === "ended") {
        this.subscriptions.delete(frame.channel)
      }
    }
  }

  fromClient(text: string): void {
    this.#send(this.#toServer, () => {
      if (Buffer.byteLength(text) > this.path.ground.maxMessageBytes) {
        this.#peer.close(closeCodes.messageTooLarge.code, "")
      } else this.#entered?.ears.receive(text)
    })
  }

  closedByClient(code: number): void {
    this.#send(this.#toServer, () => {
      this.#endServer()
      this.#send(this.#toClient, () => this.#endClient(code, ""))
    })
    this.#forget()
  }

  /** The server's process has ended, or the server cut the socket. The client notices by a reset. */
  endByServer(): void {
    this.#toClient.clear()
    this.#send(this.#toClient, () => this.#endClient(abnormal, ""))
    this.path.ground.run(
      Effect.andThen(
        Effect.yieldNow,
        Effect.sync(() => this.#endServer())
      )
    )
    this.#serverOpen = false
  }

  /** Ends the server's side at once, for a process that ends now. */
  forgetServer(): void {
    this.endByServer()
    this.#endServer()
  }

  /** Both ends notice at once. */
  cut(): void {
    this.#toClient.clear()
    this.#toServer.clear()
    this.#lost = true
    this.#serverOpen = false
    const noticed = Effect.sync(() => {
      this.#endServer()
      this.#endClient(abnormal, "")
    })
    this.path.ground.run(Effect.andThen(Effect.yieldNow, noticed))
  }

  /** Messages in flight are lost. */
  silence(): void {
    if (this.#toClient.empty && this.#toServer.empty) return
    this.#lost = true
    this.#toClient.clear()
    this.#toServer.clear()
  }

  #send(pipe: Pipe, deliver: () => void): void {
    if (this.path.weather.silent) this.#lost = true
    if (!this.#lost) pipe.send(deliver)
  }

  #endServer(): void {
    this.#serverOpen = false
    const entered = this.#entered
    this.#entered = undefined
    this.subscriptions.clear()
    entered?.ears.closed()
    this.#forget()
  }

  #endClient(code: number, reason: string): void {
    if (this.#socket.readyState === 3) return
    const failed = this.#socket.readyState === 0
    this.#socket.readyState = 3
    if (failed) dispatch(this.#socket.onerror)
    dispatch(this.#socket.onclose, { code, reason })
    this.#forget()
  }

  /** Forgets a link that neither end needs, once no message in flight can open a session. */
  #forget(): void {
    const over = this.#entered === undefined && this.#socket.readyState >= 2
    if (over && (this.#lost || this.#toServer.empty)) this.path.ground.links.delete(this)
  }
}

/** The path between one client and its node. */
export class Path {
  readonly ground: Ground
  readonly weather: Weather
  readonly headers: IncomingHttpHeaders
  /** The index of the node that it leads to while that one accepts clients. */
  readonly node: number
  /** Matches the next frame to lose. Its socket delivers nothing after it. */
  #losing: ((frame: ServerFrame) => boolean) | undefined

  constructor(ground: Ground, weather: Weather, headers: IncomingHttpHeaders, node: number) {
    this.ground = ground
    this.weather = weather
    this.headers = headers
    this.node = node
  }

  /** The WebSocket class of a client on this path. */
  get webSocket(): WebSocketConstructor {
    // oxlint-disable-next-line typescript/no-this-alias, unicorn/no-this-assignment -- the class below has a `this` of its own
    const path = this
    return class extends MemorySocket {
      constructor() {
        super(path)
      }
    }
  }

  loseNext(frame: (frame: ServerFrame) => boolean): void {
    this.#losing = frame
  }

  /** Whether this message is the one to lose. */
  loses(message: string): boolean {
    if (this.#losing === undefined) return false
    if (!decodeServerMessage(message).some(this.#losing)) return false
    this.#losing = undefined
    return true
  }

  cut(): void {
    for (const link of this.#links) link.cut()
  }

  silence(): void {
    this.weather.silent = true
    for (const link of this.#links) link.silence()
  }

  get #links(): ReadonlyArray<Link> {
    return Array.from(this.ground.links).filter(({ path }) => path === this)
  }
}
