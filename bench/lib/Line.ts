/**
 * One client library with what feeds it, each a process of its own; only the library is measured.
 */
import { type Child, start } from "./child.ts"
import type { Cpu, FeederApi, LibraryName, ListenerApi } from "./types.ts"

export interface LineSample extends Cpu {
  readonly events: number
  readonly seconds: number
}

export interface Feeding {
  readonly events: number
  readonly perSecond: number
  /** How many events the server has at the same time. */
  readonly together: number
}

export interface LineOptions {
  readonly library: LibraryName
  /** Bytes of one payload. */
  readonly bytes: number
  /** How the paths of CPU profiles begin. */
  readonly profile?: string | undefined
}

export class Line implements AsyncDisposable {
  readonly #options: LineOptions
  readonly #feeder: Child<FeederApi> = start<FeederApi>("feeder/main.ts")
  readonly #listener: Child<ListenerApi> = start<ListenerApi>("listener/main.ts")
  #fed = 0

  private constructor(options: LineOptions) {
    this.#options = options
  }

  /** A line whose library is connected and subscribed. */
  static async open(options: LineOptions): Promise<Line> {
    const line = new Line(options)
    try {
      const { bytes, library } = options
      const { port } = await line.#feeder.call("open", { library })
      await line.#listener.call("open", { library, port, bytes })
      return line
    } catch (error) {
      await line[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Feeds, waits until the handler has every event, and returns what that cost the library. */
  async window({ events, perSecond, together }: Feeding): Promise<LineSample> {
    const { bytes, library, profile } = this.#options
    const path =
      profile === undefined ? {} : { profile: `${profile}-${library}-${this.#fed}.cpuprofile` }
    await this.#listener.call("start", path)
    const begun = performance.now()
    const from = this.#fed
    this.#fed += events
    await Promise.all([
      this.#feeder.call("feed", { bytes, from, count: events, perSecond, together }),
      this.#listener.call("arrive", { events: this.#fed })
    ])
    const cpu = await this.#listener.call("stop", {})
    return { ...cpu, events, seconds: (performance.now() - begun) / 1000 }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener[Symbol.asyncDispose]()
    await this.#feeder[Symbol.asyncDispose]()
  }
}
