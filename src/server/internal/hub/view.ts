/**
 * A channel as one definition decodes it.
 *
 * Sockets and Streams of the same definition share a view. It validates and encodes a payload once,
 * however many subscribe. Two definitions of one name (a typed one in a worker, an untyped one at the
 * door) have a view each, and so has each filter.
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
import { Missing, toldBy, unsendable } from "./invalidMessage.ts"
import { invalidChange } from "./rowChange.ts"
import type { Told } from "./gapCounter.ts"
import type { Part, ResetReason } from "../outbox/catchUp.ts"
import type { Lease } from "../outbox/sharedReads.ts"
import type { Distribution } from "../tally.ts"
import type { TooManyFilters } from "./errors.ts"
import type { Narrowed } from "./viewCursor.ts"

/** What a view hands its batches to: a socket's end of a subscription. */
export interface Sink {
  readonly offer: (batch: Batch) => void
}

/** Where a subscriber of a view starts. After the replay it takes every batch with a later tick. */
export interface ViewJoin {
  readonly state: JoinState
  /** Why the state is \`reset\`; absent on a live channel, of which the node remembers less. */
  readonly reason?: ResetReason | undefined
  /** The position before the replay, or the present position without one. */
  readonly cursor: string
  readonly tick: number
  readonly replay: ReadonlyArray<Step>
  /** The position at the end of that tick, where the replay may end before it. */
  readonly end?: string | undefined
  /** Whether the replay is only a part. To go on, join again from its end. */
  readonly more: boolean
  /** Bytes of payload read for this answer, roughly. */
  readonly bytes: number
}

/** How many batches a Stream may lag behind before it receives `gap slow`. */
const streamBacklog = 256

export class View<E = never> {
  readonly channel: Channel.Any
  /**
   * Where a subscriber starts that has everything up to `from`, or nothing without it. A `part` may be
   * the whole replay if the node remembers it. What the join read is kept until the lease ends.
   */
  readonly join: (
    from: string | undefined,
    part?: Part,
    lease?: Lease
  ) => Effect.Effect<ViewJoin, E>
  /** The channel's next view. `release` does not clear it, so a loop that stands here can go on. */
  next: View<E> | undefined
  /** Number of users: calls of `view` without a `release`. */
  users = 0
  #replayed: WeakMap<object, Step> | undefined
  /** The tick of the newest batch. */
  tick = 0
  /** How often the database may have lost what it had: a state from before is of no use then. */
  history = 0
  /** Copied from `channel`, as the codec is: with many channels its memory is far away. */
  readonly name: string
  /** Whether the channel's delivery resumes. */
  readonly resumes: boolean
  /** What a view with a filter has beside its channel. */
  readonly narrowed: Narrowed | undefined
  /** With a filter: the text that every frame of the view carries. Equal filters have the same text. */
  readonly label: string | undefined
  readonly #codec: Codec<unknown>
  readonly #options: Exact.Options | undefined
  readonly #batchEvents: Distribution | undefined
  /** Most channels have one socket. A set for each would cost more memory than the rest. */
  #sink: Sink | undefined
  #sinks: Set<Sink> | undefined
  #batches: PubSub.PubSub<Batch> | undefined

  constructor(
    channel: Channel.Any,
    join: View<E>["join"],
    resumes: boolean,
    narrowed?: Narrowed | undefined,
    batchEvents?: Distribution | undefined
  ) {
    this.channel = channel
    this.#batchEvents = batchEvents
    this.narrowed = narrowed
    this.label = narrowed?.label
    this.resumes = resumes
    this.name = channel.name
    this.#codec = channel.codec as Codec<unknown>
    this.#options = optionsOf(channel.name, this.#codec)
    this.join = join
  }

  /** Names the view among all subscriptions of a socket. */
  get key(): string {
    return this.label === undefined ? this.name : `${this.name} ${this.label}`
  }

  /** A cursor of the channel as the subscribers of the view receive it. */
  cursorOf(cursor: string): string {
    return this.narrowed === undefined ? cursor : `${cursor}.${this.narrowed.digest}`
  }

  /** The steps made for batches of replays. */
  get replayed(): WeakMap<object, Step> {
    return (this.#replayed ??= new WeakMap())
  }

  /** Batches for Streams. It slides: a slow Stream loses batches, and detects that by their ticks. */
  get batches(): PubSub.PubSub<Batch> {
    return (this.#batches ??= Effect.runSync(PubSub.sliding<Batch>(streamBacklog)))
  }

  /** Whether a socket is subscribed, so that batches are encoded for the wire. */
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
    if (batch.events.length > 0) this.#batchEvents?.add(batch.events.length)
    if (batch.gap === "source") this.history++
    // `publishUnsafe` does not slide when it is full. The effect does, and never waits.
    if (this.#batches !== undefined && !PubSub.publishUnsafe(this.#batches, batch)) {
      Effect.runSync(PubSub.publish(this.#batches, batch))
    }
    this.#sink?.offer(batch)
    if (this.#sinks !== undefined) for (const sink of this.#sinks) sink.offer(batch)
  }

  /**
   * Decodes a notification or a stored message, written at `at` milliseconds since 1970. Returns what
   * is missing if the text reports a gap or does not match the schema. For the `wire` it encodes the
   * payload again: the text may hold line feeds, and properties that the schema does not know.
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
    const missing = (unfit: Missing["unfit"]) =>
      new Missing(
        "invalid",
        id,
        tx,
        unfit,
        invalidChange(this.channel.table, this.name, id, tx, text)
      )
    if (Result.isFailure(payload)) return missing(payload.failure)
    if (!wire) return { id, at, payload: payload.success, json: undefined, tx }
    const json = toJson(this, payload.success)
    if (Result.isFailure(json)) return missing(unsendable)
    return { id, at, payload: payload.success, json: json.success, tx }
  }

  /** Encodes a payload with the channel's codec. */
  encode(payload: unknown): Result.Result<unknown, InvalidPayload> {
    return this.#codec.encode(payload, this.name)
  }
}

/**
 * A channel as all its definitions decode it. Definitions with the same codec share a view. Views without
 * a filter are few, so they form a linked list.
 */
export abstract class Views<E = never> {
  readonly name: string
  /** Logs the messages that are gaps. */
  readonly told: Told
  /** Counts the events of each batch. */
  protected readonly batchEvents: Distribution | undefined
  /** The first view; nearly always the only one. */
  protected first: View<E> | undefined

  constructor(name: string, told: Told, batchEvents?: Distribution) {
    this.name = name
    this.told = told
    this.batchEvents = batchEvents
  }

  /** Why the channel has no view for one more filter. Only durable channels have such views. */
  refuses(_channel: Channel.Any, _narrowed: Narrowed): TooManyFilters | undefined {
    return undefined
  }

  /** The channel as `channel` defines it. Call `release` once for each call of this. */
  view(channel: Channel.Any, _narrowed?: Narrowed): View<E> {
    let view = this.first
    while (view !== undefined && view.channel.codec !== channel.codec) view = view.next
    if (view === undefined) {
      const added: View<E> = new View(
        channel,
        (from, part, lease) => this.join(added, from, part, lease),
        this.resumes,
        undefined,
        this.batchEvents
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

  /** Whether a cursor of the channel outlives the node's ring. */
  protected abstract get resumes(): boolean

  protected abstract join(
    view: View<E>,
    from: string | undefined,
    part: Part | undefined,
    lease: Lease | undefined
  ): Effect.Effect<ViewJoin, E>
}
