/**
 * Compares the events of a handler with the fed ones: every event, in order, with every field.
 */
import { messageText } from "../lib/messages.ts"
import { silenceMillis } from "../lib/silence.ts"

interface Message {
  readonly id: number
  readonly status: string
  readonly note: string
}

export class Check {
  readonly #bytes: number
  #taken = 0
  /**
   * The expected fields hold for events below this number: an id with another digit shortens the
   * note.
   */
  #until = 0
  #expected: Message = { id: 0, status: "", note: "" }
  #wanted = 0
  #wait: PromiseWithResolvers<void> | undefined
  #failure: Error | undefined

  constructor(bytes: number) {
    this.#bytes = bytes
  }

  take(payload: unknown): void {
    const number = this.#taken++
    if (number >= this.#until) {
      this.#expected = JSON.parse(messageText(0, number, this.#bytes)) as Message
      this.#until = 10 ** String(number).length
    }
    const { note, status } = this.#expected
    const given = payload as Message
    if (given.id !== number || given.status !== status || given.note !== note) {
      return this.fail(`event ${number} is ${JSON.stringify(payload)}`)
    }
    if (this.#taken === this.#wanted) this.#wait?.resolve()
  }

  fail(reason: unknown): void {
    this.#failure ??= reason instanceof Error ? reason : new Error(String(reason))
    this.#wait?.reject(this.#failure)
  }

  /** Completes when exactly this many events have arrived, counted from the beginning. */
  async arrive(events: number): Promise<void> {
    this.#wanted = events
    this.#wait = Promise.withResolvers()
    let seen = -1
    const timer = setInterval(() => {
      if (seen === this.#taken) this.fail(`${this.#taken} of ${events} events came`)
      seen = this.#taken
    }, silenceMillis)
    try {
      if (this.#failure !== undefined) throw this.#failure
      if (this.#taken < events) await this.#wait.promise
      if (this.#taken > events) throw new Error(`${this.#taken} events came instead of ${events}`)
    } finally {
      clearInterval(timer)
      this.#wait = undefined
    }
  }
}
