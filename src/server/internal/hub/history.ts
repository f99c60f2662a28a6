/**
 * Pages of a channel backwards, decoded by its definition.
 *
 * In: messages of the outbox or of a node's ring, as they are kept. Out: a page of events. Texts that report
 * a gap, rows outside of the subscriber's boundary, and messages that do not match the schema are left out;
 * the last are counted and logged. A page is empty only at the end of the history, however many messages
 * are left out, because its oldest event says where the next one begins.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Channel from "../../../Channel.ts"
import * as Cursor from "../../../internal/cursorText.ts"
import { historyLimit } from "../../../internal/defaults.ts"
import type { HistoryOptions, HistoryPage } from "../../../RealtimeEvent.ts"
import type { OutboxReader } from "../../OutboxReader.ts"
import { type Filter, make as filterOf } from "../filter.ts"
import type { JoinError } from "../outbox/catchUp.ts"
import { lastId } from "../outbox/history.ts"
import { most, turns } from "../eventLoopTurns.ts"
import type { BatchEvent } from "./batch.ts"
import type { HistoryError, Past, PastRequest, ReadPast } from "./delivery.ts"
import { NoHistory } from "./errors.ts"
import { Told } from "./gapCounter.ts"
import { Missing } from "./invalidMessage.ts"
import { Judged } from "./judged.ts"
import type { LiveChannel } from "./liveChannel.ts"
import { View } from "./view.ts"

/** The most events of a page. */
const maxLimit = 1000
/** A page ends with the event that crosses so many bytes of payload. */
const pageBytes = 256 * 1024

/** A message, as the outbox or a ring has it. */
interface StoredMessage {
  readonly id: string
  readonly at: number
  readonly tx?: string
  readonly text: string
  readonly match?: string | undefined
}

/** What a subscriber has of a message; `undefined` for nothing. */
const eventOf = (
  view: View,
  kept: StoredMessage,
  filter: Filter | undefined,
  wire: boolean
): BatchEvent | Missing | undefined => {
  const { at, id, text, tx } = kept
  return filter === undefined || tx === undefined
    ? view.decode(id, at, tx, text, wire)
    : new Judged({ ...kept, tx }, view).of(filter)
}

interface StoredPage {
  /** The oldest first. */
  readonly events: ReadonlyArray<StoredMessage>
  readonly more: boolean
  /** Where the page before it ends. Default: at the oldest message. */
  readonly before?: string | undefined
}

/** The messages of a page in parts that one step of the loop decodes. */
const partsOf = function* (messages: ReadonlyArray<StoredMessage>) {
  let from = 0
  let bytes = 0
  for (const [index, { text }] of messages.entries()) {
    if (index > from && (index - from >= most.events || bytes + text.length > most.bytes)) {
      yield { part: messages.slice(from, index), bytes }
      from = index
      bytes = 0
    }
    bytes += text.length
  }
  if (from < messages.length) yield { part: messages.slice(from), bytes }
}

/** Reads pages of messages until one has an event. */
const pastOf = (
  channel: Channel.Any,
  { before, boundary, limit: asked, wire }: PastRequest,
  told: Told,
  page: (request: {
    readonly before: string | undefined
    readonly limit: number
    readonly bytes: number
    readonly filter: Filter | undefined
  }) => Effect.Effect<StoredPage, JoinError>
): Effect.Effect<Past, JoinError> =>
  Effect.gen(function* () {
    const view = new View<never>(channel, () => Effect.die(new Error("not joined")), true)
    const filter = filterOf(boundary)
    const limit = Math.min(Math.max(asked, 1), maxLimit)
    const read = { events: 0, bytes: 0 }
    while (true) {
      // What is left out is read in larger pages.
      const size = read.events === 0 ? limit : Math.max(limit, most.events)
      const found = yield* page({ before, limit: size, bytes: pageBytes, filter })
      const events: Array<BatchEvent> = []
      const missing: Array<Missing> = []
      for (const { bytes, part } of partsOf(found.events)) {
        yield* turns.take({ events: part.length, bytes })
        read.events += part.length
        read.bytes += bytes
        for (const kept of part) {
          const event = eventOf(view, kept, filter, wire)
          if (event instanceof Missing) missing.push(event)
          else if (event !== undefined) events.push(event)
        }
      }
      yield* told.tell(channel.name, missing)
      if (events.length > 0 || !found.more) {
        const more = events.length > limit || found.more
        return { events: events.slice(-limit), more, bytes: read.bytes }
      }
      before = found.before ?? found.events[0]!.id
    }
  })

const fate = "is left out of the history"

/** The history of durable channels: what the outbox keeps. A route has no messages of its table. */
export const ofOutbox = (outbox: OutboxReader["Service"]): ReadPast => {
  const told = new Told(fate)
  return (channel, request) =>
    Effect.suspend((): Effect.Effect<Past, HistoryError> => {
      const { fault, name } = channel
      const { before } = request
      const { history } = outbox
      if (fault !== undefined) return Effect.fail(fault)
      if (history === undefined)
        return Effect.fail(new NoHistory({ channel: name, reason: "reader" }))
      if (before !== undefined && !(/^\d{1,19}$/.test(before) && BigInt(before) <= lastId)) {
        return Effect.fail(new NoHistory({ channel: name, reason: "before" }))
      }
      return pastOf(channel, request, told, (page) => history(name, page))
    })
}

/** The history of live channels: what the ring of an open channel holds. */
export const ofRings = (opened: ReadonlyMap<string, LiveChannel>): ReadPast => {
  const told = new Told(fate)
  return (channel, request) =>
    Effect.suspend((): Effect.Effect<Past, HistoryError> => {
      const { fault, name } = channel
      const { before } = request
      if (fault !== undefined) return Effect.fail(fault)
      if (before !== undefined && Cursor.parseLive(before) === undefined) {
        return Effect.fail(new NoHistory({ channel: name, reason: "before" }))
      }
      return pastOf(channel, request, told, (page) =>
        Effect.map(Clock.currentTimeMillis, (now) =>
          lastOf(opened.get(name)?.past(page.before, now) ?? [], page)
        )
      )
    })
}

const lastOf = (
  all: ReadonlyArray<StoredMessage>,
  { bytes, limit }: { readonly bytes: number; readonly limit: number }
): StoredPage => {
  let size = 0
  let from = all.length
  while (from > 0 && all.length - from < limit && size < bytes) size += all[--from]!.text.length
  return { events: all.slice(from), more: from > 0 }
}

/** A page for a program of this process. The channel's codec decodes it, so its payloads are of type A. */
export const pageFor = <A>(
  read: ReadPast,
  channel: Channel.Any,
  { before, limit = historyLimit }: HistoryOptions = {}
): Effect.Effect<HistoryPage<A>, HistoryError> =>
  Effect.map(read(channel, { before, limit, wire: false }), ({ events, more }) => ({
    events: events.map(({ at, id, payload, tx }) => ({
      _tag: "Event",
      channel: channel.name,
      id,
      at: new Date(at),
      payload: payload as A,
      cursor: undefined,
      tx
    })),
    more
  }))

/** The history of volatile channels. */
export const ofNothing: ReadPast = ({ name }) =>
  Effect.fail(new NoHistory({ channel: name, reason: "volatile" }))
