/**
 * Where the reader of a node stands, and who follows it.
 *
 * A tick is one difference of snapshots: the reader takes a new end, then hands out, page by page, what
 * lies between. Synchronous throughout, so that who attaches in one step sees one state: everything up
 * to the end of the tick in progress is behind them, and what they are handed with a later tick's
 * number follows without a hole or a double.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { Budget, type RingLimits } from "../ring.ts"
import { Floors, type Message, type Page, type Take } from "./outbox.ts"
import { atRest, formatPosition, type Leg, midway, type NodePosition, whole } from "./position.ts"
import { DurableRing } from "./durableRing.ts"

/** One message of a durable channel. */
export interface DurableEvent {
  readonly id: string
  /** The transaction that wrote it. */
  readonly tx: string
  /** When it was written, in milliseconds since 1970. */
  readonly at: number
  /** The payload: JSON as its writer spelled it. It may hold line feeds: never put it into a frame as it is. */
  readonly text: string
}

/** Events of one channel that travel together, with the position after the last of them. */
export interface DurableBatch {
  readonly _tag: "Batch"
  readonly channel: string
  /** A position after which exactly these events follow. */
  readonly from: string
  readonly cursor: string
  /** Which tick of this node's reader it belongs to; 0 in a replay. */
  readonly tick: number
  readonly events: ReadonlyArray<DurableEvent>
  /** The position after the event with this index. */
  readonly cursorAt: (index: number) => string
}

/** Events may be missing here; what follows `cursor` is complete. */
export interface DurableGap {
  readonly _tag: "Gap"
  /**
   * `source`: the database is another one or was put back, or lost in a crash or a failover what was
   * handed out. `retention`: what comes next was pruned.
   */
  readonly reason: "source" | "retention"
  readonly cursor: string
  readonly tick: number
}

/** A newer position without events, so that a quiet channel's position does not age out. */
export interface DurablePosition {
  readonly _tag: "Position"
  readonly cursor: string
  readonly tick: number
}

export type Item = DurableBatch | DurableGap | DurablePosition

export interface Follower {
  readonly offer: (item: Item) => void
}

/** A batch is one frame: it stays below this many UTF-16 units of payload, except for a single event. */
export const maxBatchText = 64 * 1024
/** And below this many events. */
export const maxBatchEvents = 256

/**
 * The messages of one page of a leg as batches of their channels, each with a cursor of its own, so that
 * who has a batch has the position, also in the middle of a page. `start` is the position before the page.
 */
export const batchesOfPage = (
  page: Page,
  leg: Leg,
  start: NodePosition,
  identity: string,
  tick: number
): ReadonlyArray<DurableBatch> => {
  const { messages, position } = page
  const last = messages[messages.length - 1]
  if (last === undefined) return []
  const text = (position: NodePosition) => formatPosition(identity, position)
  const from = text(start)
  const end = text(position)
  const byChannel = new Map<string, Array<Message>>()
  for (const message of messages) {
    const list = byChannel.get(message.channel)
    if (list === undefined) byChannel.set(message.channel, [message])
    else list.push(message)
  }
  const batches: Array<DurableBatch> = []
  for (const [channel, list] of byChannel) {
    let before = from
    let events: Array<DurableEvent> = []
    let size = 0
    for (const [index, { at, id, text: payload, tx }] of list.entries()) {
      events.push({ id, tx, at, text: payload })
      size += payload.length
      const next = list[index + 1]
      if (
        next === undefined ||
        events.length === maxBatchEvents ||
        size + next.text.length > maxBatchText
      ) {
        const behind = (id: string) => text(midway(leg, BigInt(id)))
        const cursor = next === undefined ? end : behind(id)
        const held = events
        // Nearly nobody asks for one in the middle.
        const cursorAt = (index: number) =>
          index === held.length - 1 ? cursor : behind(held[index]!.id)
        batches.push({ _tag: "Batch", channel, from: before, cursor, tick, events, cursorAt })
        before = cursor
        events = []
        size = 0
      }
    }
  }
  return batches
}

/** What the reader of a node knows. It exists once a position was taken. */
export class Tail {
  readonly identity: string
  /** The era of the database in which what is known here was read. */
  era: string
  readonly floors = new Floors()
  /** Handed out up to here. */
  position: NodePosition
  /** The end of the tick in progress. */
  taken: Take
  tick: number
  /** Whether everything up to that end was handed out. */
  finished = true
  /** The channels that are read in the tick in progress, also when another session finishes it. */
  channels: ReadonlyArray<string> = []
  #end: string | undefined

  /** `pairs` are what other readers took earlier, in their order, as the database remembers it. */
  constructor(
    identity: string,
    era: string,
    taken: Take,
    tick: number,
    pairs: ReadonlyArray<readonly [next: bigint, drawn: bigint]>
  ) {
    this.identity = identity
    this.era = era
    this.taken = taken
    this.tick = tick
    this.position = whole(taken)
    for (const [next, drawn] of pairs) {
      // One that lies ahead of what was just taken is nobody's, and would hide what comes until then.
      if (next <= taken.next && drawn <= taken.drawn) this.floors.add(next, drawn)
    }
    this.floors.add(taken.next, taken.drawn)
  }

  /** The session is gone, and perhaps the era: keeps what holds as long as the witness is there. */
  rest(): void {
    const { last, normal } = this.taken
    this.position = atRest(this.position)
    this.taken = { ...this.taken, snapshot: normal }
    this.floors.forget(last.tx)
  }

  /** What a node told may be gone: who attached until now is told so with a tick of its own. */
  interject(): number {
    return ++this.tick
  }

  /** Begins a tick. Who follows later attaches at its end, whatever is handed out of it. */
  advance(taken: Take, channels: ReadonlyArray<string>): void {
    this.taken = taken
    this.channels = channels
    this.tick++
    this.finished = false
    this.#end = undefined
    this.floors.add(taken.next, taken.drawn)
  }

  /** Who attaches now is handed everything after this. */
  get end(): string {
    return (this.#end ??= formatPosition(this.identity, whole(this.taken)))
  }
}

/** Everybody who follows a channel on this node, and what was handed to them last. */
export class Followers {
  readonly #byChannel = new Map<
    string,
    { readonly set: Set<Follower>; readonly ring: DurableRing<DurableBatch> }
  >()
  /** Of what is remembered. */
  readonly budget: Budget

  constructor(limits: RingLimits) {
    this.budget = new Budget(limits)
  }

  get channels(): ReadonlyArray<string> {
    return [...this.#byChannel.keys()]
  }

  /** Everything that is handed out on a channel from now on, until the scope closes; unbounded. */
  follow(channel: string): Effect.Effect<Queue.Dequeue<Item>, never, Scope.Scope> {
    return Effect.gen({ self: this }, function* () {
      const queue = yield* Queue.unbounded<Item>()
      const follower = { offer: (item: Item) => void Queue.offerUnsafe(queue, item) }
      yield* Effect.acquireRelease(
        Effect.sync(() => this.add(channel, follower)),
        () =>
          Effect.suspend(() => {
            this.remove(channel, follower)
            return Queue.shutdown(queue)
          })
      )
      return queue
    })
  }

  add(channel: string, follower: Follower): void {
    const followed = this.#byChannel.get(channel)
    if (followed !== undefined) followed.set.add(follower)
    else {
      this.#byChannel.set(channel, { set: new Set([follower]), ring: new DurableRing(this.budget) })
    }
  }

  remove(channel: string, follower: Follower): void {
    const followed = this.#byChannel.get(channel)
    if (followed?.set.delete(follower) !== true || followed.set.size > 0) return
    // What comes while nobody follows is not read: the ring would have a hole.
    followed.ring.clear()
    this.#byChannel.delete(channel)
  }

  /** `now`: milliseconds since 1970. */
  hand(batch: DurableBatch, now: number): void {
    const followed = this.#byChannel.get(batch.channel)
    if (followed === undefined) return
    followed.ring.push(batch, now)
    for (const follower of followed.set) follower.offer(batch)
  }

  tell(item: DurableGap | DurablePosition, channels?: ReadonlySet<string>): void {
    for (const [channel, { ring, set }] of this.#byChannel) {
      if (channels?.has(channel) === false) continue
      if (item._tag === "Gap") ring.clear()
      for (const follower of set) follower.offer(item)
    }
  }

  /** What this node handed out and remembers. */
  get remembered(): ReadonlyArray<DurableBatch> {
    return [...this.#byChannel.values()].flatMap(({ ring }) => ring.all)
  }

  /** What was handed out behind a cursor; `undefined` when that is not remembered. */
  ringAfter(channel: string, cursor: string, now: number): ReadonlyArray<DurableBatch> | undefined {
    return this.#byChannel.get(channel)?.ring.after(cursor, now)
  }
}
