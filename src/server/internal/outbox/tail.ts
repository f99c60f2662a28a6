/**
 * The position of a node's reader, and its followers.
 *
 * A tick is one difference of snapshots: the reader takes a new end, then hands out the messages up to it,
 * page by page. All of it is synchronous, so that a follower that attaches in one step sees one state.
 * Everything up to the end of the tick in progress precedes it. The batches of later ticks follow without a
 * hole or a duplicate.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { Budget, type RingLimits } from "../ring.ts"
import { type Channels, legOf, type Look } from "./look.ts"
import { Floors, type Message, type Page, type Take } from "./outbox.ts"
import { atRest, formatPosition, type Leg, midway, type NodePosition, whole } from "./position.ts"
import { DurableRing } from "./durableRing.ts"

/** One message of a durable channel. */
export interface DurableEvent {
  /** The id of the message, as text: 64 bits. */
  readonly id: string
  /** The transaction that wrote it. */
  readonly tx: string
  /** When it was written, in milliseconds since 1970. */
  readonly at: number
  /** The payload: JSON as its writer spelled it. It may contain line feeds, which a frame must not. */
  readonly text: string
  /** Of a row the texts by which it is routed and filtered, before and after, as JSON. */
  readonly match?: string | undefined
  /** Of a publish the trace context of its publisher, as its writer spelled it. */
  readonly trace?: string | undefined
}

/** Events of one channel that travel together, with the position after the last of them. */
export interface DurableBatch {
  readonly _tag: "Batch"
  readonly channel: string
  /** The position before the first of these events. */
  readonly from: string
  /** The position after the last of these events. */
  readonly cursor: string
  /** The tick of this node's reader to which the batch belongs; 0 in a replay. */
  readonly tick: number
  /** Whether it ends in the middle of a tick, so that another item ends that. */
  readonly isMidway: boolean
  readonly events: ReadonlyArray<DurableEvent>
  /** The position after the event with this index. */
  readonly cursorAt: (index: number) => string
}

/** Events may be missing here; everything after `cursor` is complete. */
export interface DurableGap {
  readonly _tag: "Gap"
  /**
   * `source`: the database is another one or was restored, or lost in a crash or a failover events that
   * were handed out. `retention`: the next events were pruned.
   */
  readonly reason: "source" | "retention"
  /** The position from which events follow. */
  readonly cursor: string
  /** The tick of this node's reader to which the gap belongs. */
  readonly tick: number
}

/** A newer position without events, so that a quiet channel's position does not age out. */
export interface DurablePosition {
  readonly _tag: "Position"
  readonly cursor: string
  readonly tick: number
  /** Where it only ends a tick of which a batch of the channel had a part: the cursor of that batch. */
  readonly ends?: string
}

/** What the reader hands to a follower. */
export type Item = DurableBatch | DurableGap | DurablePosition

/** Receives the items of one channel. */
export interface Follower {
  readonly offer: (item: Item) => void
}

/** The most payload of a batch in UTF-16 units, which only a single event exceeds. A frame holds one batch. */
export const maxBatchText = 64 * 1024
/** The most events in a batch. */
export const maxBatchEvents = 256

/**
 * The messages of one page of a leg as batches of their channels. Each batch has its own cursor, so that a
 * follower with a batch has its position, also in the middle of a page. `start` is the position before the
 * page.
 */
export const batchesOfPage = (
  page: Page,
  leg: Leg,
  start: NodePosition,
  identity: string,
  tick: number,
  /** The channels to which a message of a channel goes. */
  targets: (channel: string) => ReadonlyArray<string>
): ReadonlyArray<DurableBatch> => {
  const { messages, position } = page
  const last = messages[messages.length - 1]
  if (last === undefined) return []
  const text = (position: NodePosition) => formatPosition(identity, position)
  const from = text(start)
  const end = text(position)
  const byChannel = new Map<string, Array<Message>>()
  for (const message of messages) {
    for (const channel of targets(message.channel)) {
      const list = byChannel.get(channel)
      if (list === undefined) byChannel.set(channel, [message])
      else list.push(message)
    }
  }
  const batches: Array<DurableBatch> = []
  for (const [channel, list] of byChannel) {
    let before = from
    let events: Array<DurableEvent> = []
    let size = 0
    for (const [index, { at, id, match, text: payload, trace, tx }] of list.entries()) {
      events.push({ id, tx, at, text: payload, match, trace })
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
        // Cursors in the middle of a batch are rarely used.
        const cursorAt = (index: number) =>
          index === held.length - 1 ? cursor : behind(held[index]!.id)
        const isMidway = next !== undefined || position.next !== undefined
        batches.push({
          _tag: "Batch",
          channel,
          from: before,
          cursor,
          tick,
          isMidway,
          events,
          cursorAt
        })
        before = cursor
        events = []
        size = 0
      }
    }
  }
  return batches
}

/** The state of a node's reader. It exists once the reader took a position. */
export class Tail {
  readonly identity: string
  /** The era of the database to which this state belongs. */
  era: string
  readonly floors = new Floors()
  /** The position up to which the reader handed out messages. */
  position: NodePosition
  /** The end of the tick in progress. */
  taken: Take
  tick: number
  /** Whether everything up to that end was handed out. */
  finished = true
  /** The channels read in the tick in progress, also when another session finishes it. */
  channels: Channels = []
  /** Of those whose last batch ends in the middle of that tick: its cursor. */
  readonly midway = new Map<string, string>()
  #end: string | undefined

  /** `pairs` are those of earlier readers, in their order, as the database keeps them. */
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
      // A pair ahead of this position is of another history, and would hide messages until then.
      if (next <= taken.next && drawn <= taken.drawn) this.floors.add(next, drawn)
    }
    this.floors.add(taken.next, taken.drawn)
  }

  /** Keeps what holds while the witness is there: the session is gone, and perhaps the era. */
  rest(): void {
    const { last, normal } = this.taken
    this.position = atRest(this.position)
    this.taken = { ...this.taken, snapshot: normal }
    this.floors.forget(last.tx)
  }

  /** Begins a tick for a gap, so that every follower that has attached gets it. */
  interject(): number {
    return ++this.tick
  }

  /** Begins a tick. A follower that attaches later starts at its end. */
  advance(taken: Take, channels: Channels): void {
    this.taken = taken
    this.channels = channels
    this.tick++
    this.finished = false
    this.#end = undefined
    this.floors.add(taken.next, taken.drawn)
  }

  /** A follower that attaches now gets everything after this cursor. */
  get end(): string {
    return (this.#end ??= formatPosition(this.identity, whole(this.taken)))
  }
}

/** The followers of each channel on this node, and the last batches handed to them. */
export class Followers {
  readonly #byChannel = new Map<
    string,
    { readonly set: Set<Follower>; readonly ring: DurableRing<DurableBatch> }
  >()
  /** The channels of tables with routes. */
  readonly #routed = new Set<string>()
  /** The budget of the rings. */
  readonly budget: Budget

  /** Runs when a channel is followed that was not, and when its last follower left. */
  onFollow: (channel: string) => void = () => undefined
  onLeave: (channel: string) => void = () => undefined
  /** Runs when everything was handed out that the last look could see, also where that was nothing. */
  onPresent: () => void = () => undefined

  constructor(limits: RingLimits) {
    this.budget = new Budget(limits)
  }

  /** Whether messages of a channel may be handed to followers. */
  reads(channel: string): boolean {
    return this.#byChannel.has(channel) || this.#routed.has(channel)
  }

  /** The number of followed channels. */
  get size(): number {
    return this.#byChannel.size
  }

  /**
   * From now on a channel whose name is this one, a colon and a value has the messages of both: of its own
   * route, and of the whole table.
   */
  route(table: string): void {
    if (this.#routed.has(table)) return
    this.#routed.add(table)
    this.onFollow(table)
    // A ring from before has a hole where the table's messages are.
    for (const channel of this.#routesOf(table)) this.#byChannel.get(channel)!.ring.clear()
  }

  /** The followed routes of a table. */
  #routesOf(table: string): ReadonlyArray<string> {
    return [...this.#byChannel.keys()].filter((channel) => this.tableOf(channel) === table)
  }

  /** The channel of the table of a route; `undefined` for other channels. */
  tableOf(channel: string): string | undefined {
    const colon = channel.indexOf(":")
    const table = colon < 0 ? "" : channel.slice(0, colon)
    return this.#routed.has(table) ? table : undefined
  }

  /** The channels to which a message of a channel goes. */
  readonly targets = (channel: string): ReadonlyArray<string> =>
    this.#routed.has(channel) ? [channel, ...this.#routesOf(channel)] : [channel]

  /** The channels whose messages are handed to followers. */
  get channels(): ReadonlyArray<string> {
    const names = new Set(this.#byChannel.keys())
    if (this.#routed.size > 0) {
      for (const channel of this.#byChannel.keys()) {
        const table = this.tableOf(channel)
        if (table !== undefined) names.add(table)
      }
    }
    return [...names]
  }

  /** Items of a channel from now on, until the scope closes; unbounded. */
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
      this.onFollow(channel)
    }
  }

  remove(channel: string, follower: Follower): void {
    const followed = this.#byChannel.get(channel)
    if (followed?.set.delete(follower) !== true || followed.set.size > 0) return
    // The reader does not read a channel without followers: the ring would have a hole.
    followed.ring.clear()
    this.#byChannel.delete(channel)
    if (!this.#routed.has(channel)) this.onLeave(channel)
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

  /**
   * Hands out a look in one step, so that the followers' batches and the position always agree. It begins
   * where the tail stands. With another end than that of the tick in progress, it begins the next tick.
   */
  look(tail: Tail, look: Look, now: number): void {
    const { end, to } = look
    if (end !== tail.taken) tail.advance(end, look.channels)
    const { midway } = tail
    const batches = batchesOfPage(
      { messages: look.messages, position: to },
      legOf(look),
      look.from,
      tail.identity,
      tail.tick,
      this.targets
    )
    for (const batch of batches) {
      this.hand(batch, now)
      if (batch.isMidway) midway.set(batch.channel, batch.cursor)
      else midway.delete(batch.channel)
    }
    tail.position = to
    if (to.next === undefined && to.base.snapshot === end.snapshot) this.finish(tail)
  }

  /**
   * The tick in progress was handed out. A channel without events in its last page receives the position of
   * the tick's end, because a position in the middle of a tick cannot be compared with a state.
   */
  finish(tail: Tail): void {
    const { end, midway, tick } = tail
    tail.finished = true
    this.onPresent()
    for (const [channel, ends] of midway) {
      for (const follower of this.#byChannel.get(channel)?.set ?? []) {
        follower.offer({ _tag: "Position", cursor: end, tick, ends })
      }
    }
    midway.clear()
  }

  /** All batches in the rings. */
  get remembered(): ReadonlyArray<DurableBatch> {
    return [...this.#byChannel.values()].flatMap(({ ring }) => ring.all)
  }

  /** The batches after a cursor; `undefined` when the ring does not hold it. */
  ringAfter(channel: string, cursor: string, now: number): ReadonlyArray<DurableBatch> | undefined {
    return this.#byChannel.get(channel)?.ring.after(cursor, now)
  }
}
