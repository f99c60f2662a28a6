/**
 * A node's reader of the outbox in memory: the contract of `OutboxReader` over a `MemoryTable`.
 *
 * Each transaction is a tick of its own, handed out in the step in which it commits. Positions, batches,
 * rings and the Stream of one consumer are those of the real reader. Where that queries PostgreSQL, this
 * one reads the table without waiting, so there is nothing to page in turns or to share.
 */
import { pgInstaller as Defaults } from "../../../internal/defaults.ts"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { checked, type InvalidOption, millis } from "../options.ts"
import * as Cursor from "../../../internal/cursorText.ts"
import type { SourceState } from "../../NotificationSource.ts"
import { waitUntilUp } from "../waitUntilUp.ts"
import { type Join, type Options, OutboxReader, type Part } from "../../OutboxReader.ts"
import type { Filter } from "../filter.ts"
import {
  add,
  type Bounds,
  frameEventBytes,
  exceeds,
  fitting,
  frameBytes,
  nothing
} from "./replayBounds.ts"
import { at, type CatchUp } from "./catchUp.ts"
import { durableStream } from "./durableStream.ts"
import { gapOf } from "../gapText.ts"
import type { HistoryPage } from "./history.ts"
import type { MemoryTable } from "./memoryTable.ts"
import type { PageLimits } from "./outbox.ts"
import { PublishRefused } from "./outboxPublish.ts"
import {
  endOf,
  formatPosition,
  isEmpty,
  legs,
  type NodePosition,
  type Place,
  positionOf,
  whole
} from "./position.ts"
import * as Settings from "./readerOptions.ts"
import { batchesOfPage, type DurableBatch, type DurableEvent, Followers, Tail } from "./tail.ts"
import { traceOfFiber } from "../tracing.ts"

/** The options of `OutboxReader` that apply without a session of PostgreSQL. */
export interface MemoryReaderOptions extends Pick<
  Options,
  | "maxBacklog"
  | "maxPageBytes"
  | "maxPageMessages"
  | "maxMemoryAge"
  | "maxMemoryBytes"
  | "maxMemoryEvents"
  | "maxReplayBytes"
  | "maxReplayEvents"
  | "positionInterval"
> {
  /** How long messages are kept at least, default 24 hours. */
  readonly retention?: Duration.Input | undefined
}

/** The prefix of channels to which only the triggers of a table publish. */
const ofTables = "table_updates_"

/** The last event of a channel; texts that report a gap are none. */
const lastOf = (table: MemoryTable, channel: string): DurableEvent | undefined => {
  let page: HistoryPage | undefined
  do {
    const before = page?.events[0]?.id
    page = table.before(channel, { before, limit: 1, bytes: 1 })
  } while (page.more && gapOf(page.events[0]!.text) !== undefined)
  return page.events.find(({ text }) => gapOf(text) === undefined)
}

/** Reads until the scope closes. Messages that are already in the table are not handed out. */
export const make = (
  table: MemoryTable,
  options: MemoryReaderOptions | undefined
): Effect.Effect<OutboxReader["Service"], InvalidOption, Scope.Scope> =>
  Effect.gen(function* () {
    const {
      backlog,
      bounds: socketBounds,
      limits,
      positionInterval,
      recent,
      retention
    } = yield* checked(() => ({
      ...Settings.shared(options ?? {}),
      retention: millis("retention", options?.retention ?? Defaults.retention)
    }))
    const followers = new Followers(recent)
    const state = yield* SubscriptionRef.make<SourceState>("down")
    let tail: Tail | undefined
    let up = false

    /** Takes the first position, or a new one after a loss, with a gap for every follower. */
    const begin = (reason: "source" | "retention"): Tail => {
      const before = tail
      const fresh = new Tail(table.identity, table.era, table.take(), (before?.tick ?? 0) + 1, [])
      tail = fresh
      if (before !== undefined) {
        followers.tell({ _tag: "Gap", reason, cursor: fresh.end, tick: fresh.tick })
      }
      return fresh
    }

    /** Whether messages are being handed out: a follower may commit one meanwhile. */
    let looking = false

    /** Hands out the messages committed since the last look. */
    const look = (now: number): void => {
      if (looking) return
      looking = true
      while (handOut(now));
      looking = false
    }

    /** Hands out one tick. Returns whether messages may follow it. */
    const handOut = (now: number): boolean => {
      const current = tail
      const taken = table.take()
      if (!up || current === undefined || taken.next === current.taken.next) return false
      const { channels } = followers
      const wanted = new Set(channels)
      for (const leg of legs(current.position, taken)) {
        let next = { ...leg }
        let more = true
        while (more) {
          const page = table.page(next, limits, wanted)
          if (page === "retention") {
            begin("retention")
            return false
          }
          more = page.position.next !== undefined
          const { messages, position } = page
          followers.look(
            current,
            { from: current.position, to: position, end: taken, channels, messages },
            now
          )
          next = { ...leg, id: page.position.id }
        }
      }
      return true
    }

    /** Continues at the last position, if the table still has it. */
    const resume = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      up = true
      if (tail === undefined) begin("source")
      else {
        tail.rest()
        // Only the last transactions can be lost, so with the witness every message handed out is there.
        if (table.stands(tail.taken.last)) tail.era = table.era
        else begin(table.hides(tail.taken.normal) ? "retention" : "source")
        look(now)
      }
      yield* SubscriptionRef.set(state, "up")
    })

    const down = Effect.suspend(() => {
      up = false
      return SubscriptionRef.set(state, "down")
    })

    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const reading = { look, down, up: resume }
        table.readers.add(reading)
        return reading
      }),
      (reading) => Effect.sync(() => table.readers.delete(reading))
    )
    if (table.state === "heard") yield* resume

    const every = Math.min(positionInterval, retention / 4)
    yield* Effect.sleep(every).pipe(
      Effect.andThen(Clock.currentTimeMillis),
      Effect.map((now) => {
        if (!up || tail === undefined) return
        table.forget(now - retention)
        followers.tell({ _tag: "Position", cursor: tail.end, tick: tail.tick })
      }),
      Effect.forever,
      Effect.forkScoped
    )

    /** The tail once the reader is up. Synchronous when it is up already. */
    const current: Effect.Effect<Tail> = Effect.suspend(() =>
      up && tail !== undefined
        ? Effect.succeed(tail)
        : Effect.flatMap(waitUntilUp(state), () => current)
    )

    /** Reads from the tail in one step: the reader hands out nothing in between. */
    const standing = <A>(ask: (tail: Tail) => A): Effect.Effect<A> =>
      Effect.map(current, (one) => ask(tail ?? one))

    const page = (
      tail: Tail,
      channel: string,
      from: NodePosition,
      to: Place,
      most: PageLimits = limits,
      filter?: Filter
    ) => {
      let start = from
      const remaining = legs(from, to)
      const channels = new Set([channel, followers.tableOf(channel) ?? channel])
      for (const [index, leg] of remaining.entries()) {
        if (isEmpty(leg)) {
          start = endOf(leg)
          continue
        }
        const page = table.page(leg, most, channels, filter)
        if (page === "retention") return { _tag: "Reset", reason: "retention" } as const
        if (!table.stands(leg.last)) return { _tag: "Reset", reason: "witness" } as const
        const done = index === remaining.length - 1 && page.position.next === undefined
        if (page.messages.length > 0 || done) {
          const batches = batchesOfPage(page, leg, start, tail.identity, 0, () => [channel])
          return { _tag: "Page", batches, position: page.position, done } as const
        }
        start = page.position
      }
      return { _tag: "Page", batches: [], position: start, done: true } as const
    }

    /** The cursor before everything that is kept, for `oldest`; else the cursor itself. */
    const resolve = (tail: Tail, from: string) =>
      from === Cursor.oldest ? formatPosition(tail.identity, whole(table.oldest())) : from

    const locate = (tail: Tail, given: string) => {
      const from = resolve(tail, given)
      const cursor = Cursor.parseDurable(from)
      if (cursor === undefined) return { tail, reason: "malformed" } as const
      if (cursor.identity !== tail.identity) return { tail, reason: "identity" } as const
      if (!table.stands(cursor.witness)) {
        const reason = table.hides(cursor.position.base) ? "retention" : "witness"
        return { tail, reason } as const
      }
      const { taken, tick } = tail
      const { last, normal } = taken
      if (!Cursor.dominates(normal, cursor.position)) return { tail, reason: "future" } as const
      const to = { snapshot: normal, normal, last }
      return { tail, tick, position: positionOf(cursor), to, reason: undefined } as const
    }

    const joined = (
      tail: Tail,
      now: number,
      channel: string,
      given: string | undefined,
      bounds: Bounds = socketBounds,
      part?: Part,
      filter?: Filter
    ): Join => {
      if (given === undefined) return at(tail, undefined)
      const from = resolve(tail, given)
      if (part !== undefined && exceeds(part.missed, bounds)) return at(tail, "bounds")
      const { tick } = tail
      const room = Math.max(1, part?.room ?? Infinity)
      const recovered = { state: "recovered", reason: undefined, cursor: from, tick } as const
      const handed = followers.ringAfter(channel, from, now)
      const remembered = handed && fitting(handed, bounds, room)
      if (remembered !== undefined) return { ...recovered, ...remembered, end: tail.end }
      const found = locate(tail, from)
      if (found.reason !== undefined) return at(tail, found.reason)
      const replay: Array<DurableBatch> = []
      let next: NodePosition = found.position
      let size = nothing
      let more = true
      for (let left = room; more && left > 0; left = room - frameBytes(size)) {
        const most = {
          messages: Math.min(limits.messages, Math.ceil(left / frameEventBytes)),
          bytes: Math.min(limits.bytes, left)
        }
        const one = page(tail, channel, next, found.to, most, filter)
        if (one._tag === "Reset") return at(tail, one.reason, size.bytes)
        replay.push(...one.batches)
        size = add(size, one.batches)
        if (exceeds(size, bounds)) return at(tail, "bounds", size.bytes)
        more = !one.done
        next = one.position
      }
      const end = formatPosition(tail.identity, whole(found.to))
      return { ...recovered, replay, end, more, bytes: size.bytes }
    }

    const join: OutboxReader["Service"]["join"] = (channel, from, bounds, part, _lease, filter) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        standing((tail) => joined(tail, now, channel, from, bounds, part, filter))
      )

    const catchUp = (filter: Filter | undefined): CatchUp => ({
      join,
      locate: (_, from) => standing((tail) => locate(tail, from)),
      page: (tail, channel, from, to, most) =>
        standing(() => page(tail, channel, from, to, most, filter))
    })

    return OutboxReader.of({
      routed: (table) => Effect.sync(() => followers.route(table)),
      follow: (channel) =>
        Effect.gen(function* () {
          const queue = yield* followers.follow(channel)
          yield* current
          return queue
        }),
      join,
      history: (channel, request) => standing(() => table.before(channel, request)),
      last: (channel) =>
        standing(({ identity }) => ({
          cursor: formatPosition(identity, whole(table.take())),
          event: lastOf(table, channel)
        })),
      rows: (request) =>
        Effect.flatMap(
          standing(({ end }) =>
            Result.map(table.rows.read(request), (rows) => ({ cursor: end, rows }))
          ),
          Effect.fromResult
        ),
      secret: Effect.sync(() => table.secret),
      batches: (channel, options) =>
        durableStream({
          channel,
          from: options?.from,
          filter: options?.filter,
          backlog,
          followers,
          current,
          catchUp: catchUp(options?.filter)
        }),
      publish: (channel, text, key, sent) =>
        channel.startsWith(ofTables)
          ? Effect.fail(new PublishRefused({ channel, reason: "table" }))
          : Effect.flatMap(traceOfFiber, (trace) =>
              table.commit([{ channel, text, key, sent, trace }])
            ),
      published: (channel, text, key, sent) => table.published({ channel, text, key, sent }),
      position: standing(({ end }) => end),
      state
    })
  })
