/**
 * A model of the database's outbox and of one node: transactions that overlap, ticks that are handed out
 * page by page, replays, one session. Requests and frames wait until the test lets them through.
 */
import * as Cursor from "../../../src/internal/cursorText.ts"
import type { ClientFrame, ServerFrame } from "../../../src/Frame.ts"
import type * as FakeSocket from "./FakeSocket.ts"

interface Message {
  readonly id: bigint
  readonly tx: bigint
  readonly channel: string
}

export const channel = "orders"
export const identity = "AAAAAAAA"

const empty = { base: { xmax: 1n, running: [] }, next: undefined, id: 0n }

/** Smaller than the server's, so that many ticks have several pages. */
const pageSize = 2

export const make = (server: FakeSocket.FakeServer) => {
  let nextTx = 1n
  let nextId = 1n
  const running = new Set<bigint>()
  const aborted = new Set<bigint>()
  const messages: Array<Message> = []
  const requests: Array<Extract<ClientFrame, { readonly id: number }>> = []
  const frames: Array<ServerFrame> = []
  /** The server cannot resume from these. */
  const forgotten = new Set<string>()
  let refusals = 0
  let on = false
  /** Handed out up to here, and the end of the tick in progress. */
  let at: Cursor.Position = empty
  let end = empty.base as Cursor.PgSnapshot
  /** A client that subscribed during a tick has received all of it already. */
  let joinedDuring = false

  const seen = (position: Cursor.Position) =>
    messages.filter(
      ({ id, tx }) => !running.has(tx) && !aborted.has(tx) && Cursor.seen(position, tx, id)
    )
  const top = (snapshot: Cursor.PgSnapshot) =>
    seen(Cursor.whole(snapshot)).reduce((top, { tx }) => (tx > top ? tx : top), 0n)
  const format = (position: Cursor.Position, at = 1n) => {
    const tx = top(position.next ?? position.base)
    const witness = tx === 0n ? { tx, id: 0n, at: 0n } : { tx, id: 1n, at }
    return Cursor.formatDurable({ identity, position, witness })
  }
  /** The present in normal form. */
  const snapshot = (): Cursor.PgSnapshot => {
    const raw = { xmax: nextTx, running: [...running].toSorted((a, b) => Number(a - b)) }
    return Cursor.normal(raw, top(raw))
  }
  const between = (from: Cursor.Position, to: Cursor.PgSnapshot) => {
    const before = new Set(seen(from))
    return seen(Cursor.whole(to))
      .filter((message) => !before.has(message))
      .toSorted((a, b) => Number(a.id - b.id))
  }
  const events = (batch: ReadonlyArray<Message>, cursor: string): ServerFrame => ({
    type: "events",
    channel,
    cursor,
    events: batch.map(({ id, tx }) => ({
      id: `${id}`,
      at: "2026-11-22T00:00:00.000Z",
      data: Number(id),
      tx: `${tx}`
    }))
  })
  /** The next page of a difference, and the position after it. First what is left of one begun earlier. */
  const pageOf = (from: Cursor.Position, to: Cursor.PgSnapshot, only?: string) => {
    const leg = from.next ?? to
    const rest = between(from, leg).filter(
      (message) => only === undefined || message.channel === only
    )
    const page = rest.slice(0, pageSize)
    const position =
      rest.length > pageSize ? Cursor.midway(from.base, leg, page.at(-1)!.id) : Cursor.whole(leg)
    return { page, position }
  }
  const isAt = (to: Cursor.PgSnapshot) => at.next === undefined && Cursor.contains(at.base, to)

  const outbox = {
    requests,
    frames,
    /** The ids that a cursor has behind it on the channel. */
    behind: (cursor: string) =>
      seen(Cursor.readDurable(cursor)!.position).flatMap((message) =>
        message.channel === channel ? [Number(message.id)] : []
      ),
    /** How many transactions are in progress. */
    get running() {
      return running.size
    },
    get committed() {
      return outbox.behind(outbox.snapshot())
    },
    begin: () => {
      running.add(nextTx++)
    },
    /** The `n`th transaction in progress writes. */
    write: (n: number, to: string) => {
      const tx = [...running][n % running.size]
      if (tx !== undefined) messages.push({ id: nextId++, tx, channel: to })
    },
    over: (n: number, rollback: boolean) => {
      const tx = [...running][n % running.size]
      if (tx === undefined) return
      running.delete(tx)
      if (rollback) aborted.add(tx)
    },
    /** The same position, which the server cannot honour. */
    forget: (cursor: string) => {
      const lost = format(Cursor.readDurable(cursor)!.position, 2n)
      if (lost !== cursor) forgotten.add(lost)
      return lost
    },
    remember: (cursor: string) => forgotten.delete(cursor),
    isForgotten: (cursor: string) => forgotten.has(cursor),
    snapshot: () => format(Cursor.whole(snapshot())),
    /** A page of the tick in progress, or a new tick. */
    tick: () => {
      if (isAt(end)) {
        end = snapshot()
        joinedDuring = false
      }
      const { page, position } = pageOf(at, end)
      at = position
      const mine = page.filter((message) => message.channel === channel)
      if (on && !joinedDuring) {
        if (mine.length > 0) frames.push(events(mine, format(at)))
        // A channel whose batch ended in the middle of the tick receives its end.
        else if (isAt(end)) frames.push({ type: "cursor", channel, cursor: format(at) })
      }
    },
    /** The server takes the next request. */
    hear: () => {
      const frame = requests.shift()
      if (frame === undefined) return
      const { id } = frame
      if (frame.type === "unsubscribe") {
        on = false
        return void frames.push({ type: "unsubscribed", id, channel })
      }
      if (frame.type !== "subscribe") return
      if (on) throw new Error("subscribed twice")
      if (refusals > 0) {
        refusals--
        const error = { code: "source/down", message: "Soon.", retry: "later" } as const
        return void frames.push({ type: "error", id, ...error, retryAfter: 3 })
      }
      on = true
      const { cursor } = frame
      const read = cursor === undefined ? undefined : Cursor.parseDurable(cursor)
      // Until the end of the tick in progress contains the cursor.
      if (read !== undefined) while (!Cursor.dominates(end, read.position)) outbox.tick()
      joinedDuring = !isAt(end)
      const answer = { type: "subscribed", id, channel } as const
      const present = format(Cursor.whole(end))
      if (cursor === undefined) {
        return void frames.push({ ...answer, state: "fresh", cursor: present })
      }
      if (read === undefined || read.identity !== identity || forgotten.has(cursor)) {
        return void frames.push({ ...answer, state: "reset", cursor: present })
      }
      frames.push({ ...answer, state: "recovered", cursor })
      for (let from = read.position; from.next !== undefined || !Cursor.contains(from.base, end);) {
        const { page, position } = pageOf(from, end, channel)
        from = position
        if (page.length > 0) frames.push(events(page, format(from)))
      }
    },
    /** The client hears the next frame. */
    say: () => {
      const frame = frames.shift()
      if (frame !== undefined) server.last.say(frame)
    },
    refuse: () => {
      refusals++
    },
    end: () => {
      if (!on) return
      on = false
      const error = { code: "source/down", message: "Soon.", retry: "later" } as const
      frames.push({ type: "ended", channel, ...error })
    },
    drop: () => {
      server.last.drop()
    }
  }
  server.heard = (socket, frame) => {
    if (frame.type === "hello") {
      on = false
      requests.length = frames.length = 0
      server.answer(socket, frame)
    } else if ("id" in frame) requests.push(frame)
  }
  return outbox
}

export type Outbox = ReturnType<typeof make>
