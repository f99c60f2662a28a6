/**
 * A model of a table with its outbox and of one node's session: commits, states at positions of the past,
 * gaps, views that are renamed, a link that breaks. Requests and frames wait until the test lets them
 * through. Position `n` is behind the first `n` commits.
 */
import type { ClientFrame, ServerFrame } from "../../../src/Frame.ts"
import { readDurable } from "../../../src/internal/cursorText.ts"
import type * as FakeSocket from "./FakeSocket.ts"
import { at, channel, row } from "./rows.ts"

interface Change {
  readonly operation: "INSERT" | "UPDATE" | "DELETE"
  readonly id: number
  readonly owner: string
}

type Request = Extract<ClientFrame, { readonly id: number }>

export const positionOf = (cursor: string) => Number(readDurable(cursor)!.position.base.xmax) - 1

const keys = [1, 2, 3, 4, 5]

export const make = (server: FakeSocket.FakeServer) => {
  const commits: Array<ReadonlyArray<Change>> = []
  /** The rows behind each position: the owner of each key, which names the commit. */
  const selects: Array<ReadonlyMap<number, string>> = [new Map()]
  const requests: Array<Request> = []
  const frames: Array<ServerFrame> = []
  const forgotten = new Set<string>()
  let refusals = 0
  let on = false
  let isStated = false
  /** The stream has sent everything up to here. */
  let sent = 0
  let label = 0
  /** The position of the last gap after which a state is due, and the requests that wait for one. */
  let due: number | undefined
  let ids: Array<number> = []

  const head = () => commits.length
  const named = () => (label === 0 ? {} : { view: `v${label}` })
  const eventsOf = (position: number): ServerFrame => ({
    type: "events",
    channel,
    ...named(),
    cursor: at(position),
    events: commits[position - 1]!.map(({ id, operation, owner }, index) => ({
      id: `${position * 10 + index}`,
      at: "2026-11-29T00:00:00.000Z",
      tx: `${position}`,
      data: {
        operation,
        key: { id },
        data: row(id, "new", owner)
      }
    }))
  })
  const states = (position: number, parts: number, first: ReadonlyArray<number>) => {
    const rows = [...selects[position]!].map(([id, owner]) => row(id, "new", owner))
    const state = { type: "state", channel, ...named(), cursor: at(position) } as const
    for (const id of first) frames.push({ ...state, id, rows: [], more: true })
    const size = Math.max(1, Math.ceil(rows.length / parts))
    for (let from = 0; from === 0 || from < rows.length; from += size) {
      const more = from + size < rows.length
      frames.push({ ...state, rows: rows.slice(from, from + size), more })
    }
    sent = position
  }
  const gap = (reason: string, rest: object) => {
    // A state that is not sent whole ends with a gap, and the events from its cursor wait for it.
    const begun = frames.findIndex(({ type }) => type === "state")
    if (begun >= 0) {
      const behind = frames.splice(begun)
      frames.push(...behind.filter(({ type }) => !["state", "events", "cursor"].includes(type)))
    }
    sent = head()
    if (isStated) due = sent
    return { type: "gap", channel, ...named(), reason, cursor: at(sent), ...rest } as ServerFrame
  }

  const table = {
    requests,
    frames,
    selects,
    head,
    /** Some changes of the keys, each of a row that is or is not there. */
    commit: (n: number) => {
      const rows = new Map(selects.at(-1))
      const changes: Array<Change> = []
      for (let index = 0; index <= n % 3; index++) {
        const id = keys[(n + index * 2) % keys.length]!
        const before = rows.get(id)
        const owner = `${head() + 1}`
        if (before === undefined) {
          changes.push({ operation: "INSERT", id, owner })
          rows.set(id, owner)
        } else if ((n + index) % 2 === 0) {
          changes.push({ operation: "DELETE", id, owner: before })
          rows.delete(id)
        } else {
          changes.push({ operation: "UPDATE", id, owner })
          rows.set(id, owner)
        }
      }
      commits.push(changes)
      selects.push(rows)
    },
    /** Sends the next commit. */
    tick: () => {
      if (on && sent < head()) frames.push(eventsOf(++sent))
    },
    idle: () => {
      if (on) frames.push({ type: "cursor", channel, ...named(), cursor: at(sent) })
    },
    gap: () => {
      if (on) frames.push(gap("source", {}))
    },
    rights: () => {
      if (!on) return
      const told = gap("rights", { now: `v${label + 1}` })
      label++
      frames.push(told)
    },
    /** The state that is due, as of a position of the past. */
    load: (n: number) => {
      if (!on || (due === undefined && ids.length === 0)) return
      const oldest = due ?? Math.max(0, head() - 2)
      states(oldest + (n % (head() - oldest + 1)), 1 + (n % 3), ids)
      due = undefined
      ids = []
    },
    refuse: () => {
      refusals++
    },
    end: () => {
      if (!on) return
      on = false
      frames.push({
        type: "ended",
        channel,
        ...named(),
        code: "source/down",
        message: "Soon.",
        retry: "later"
      })
      for (const id of ids.splice(0)) frames.push(refusal(id))
    },
    forget: () => {
      for (let position = 0; position <= head(); position++) forgotten.add(at(position))
    },
    remember: () => forgotten.clear(),
    /** The server takes the next request. */
    hear: (n: number) => {
      const frame = requests.shift()
      if (frame === undefined) return
      const { id } = frame
      if (frame.type === "unsubscribe") {
        on = false
        for (const id of ids.splice(0)) frames.push(refusal(id))
        return void frames.push({ type: "unsubscribed", id, channel })
      }
      if (refusals > 0) {
        refusals--
        return void frames.push(refusal(id))
      }
      if (frame.type === "state") {
        // It may come when the subscription is over.
        if (on) ids.push(id)
        else frames.push(refusal(id))
      }
      if (frame.type !== "subscribe") return
      if (on) throw new Error("subscribed twice")
      on = true
      due = undefined
      isStated = frame.state === true
      const { cursor } = frame
      const how = cursor === undefined ? "fresh" : forgotten.has(cursor) ? "reset" : "recovered"
      sent = how === "recovered" ? positionOf(cursor!) : head()
      if (how !== "recovered" && isStated) sent = Math.max(0, head() - (n % 2))
      frames.push({ type: "subscribed", id, channel, state: how, cursor: at(sent), ...named() })
      if (how !== "recovered" && isStated) states(sent, 1 + (n % 3), [])
    },
    /** The client hears the next frame. */
    say: () => {
      const frame = frames.shift()
      if (frame !== undefined) server.last.say(frame)
      return frame
    },
    drop: () => server.last.drop()
  }
  const refusal = (id: number): ServerFrame => ({
    type: "error",
    id,
    code: "source/down",
    message: "Soon.",
    retry: "later",
    retryAfter: 3
  })
  server.heard = (socket, frame) => {
    if (frame.type === "ping") return server.answer(socket, frame)
    if (frame.type === "hello") {
      on = false
      requests.length = frames.length = ids.length = 0
      due = undefined
      server.answer(socket, frame)
    } else if ("id" in frame) requests.push(frame)
  }
  return table
}
