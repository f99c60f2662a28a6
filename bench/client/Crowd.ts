/**
 * All sockets of one client process.
 */
import { inTurn } from "../lib/inTurn.ts"
import { messageText } from "../lib/messages.ts"
import type { Arrival, Audience, DialectName, Times } from "../lib/types.ts"
import type { Connection } from "./Connection.ts"
import { type Dialect, dialects } from "./dialects.ts"
import { Feed } from "./Feed.ts"
import { join } from "./join.ts"
import { silenceMillis } from "../lib/silence.ts"

/** Handshakes under way at once: more would measure the backlog of the listening socket. */
const handshakesAtOnce = 64

/** In this time after the last message no further message may arrive. */
const afterwardsMillis = 20

export interface CrowdOptions {
  readonly dialect: DialectName
  readonly port: number
  readonly audience: Audience
  readonly first: number
  readonly count: number
  /** Whether the time of every arrival is kept. */
  readonly timed: boolean
}

export class Crowd {
  readonly #options: CrowdOptions
  readonly #dialect: Dialect
  readonly #connections: Array<Connection> = []
  readonly #feeds = new Map<number, Feed>()
  readonly #all: Array<Feed> = []
  #failure: Error | undefined
  readonly #broken = Promise.withResolvers<never>()
  #incomplete = new Set<Feed>()
  #expected = 0
  #wait: PromiseWithResolvers<void> | undefined
  #progressAt = 0
  #bytesBefore = 0
  #framesBefore = 0
  readonly #seen = new Map<Connection, number>()
  #times: Array<Array<number>> = []
  #timesFrom = 0

  constructor(options: CrowdOptions) {
    this.#options = options
    this.#dialect = dialects[options.dialect]
    // Not every caller reads it.
    this.#broken.promise.catch(() => undefined)
  }

  /** Never completes; rejects on the first failure. */
  get broken(): Promise<never> {
    return this.#broken.promise
  }

  async open(): Promise<void> {
    const { count, first } = this.#options
    // The lanes share one iterator: each takes the next number when its last socket is subscribed.
    const numbers = Array.from({ length: count }, (_, index) => first + index).values()
    const lane = () => inTurn(numbers, (number) => this.#connect(number))
    await Promise.all(Array.from({ length: handshakesAtOnce }, lane))
  }

  /** See `ClientApi.arrive`. */
  async arrive(messages: number): Promise<Arrival> {
    if (this.#failure !== undefined) throw this.#failure
    this.#expected = messages
    this.#incomplete = new Set(this.#all.filter((feed) => !feed.isComplete(messages)))
    if (this.#incomplete.size > 0) {
      this.#wait = Promise.withResolvers<void>()
      this.#progressAt = Date.now()
      const timer = setInterval(() => this.#giveUp(), 500)
      try {
        await this.#wait.promise
      } finally {
        clearInterval(timer)
        this.#wait = undefined
      }
    }
    const bytes = this.#all.reduce((sum, feed) => sum + feed.delivered, 0)
    const frames = this.#all.reduce((sum, feed) => sum + feed.frames * feed.readers, 0)
    const arrival = { bytes: bytes - this.#bytesBefore, frames: frames - this.#framesBefore }
    this.#bytesBefore = bytes
    this.#framesBefore = frames
    return arrival
  }

  /** See `ClientApi.settle`. */
  async settle(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, afterwardsMillis))
    if (this.#failure !== undefined) throw this.#failure
    if (this.#all.some(({ messages }) => messages > this.#expected)) {
      throw new Error("more came than was published")
    }
    const unread = this.#connections.find((connection) => connection.unread > 0)?.unread
    if (unread !== undefined) throw new Error(`${unread} bytes came behind the last message`)
  }

  /** The average number of messages of the sockets. */
  get progress(): number {
    return this.#all.reduce((sum, feed) => sum + feed.progress, 0) / this.#all.length
  }

  times(): Times {
    const times = { first: this.#timesFrom, micros: this.#times }
    this.#timesFrom += this.#times.length
    this.#times = []
    return times
  }

  close(): void {
    for (const connection of this.#connections) connection.close()
  }

  async #connect(number: number): Promise<void> {
    const { audience, port } = this.#options
    const { channels, subscriptions = 1 } = audience
    const mine = Array.from(
      { length: subscriptions },
      (_, index) => (number * subscriptions + index) % channels
    )
    this.#connections.push(
      await join({
        port,
        number,
        channels: mine,
        dialect: this.#dialect,
        feed: this.#feedOf(mine[0] ?? 0),
        onFailure: (error) => this.#fail(error),
        onProgress: (connection) => this.#progress(connection)
      })
    )
  }

  #feedOf(channel: number): Feed {
    const { bytes } = this.#options.audience
    const known = this.#dialect.shared ? this.#feeds.get(channel) : undefined
    if (known !== undefined) return known
    const feed = new Feed(channel, this.#dialect, (number) => messageText(channel, number, bytes))
    this.#feeds.set(channel, feed)
    this.#all.push(feed)
    return feed
  }

  #progress(connection: Connection): void {
    const { feed } = connection
    if (this.#options.timed) this.#stamp(connection)
    if (this.#wait === undefined) return
    this.#progressAt = Date.now()
    if (!feed.isComplete(this.#expected)) {
      if (feed.messages > this.#expected) this.#fail(new Error("more came than was published"))
      return
    }
    if (this.#incomplete.delete(feed) && this.#incomplete.size === 0) this.#wait.resolve()
  }

  #stamp(connection: Connection): void {
    const seen = this.#seen.get(connection) ?? 0
    const now = connection.feed.messagesAt(connection.offset)
    if (now <= seen) return
    const micros = Number(process.hrtime.bigint() / 1000n)
    for (let message = seen; message < now; message++) {
      ;(this.#times[message - this.#timesFrom] ??= []).push(micros)
    }
    this.#seen.set(connection, now)
  }

  #giveUp(): void {
    if (Date.now() - this.#progressAt < silenceMillis) return
    const feed = [...this.#incomplete][0]!
    const missing = `channel ${feed.channel} has ${feed.messages} of ${this.#expected} messages, ${feed.delivered} bytes of ${feed.length} for each of ${feed.readers} sockets`
    this.#fail(new Error(`${this.#incomplete.size} channel(s) are incomplete: ${missing}`))
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#broken.reject(this.#failure)
    this.#wait?.reject(this.#failure)
  }
}
