/** Reads of a `Collector` that end at a bad moment: beside a gap, without a subscription, on a live channel. */
import { Backoff, Channel, type RealtimeEvent } from "effect-realtime"
import { Collector } from "effect-realtime/client"
import * as Schema from "effect/Schema"
import { describe, expect, it } from "vitest"
import type { ServerFrame } from "../../src/Frame.ts"
import * as Cursor from "../../src/internal/cursorText.ts"
import { untilAsync } from "../support/until.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const Numbers = Channel.make("numbers", Schema.Finite)
type Values = ReadonlyArray<number>
const { events } = FakeSocket

/** The cursor of a state that has seen every transaction up to `tx`. */
const cursorAt = (tx: number) =>
  Cursor.formatDurable({
    identity: "AAAAAAAA",
    position: Cursor.whole({ xmax: BigInt(tx) + 1n, running: [] }),
    witness: { tx: BigInt(tx), id: 1n, at: 1n }
  })
const stateAt = (tx: number, ...value: Values): RealtimeEvent.Snapshot<Values> => ({
  _tag: "Snapshot",
  value,
  cursor: cursorAt(tx)
})

const make = () => {
  const server = FakeSocket.make({ auto: true })
  const client = Client.plain(server, {
    backoff: { ...Backoff.client, first: 10 },
    linger: 1,
    onError: () => {}
  })
  const errors: Array<unknown> = []
  /** What the collector's options are at the moment. */
  const options: Collector.Options<Values, number> = {
    initial: [],
    reduce: (list, n) => [...list, n],
    onError: (error) => errors.push(error)
  }
  const collected = (given: Partial<typeof options> = {}) => {
    Object.assign(options, given)
    const collector = Collector.make(client, Numbers, () => options)
    const stop = collector.subscribe(() => {})
    return {
      collector,
      stop,
      now: () => {
        const { status, value } = collector.getSnapshot()
        return `${status} ${value}`
      },
      error: () => collector.getSnapshot().error,
      reload: (load?: Collector.Load<Values>) => collector.getSnapshot().reload(load)
    }
  }
  /** The server has these transactions of a durable channel, each with an event, and replays them. */
  const outbox: Array<{ readonly tx: number; readonly data: unknown }> = []
  const frameBehind = (tx: number): ReadonlyArray<ServerFrame> => {
    const rest = outbox.filter((commit) => commit.tx > tx)
    if (rest.length === 0) return []
    return [
      {
        type: "events",
        channel: "numbers",
        cursor: cursorAt(rest.at(-1)!.tx),
        events: rest.map(({ data, tx }) => ({
          id: `${tx}`,
          at: "2026-11-22T00:00:00.000Z",
          data: data as never,
          tx: `${tx}`
        }))
      }
    ]
  }
  const present = () => outbox.at(-1)?.tx ?? 10
  const durable: typeof server.heard = (socket, frame) => {
    if (frame.type !== "subscribe") return server.answer(socket, frame)
    const { channel, cursor, id } = frame
    const subscribed = { type: "subscribed", id, channel } as const
    if (cursor === undefined) {
      return void socket.say({ ...subscribed, state: "fresh", cursor: cursorAt(present()) })
    }
    const from = Number(Cursor.readDurable(cursor)!.position.base.xmax) - 1
    socket.say({ ...subscribed, state: "recovered", cursor }, ...frameBehind(from))
  }
  /** Commits one transaction for each of these, from 11 on, and hands them out in one frame. */
  const commit = (...data: ReadonlyArray<unknown>) => {
    const before = present()
    outbox.push(...data.map((data, index) => ({ tx: before + 1 + index, data })))
    server.last.say(...frameBehind(before))
  }
  const subscribes = () => server.sent.filter(({ type }) => type === "subscribe").length
  return { client, collected, commit, durable, errors, options, outbox, server, subscribes }
}

describe("a read beside an event that does not decode", () => {
  it("loses nothing of the frame, and the value is stale", async () => {
    const { collected, commit, durable, errors, server } = make()
    server.heard = durable
    const { now, reload } = collected()
    await untilAsync(() => now() === "live ")
    const reading = Promise.withResolvers<RealtimeEvent.Snapshot<Values>>()
    const done = reload(() => reading.promise)
    commit(11, "bad", 13)
    reading.resolve(stateAt(10, 10))
    await done
    await untilAsync(() => now() === "stale 10,11,13")
    // A state that has the event heals it.
    await reload(() => stateAt(13, 10, 11, 12, 13))
    await untilAsync(() => now() === "live 10,11,12,13")
    expect(errors).toEqual([])
  })

  it("loses nothing before the gap, where `onGap` begins the read", async () => {
    const { collected, commit, durable, errors, server } = make()
    server.heard = durable
    const { now, reload } = collected({
      onGap: () => void reload(() => stateAt(10, 10))
    })
    await untilAsync(() => now() === "live ")
    commit(11, "bad", 13)
    await untilAsync(() => now() === "stale 10,11,13")
    expect(errors).toEqual([])
  })

  it("keeps all events of the frame behind a state without a cursor", async () => {
    const { collected, server, subscribes } = make()
    const { now, reload } = collected()
    await untilAsync(() => now() === "live ")
    const reading = Promise.withResolvers<Values>()
    const done = reload(() => reading.promise)
    server.last.say(events("numbers", 1, 1, "bad", 3))
    reading.resolve([0])
    await done
    await untilAsync(() => now() === "stale 0,1,3")
    expect(subscribes()).toBe(1)
  })
})

const later = { retry: "later", message: "Soon." } as const

describe("a value whose connection stopped and begins again", () => {
  it("is stale with the rejection while the server rejects the channel for now", async () => {
    const { client, collected, server } = make()
    const { error, now } = collected()
    await untilAsync(() => now() === "live ")
    server.last.drop(4200, "bye")
    await untilAsync(() => now() === "error ")
    server.heard = (socket, frame) => {
      if (frame.type !== "subscribe") return server.answer(socket, frame)
      const refusal = { code: "limit/subscriptions", ...later, retryAfter: 60_000 } as const
      socket.say({ type: "error", id: frame.id, ...refusal })
    }
    client.reconnect()
    await untilAsync(() => now() === "stale " && error() !== undefined)
    expect(error()).toMatchObject({ _tag: "Refused", code: "limit/subscriptions" })
  })

  it("is stale without an error while the server cannot be reached", async () => {
    const { client, collected, server } = make()
    const { error, now } = collected()
    await untilAsync(() => now() === "live ")
    server.last.drop(4200, "bye")
    await untilAsync(() => now() === "error ")
    server.heard = (socket) => socket.drop()
    client.reconnect()
    await untilAsync(() => client.connection.getSnapshot().status === "waiting")
    await untilAsync(() => now() === "stale ")
    expect(error()).toBeUndefined()
  })
})

describe("a state that is read without a subscription", () => {
  /** Rejects each subscription. */
  const rejects =
    (server: FakeSocket.FakeServer, retry: "later" | "never"): typeof server.heard =>
    (socket, frame) => {
      if (frame.type !== "subscribe") return server.answer(socket, frame)
      const refusal = {
        code: "channel/forbidden",
        message: "No.",
        retry,
        retryAfter: 60_000
      } as const
      socket.say({ type: "error", id: frame.id, ...refusal })
    }

  it("is shown while the link is away, and the stream goes on from it", async () => {
    const { collected, commit, durable, errors, server } = make()
    server.heard = durable
    const { now, reload } = collected()
    await untilAsync(() => now() === "live ")
    commit(11)
    await untilAsync(() => now() === "live 11")
    server.heard = (socket) => socket.drop()
    server.last.drop()
    await untilAsync(() => now() === "stale 11")
    commit(12, 13)
    await reload(() => stateAt(12, 10, 11, 12))
    await untilAsync(() => now() === "stale 10,11,12")
    server.heard = durable
    await untilAsync(() => now() === "live 10,11,12,13")
    expect(errors).toEqual([])
  })

  it.each(["later", "never"] as const)(
    "is shown, and reports nothing again, after %s",
    async (retry) => {
      const { collected, errors, server, subscribes } = make()
      server.heard = rejects(server, retry)
      const { error, now, reload } = collected({ load: () => stateAt(11, 11) })
      const status = retry === "later" ? "stale" : "error"
      await untilAsync(() => now() === `${status} `)
      await reload()
      await untilAsync(() => now() === `${status} 11`)
      expect(error()).toMatchObject({ _tag: "Refused", retry })
      expect([errors.length, subscribes()]).toEqual([1, 1])
    }
  )

  it("is shown when the link goes away before the stream has gone back to it", async () => {
    const { collected, commit, durable, errors, server } = make()
    server.heard = (socket, frame) => {
      if (frame.type !== "unsubscribe") return durable(socket, frame)
      server.heard = (next) => next.drop()
      queueMicrotask(() => socket.drop())
    }
    const { now } = collected({ load: () => stateAt(8, 8) })
    await untilAsync(() => now() === "stale 8")
    commit(11)
    server.heard = durable
    await untilAsync(() => now() === "live 8,11")
    expect(errors).toEqual([])
  })

  it("is where the stream begins, after the server accepts the channel", async () => {
    const { client, collected, commit, durable, errors, server } = make()
    server.heard = rejects(server, "later")
    const { now, reload } = collected()
    await untilAsync(() => now() === "stale ")
    await reload(() => stateAt(10, 10))
    await untilAsync(() => now() === "stale 10")
    commit(11)
    server.heard = durable
    server.last.drop()
    client.reconnect()
    await untilAsync(() => now() === "live 10,11")
    expect(errors).toHaveLength(1)
  })
})

describe("a state to which the server cannot go back", () => {
  it("moves the stream 9 times in a minute at most, where `onGap` reads it each time", async () => {
    const { collected, commit, durable, server, subscribes } = make()
    server.heard = (socket, frame) => {
      if (frame.type !== "subscribe" || frame.cursor === undefined) return durable(socket, frame)
      const { channel, id } = frame
      const reset = {
        type: "subscribed",
        id,
        channel,
        state: "reset",
        cursor: cursorAt(10)
      } as const
      setImmediate(() => socket.say(reset))
    }
    let reads = 0
    const old = () => (reads++, stateAt(8, 8))
    const { now, reload } = collected({ onGap: () => void reload(old) })
    await untilAsync(() => now() === "live ")
    await reload(old)
    await untilAsync(() => reads >= 10)
    commit(11)
    await untilAsync(() => now() === "stale 11")
    expect([reads, subscribes()]).toEqual([10, 10])
    await reload(() => stateAt(11, 8, 11))
    await untilAsync(() => now() === "live 8,11")
  })
})

describe("the latest of a channel, made after a gap and before the next event", () => {
  it.each(["recovered", "reset"] as const)(
    "is where the server can go back to, and other listeners hear nothing of it: %s",
    async (state) => {
      const { client, commit, durable, outbox, server, subscribes } = make()
      server.heard = durable
      const heard: Array<number | string> = []
      let isActive = false
      client.listen(Numbers, (n) => heard.push(n), {
        onGap: ({ reason }) => heard.push(reason),
        onCursor: () => (isActive = true)
      })
      await untilAsync(() => isActive)
      commit(11)
      outbox.push({ tx: 12, data: 12 })
      server.last.say({ type: "gap", channel: "numbers", reason: "slow", cursor: cursorAt(12) })
      if (state === "reset") {
        server.heard = (socket, frame) => {
          if (frame.type !== "subscribe") return server.answer(socket, frame)
          const { channel, id } = frame
          socket.say({ type: "subscribed", id, channel, state, cursor: cursorAt(12) })
        }
      }
      const latest = Collector.latest(client, Numbers)
      const now = () => `${latest.getSnapshot().status} ${latest.getSnapshot().value}`
      expect(now()).toBe("loading 11")
      latest.subscribe(() => {})
      await untilAsync(() => now() === (state === "reset" ? "stale 11" : "live 12"))
      commit(13)
      await untilAsync(() => now() === "live 13")
      expect(heard).toEqual([11, "slow", 13])
      expect(subscribes()).toBe(2)
    }
  )
})

describe("a Snapshot of a durable position on a live channel", () => {
  it("is a state without a cursor", async () => {
    const { collected, server, subscribes } = make()
    let reads = 0
    const { now } = collected({ load: () => stateAt(1, ++reads) })
    await untilAsync(() => now() === "live 1")
    server.last.say(events("numbers", 1, 5))
    await untilAsync(() => now() === "live 1,5")
    server.last.say({ type: "gap", channel: "numbers", reason: "source", cursor: "f:0" })
    await untilAsync(() => now() === "live 2")
    expect([reads, subscribes()]).toEqual([2, 1])
  })
})

describe("a `load` that appears later", () => {
  it("is called when the collector is subscribed to once more", async () => {
    const { collected, durable, options, server } = make()
    server.heard = durable
    const { collector, now } = collected()
    await untilAsync(() => now() === "live ")
    let reads = 0
    Object.assign(options, { load: () => (reads++, stateAt(10, 10)) })
    collector.subscribe(() => {})
    await untilAsync(() => now() === "live 10")
    collector.subscribe(() => {})
    await untilAsync(() => now() === "live 10")
    expect(reads).toBe(1)
  })
})
