/**
 * Sockets that stop reading for a while, and then must either have every message or know exactly
 * which ones they miss: no message may be lost in silence.
 */
import { messageText } from "../lib/messages.ts"
import type { Audience, Recovery } from "../lib/types.ts"
import type { Connection } from "./Connection.ts"
import type { Dialect } from "./dialects.ts"
import { Feed } from "./Feed.ts"
import { join } from "./join.ts"

const patienceMillis = 20_000

export class Stalled {
  readonly #connections: Array<Connection> = []
  #failure: Error | undefined
  #check: () => void = () => undefined

  /** Opens sockets that stop reading as soon as they are subscribed. */
  async open(options: {
    readonly port: number
    readonly audience: Audience
    readonly dialect: Dialect
    readonly count: number
    /** Messages that were published before. */
    readonly messages: number
  }): Promise<void> {
    const { audience, count, messages, port } = options
    // Each socket receives different frames.
    const dialect = { ...options.dialect, shared: false }
    const open = async (index: number) => {
      const feed = new Feed(0, dialect, (number) => messageText(0, number, audience.bytes))
      feed.messages = messages
      const connection = await join({
        port,
        number: audience.sockets + index,
        channels: [0],
        dialect,
        feed,
        onFailure: (error) => {
          this.#failure ??= error
          this.#check()
        },
        onProgress: () => this.#check()
      })
      connection.socket?.pause()
      this.#connections.push(connection)
    }
    await Promise.all(Array.from({ length: count }, (_, index) => open(index)))
  }

  async recover(messages: number): Promise<Recovery> {
    const done = Promise.withResolvers<void>()
    const feeds = this.#connections.map(({ feed }) => feed)
    this.#check = () => {
      if (this.#failure !== undefined) done.reject(this.#failure)
      else if (feeds.every((feed) => feed.messages === messages)) done.resolve()
    }
    const timer = setTimeout(() => {
      const have = feeds.map((feed) => feed.messages).join(", ")
      done.reject(new Error(`stalled sockets are at ${have} of ${messages} messages`))
    }, patienceMillis)
    for (const { socket } of this.#connections) socket?.resume()
    this.#check()
    try {
      await done.promise
    } finally {
      clearTimeout(timer)
      this.close()
    }
    return { missed: feeds.reduce((sum, { missed }) => sum + missed, 0) }
  }

  close(): void {
    for (const connection of this.#connections) connection.close()
  }
}
