/**
 * Publishes at a pace.
 */
import { channelName, channelOf, messageText } from "../lib/messages.ts"
import type { Audience, Pace } from "../lib/types.ts"

/**
 * How many messages may be on the way to the clients: enough to keep them busy between two reports,
 * little enough that a thousand sockets fit into the kernel's buffers.
 */
const onTheWay = 256

export class Publisher {
  readonly #audience: Audience
  readonly #publish: (channel: string, text: string) => void
  readonly #names: ReadonlyArray<string>
  #from = 0
  #texts: ReadonlyArray<string> = []
  /** Messages that the clients have, as far as they told. */
  #arrived = 0
  #onArrived: (() => void) | undefined

  constructor(audience: Audience, publish: (channel: string, text: string) => void) {
    this.#audience = audience
    this.#publish = publish
    this.#names = Array.from({ length: audience.channels }, (_, index) => channelName(index))
  }

  /** Makes the texts beforehand, so that no window pays for them. */
  prepare(from: number, count: number): void {
    const { bytes, channels } = this.#audience
    this.#from = from
    this.#texts = Array.from({ length: count }, (_, index) => {
      const message = from + index
      return messageText(channelOf(message, channels), Math.floor(message / channels), bytes)
    })
  }

  arrived(messages: number): void {
    this.#arrived = messages
    this.#onArrived?.()
  }

  /** Returns how many messages it was. */
  run(pace: Pace, millis: number): Promise<number> {
    return pace.kind === "rate"
      ? this.#atRate(pace.perSecond)
      : this.#byTurns(pace.burst, performance.now() + millis)
  }

  #send(index: number): void {
    const channel = channelOf(this.#from + index, this.#names.length)
    this.#publish(this.#names[channel]!, this.#texts[index]!)
  }

  /**
   * All that was prepared. Slow paces give each message a turn of the event loop to itself, also after
   * a late timer: nothing to coalesce means nothing. Fast ones run on a timer of 1 ms, so that a few
   * come together, as they do from a busy database.
   */
  #atRate(perSecond: number): Promise<number> {
    const count = this.#texts.length
    const together = perSecond > 1000
    const every = Math.max(1, 1000 / perSecond)
    const begun = performance.now()
    let sent = 0
    return new Promise((resolve) => {
      const turn = () => {
        // The timer's clock has whole milliseconds, so it may be early by one.
        const elapsed = performance.now() - begun + 1
        const due = Math.min(count, Math.floor((elapsed * perSecond) / 1000))
        if (sent < due) {
          do this.#send(sent++)
          while (together && sent < due)
        }
        if (sent === count) return resolve(count)
        if (sent < due) setImmediate(turn)
        else setTimeout(turn, together ? 1 : begun + (sent + 1) * every - performance.now())
      }
      setTimeout(turn, every)
    })
  }

  /** As fast as the clients read, until the time is over. */
  #byTurns(burst: number, until: number): Promise<number> {
    let sent = 0
    return new Promise((resolve) => {
      const turn = () => {
        const over = sent + burst > this.#texts.length || performance.now() >= until
        if (over) return resolve(sent)
        if (this.#from + sent + burst - this.#arrived > onTheWay) {
          this.#onArrived = () => {
            this.#onArrived = undefined
            turn()
          }
          return
        }
        for (let index = 0; index < burst; index++) this.#send(sent++)
        setImmediate(turn)
      }
      turn()
    })
  }
}
