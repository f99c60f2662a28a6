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
import type * as Channel from "../../../Channel.ts"
import { type Codec, toJson } from "../../../ChannelBase.ts"
import type * as Exact from "../../../internal/exact.ts"
import type { JoinState } from "../../../Protocol.ts"
import type { InvalidPayload } from "../../../RealtimeError.ts"
import { optionsOf, read } from "../reading/reading.ts"
import type { Batch, BatchEvent, Step } from "./batch.ts"
import { Missing, toldBy } from "./invalidMessage.ts"
import type { Told } from "./gapCounter.ts"
import type { Part } from "../outbox/catchUp.ts"
import type { Lease } from "../outbox/sharedReads.ts"

/** A socket's end of a subscription. */
export interface Sink {
  readonly offer: (batch: Batch) => void
}

/** Where a subscriber of a view starts: after the replay, whatever has a later tick is theirs. */
export interface ViewJoin {
  readonly state: JoinState
  /** Events follow from here: the replay first, then what is live. */
  readonly cursor: string
  readonly tick: number
  readonly replay: ReadonlyArray<Step>
  /** The replay is a part: join again from its end for what follows. */
  readonly more: boolean
  /** About how many bytes of payload were looked up for this answer. */
  readonly bytes: number
}

/** What the channel decodes, but cannot encode for the wire. */
const unsendable = {
  path: "",
  expected: "a payload that its schema can also encode",
  cure: undefined
}

/** How many batches a Stream may lag behind before it is told `gap slow`. */
const streamBacklog = 256

export class View<E = never> {
  readonly channel: Channel.Any
  /**
   * Where somebody starts who has everything up to `from`, or nothing yet. From a `part` what can be
   * had at once anyway may come whole. What was read for it is kept until the lease ends.
   */
  readonly join: (
    from: string | undefined,
    part?: Part,
    lease?: Lease
  ) => Effect.Effect<ViewJoin, E>
  /** The channel's next view. It stays after the release: a loop that stands here goes on from it. */
  next: View<E> | undefined
  /** How many took it. */
  users = 0
  #replayed: WeakMap<object, Step> | undefined
  /** The tick of the newest batch. */
  tick = 0
  /** This and the codec as `channel` has them, without a look at it: of many channels each is far away. */
  readonly name: string
  /** As the channel's delivery says. */
  readonly resumes: boolean
  readonly #codec: Codec<unknown>
  readonly #options: Exact.Options | undefined
  /** Most channels of a busy node have one socket: a set of its own would cost more than the rest. */
  #sink: Sink | undefined
  #sinks: Set<Sink> | undefined
  #batches: PubSub.PubSub<Batch> | undefined

  constructor(channel: Channel.Any, join: View<E>["join"], resumes: boolean) {
    this.channel = channel
    this.resumes = resumes
    this.name = channel.name
    this.#codec = channel.codec as Codec<unknown>
    this.#options = optionsOf(channel.name, this.#codec)
    this.join = join
  }

  /** The steps of batches that are replayed. */
  get replayed(): WeakMap<object, Step> {
    return (this.#replayed ??= new WeakMap())
  }

  /** For Streams. Sliding: one that is too slow loses batches and sees it by their ticks. */
  get batches(): PubSub.PubSub<Batch> {
    return (this.#batches ??= Effect.runSync(PubSub.sliding<Batch>(streamBacklog)))
  }

  /** Whether batches are for the wire. */
  get subscribed(): boolean {
    return this.#sink !== undefined || this.#sinks !== undefined
  }

  subscribe(sink: Sink): void {
    if (this.#sink === undefined && this.#sinks === undefined) this.#sink = sink
    else if (this.#sink !== sink) (this.#sinks ??= new Set()).add(sink)
  }

  unsubscribe(sink: Sink): void {
    if (this.#sink === sink) this.#sink = undefined
    else if (this.#sinks?.delete(sink) === true && this.#sinks.size === 0) this.#sinks = undefined
  }

  hand(batch: Batch): void {
    this.tick = batch.tick
    // Unsafe publishing does not slide when it is full; the effect does, and never waits.
    if (this.#batches !== undefined && !PubSub.publishUnsafe(this.#batches, batch)) {
      Effect.runSync(PubSub.publish(this.#batches, batch))
    }
    this.#sink?.offer(batch)
    if (this.#sinks !== undefined) for (const sink of this.#sinks) sink.offer(batch)
  }

  /**
   * One notification or one stored message, written at `at` milliseconds since 1970, as an event; or as
   * what is missing in its place, when it tells a gap or does not match the channel's schema. For the
   * `wire` it is encoded too: what arrived may hold line feeds and properties that the schema does not
   * know.
   */
  decode(
    id: string,
    at: number,
    tx: string | undefined,
    text: string,
    wire: boolean
  ): BatchEvent | Missing {
    const told = toldBy(text, id, tx)
    if (told !== undefined) return told
    const payload = read(this.#codec, this.name, text, this.#options)
    if (Result.isFailure(payload)) return new Missing("invalid", id, tx, payload.failure)
    if (!wire) return { id, at, payload: payload.success, json: undefined, tx }
    const json = toJson(this, payload.success)
    if (Result.isFailure(json)) return new Missing("invalid", id, tx, unsendable)
    return { id, at, payload: payload.success, json: json.success, tx }
  }

  /** As the channel does. */
  encode(payload: unknown): Result.Result<unknown, InvalidPayload> {
    return this.#codec.encode(payload, this.name)
  }
}

/**
 * A channel as all its definitions see it: a view for each way to decode, shared by those who decode
 * alike. There are few, so each names the next one.
 */
export abstract class Views<E = never> {
  readonly name: string
  /** What the node has told of messages that are gaps. */
  readonly told: Told
  /** The first one; nearly always the only one. */
  protected first: View<E> | undefined

  constructor(name: string, told: Told) {
    this.name = name
    this.told = told
  }

  /** The channel as `channel` defines it; `release` it as often as it was taken. */
  view(channel: Channel.Any): View<E> {
    let view = this.first
    while (view !== undefined && view.channel.codec !== channel.codec) view = view.next
    if (view === undefined) {
      const added: View<E> = new View(
        channel,
        (from, part, lease) => this.join(added, from, part, lease),
        this.resumes
      )
      added.next = this.first
      view = this.first = added
    }
    view.users++
    return view
  }

  release(view: View<E>): void {
    if (--view.users > 0) return
    if (this.first === view) this.first = view.next
    for (let other = this.first; other !== undefined; other = other.next) {
      if (other.next === view) other.next = view.next
    }
  }

  /** Whether a cursor of the channel outlives what is remembered here. */
  protected abstract get resumes(): boolean

  protected abstract join(
    view: View<E>,
    from: string | undefined,
    part: Part | undefined,
    lease: Lease | undefined
  ): Effect.Effect<ViewJoin, E>
}
