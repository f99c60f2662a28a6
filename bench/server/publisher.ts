/**
 * Publishes at a pace.
 */
import { channelName, channelOf, messageText } from "../lib/messages.ts"
import { atRate } from "../lib/pace.ts"
import type { Audience, Pace } from "../lib/types.ts"
import { silenceMillis } from "../lib/silence.ts"

/**
 * The most messages under way to a client: enough to keep it busy between two reports, and few
 * enough that a thousand of them fit into the kernel's buffers.
 */
const onTheWay = { messages: 256, bytes: 512 * 1024 }

export class Publisher {
  readonly #audience: Audience
  readonly #publish: (channel: string, text: string) => void
  readonly #names: ReadonlyArray<string>
  readonly #onTheWay: number
  #from = 0
  #texts: ReadonlyArray<string> = []
  /** Messages that the clients have received, by their reports. */
  #arrived = 0
  #onArrived: (() => void) | undefined

  constructor(audience: Audience, publish: (channel: string, text: string) => void) {
    this.#audience = audience
    this.#publish = publish
    this.#names = Array.from({ length: audience.channels }, (_, index) => channelName(index))
    this.#onTheWay = Math.min(onTheWay.messages, Math.floor(onTheWay.bytes / audience.bytes))
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

  /** Returns the number of messages. */
  async run(pace: Pace, millis: number): Promise<number> {
    const { length } = this.#texts
    const sent =
      pace.kind === "turn"
        ? await this.#byTurns(pace.burst, performance.now() + millis)
        : await atRate(length, pace.perSecond, (index) => this.#send(index)).then(() => length)
    // So that a measurement of memory does not see them.
    this.#texts = []
    return sent
  }

  #send(index: number): void {
    const channel = channelOf(this.#from + index, this.#names.length)
    this.#publish(this.#names[channel]!, this.#texts[index]!)
  }

  /**
   * Publishes as fast as the clients read, until the time is over. Rejects when they stop reading.
   */
  #byTurns(burst: number, until: number): Promise<number> {
    let sent = 0
    return new Promise((resolve, reject) => {
      const turn = () => {
        const over = sent + burst > this.#texts.length || performance.now() >= until
        if (over) return resolve(sent)
        if (this.#from + sent + burst - this.#arrived > this.#onTheWay) {
          const silence = setTimeout(() => {
            const all = this.#from + sent + burst
            reject(
              new Error(
                `the clients have ${this.#arrived} of ${all} messages, and nothing new for 10 s`
              )
            )
          }, silenceMillis)
          this.#onArrived = () => {
            this.#onArrived = undefined
            clearTimeout(silence)
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
