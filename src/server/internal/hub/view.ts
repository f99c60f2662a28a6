/**
 * A channel as one definition sees it.
 *
 * Sockets and Streams of the same definition share a view, so a payload is validated once and encoded
 * once however many subscribe. Two definitions of one name (a typed one in a worker, an untyped one
 * at the door) have a view each.
 */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Result from "effect/Result"
import * as Channel from "../../../Channel.ts"
import type { Batch, BatchEvent } from "./batch.ts"
import type { Part } from "../outbox/catchUp.ts"

/** A socket's end of a subscription. */
export interface Sink {
  readonly offer: (batch: Batch) => void
}

/** Where a subscriber starts: after the replay, whatever has a later tick is theirs. */
export interface Join {
  readonly state: "fresh" | "recovered" | "reset"
  /** Events follow from here: the replay first, then what is live. */
  readonly cursor: string
  readonly tick: number
  readonly replay: ReadonlyArray<Batch>
  /** The replay is a part: join again from its end for what follows. */
  readonly more: boolean
  /** About how many bytes of payload were looked up for this answer. */
  readonly bytes: number
}

/** How many batches a Stream may lag behind before it is told `gap slow`. */
const streamBacklog = 256

/** Stands for text that is no JSON: no schema matches it. */
const unparsable: unique symbol = Symbol("unparsable")

export const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return unparsable
  }
}

type JoinView<E> = (
  view: View<E>,
  from: string | undefined,
  part: Part | undefined
) => Effect.Effect<Join, E>

export class View<E = never> {
  readonly channel: Channel.Any
  readonly sinks = new Set<Sink>()
  /**
   * Where somebody starts who has everything up to `from`, or nothing yet. From a `part` what can be
   * had at once anyway may come whole.
   */
  readonly join: (from: string | undefined, part?: Part) => Effect.Effect<Join, E>
  /** How many took it. */
  users = 0
  /** The tick of the newest batch. */
  tick = 0
  #batches: PubSub.PubSub<Batch> | undefined

  constructor(channel: Channel.Any, join: JoinView<E>) {
    this.channel = channel
    this.join = (from, part) => join(this, from, part)
  }

  /** For Streams. Sliding: one that is too slow loses batches and sees it by their ticks. */
  get batches(): PubSub.PubSub<Batch> {
    return (this.#batches ??= Effect.runSync(PubSub.sliding<Batch>(streamBacklog)))
  }

  hand(batch: Batch): void {
    this.tick = batch.tick
    // Unsafe publishing does not slide when it is full; the effect does, and never waits.
    if (this.#batches !== undefined && !PubSub.publishUnsafe(this.#batches, batch)) {
      Effect.runSync(PubSub.publish(this.#batches, batch))
    }
    for (const sink of this.sinks) sink.offer(batch)
  }

  /**
   * One notification or one stored message, written at `at` milliseconds since 1970, as an event; or
   * `undefined` when it does not match the channel's schema. For the `wire` it is encoded too: what
   * arrived may hold line feeds and properties that the schema does not know.
   */
  decode(
    id: string,
    at: number,
    tx: string | undefined,
    json: unknown,
    wire: boolean
  ): BatchEvent | undefined {
    if (json === unparsable) return undefined
    const { channel } = this
    const payload = channel.decode(json)
    if (Result.isFailure(payload)) return undefined
    if (!wire) return { id, at, payload: payload.success, json: undefined, tx }
    const text = Channel.toJson(channel as Channel.Channel<unknown>, payload.success)
    if (Result.isFailure(text)) return undefined
    return { id, at, payload: payload.success, json: text.success, tx }
  }
}

/** The views of one channel, shared by those who decode alike. */
export class Views<E = never> implements Iterable<View<E>> {
  readonly #byCodec = new Map<object, View<E>>()
  readonly #join: JoinView<E>

  constructor(join: JoinView<E>) {
    this.#join = join
  }

  /** The channel as `channel` defines it; `release` it as often as it was taken. */
  take(channel: Channel.Any): View<E> {
    let view = this.#byCodec.get(channel.codec)
    if (view === undefined) {
      view = new View(channel, this.#join)
      this.#byCodec.set(channel.codec, view)
    }
    view.users++
    return view
  }

  release(view: View<E>): void {
    if (--view.users === 0) this.#byCodec.delete(view.channel.codec)
  }

  [Symbol.iterator](): Iterator<View<E>> {
    return this.#byCodec.values()
  }
}
