/**
 * `History`: pages backwards and the live end in one list. A model of a server commits in another order than
 * that of the ids, delivers and answers late, and loses links.
 */
// oxlint-disable no-await-in-loop -- the steps of a test follow each other
import { Backoff, Channel } from "effect-realtime"
import { History, type PlainClient } from "effect-realtime/client"
import * as Schema from "effect/Schema"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import type { ClientFrame, FrameOf, ServerFrame, WireEvent } from "../../src/Frame.ts"
import { type Random, random, seed } from "../server/support/random.ts"
import { untilAsync } from "../support/until.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const Numbers = Channel.make("numbers", Schema.Finite, { delivery: "durable" })
const at = "2026-11-22T00:00:00.000Z"
const channel = "numbers"

beforeEach(() => {
  // A frame follows at once.
  vi.stubGlobal("requestAnimationFrame", (run: () => void) => queueMicrotask(run))
})
afterEach(() => void vi.unstubAllGlobals())

/** The outbox of a channel, of which a node delivers what was committed since its last look. */
class Model {
  readonly server = FakeSocket.make({ auto: true })
  readonly client: PlainClient.PlainClient
  /** The committed ids, in the order of their commits. */
  readonly committed: Array<number> = []
  /** Requests for history that are not answered yet. */
  readonly asked: Array<FrameOf<ClientFrame, "history">> = []
  /** Whether a request is answered at once. */
  prompt = true
  /** The next `subscribe` is answered `reset`. */
  resets = false
  /** How many commits were delivered. */
  #delivered = 0
  #drawn = 0

  constructor() {
    this.server.heard = (socket, frame) => {
      if (frame.type === "history") {
        this.asked.push(frame)
        if (this.prompt) this.answer()
      } else if (frame.type === "subscribe") {
        const { cursor, id } = frame
        const from = cursor?.split(":")[1]
        const state = from === undefined ? "fresh" : this.resets ? "reset" : "recovered"
        this.#delivered = state === "recovered" ? Number(from) : this.committed.length
        this.resets = false
        socket.say({ type: "subscribed", id, channel, state, cursor: this.cursor })
      } else this.server.answer(socket, frame)
    }
    this.client = Client.plain(this.server, {
      backoff: { ...Backoff.client, first: 1, initial: 1, cap: 1 },
      linger: 1
    })
  }

  get cursor(): string {
    return `e:${this.#delivered}`
  }

  draw(): number {
    return ++this.#drawn
  }

  commit(...ids: ReadonlyArray<number>): void {
    this.committed.push(...ids)
  }

  say(frame: ServerFrame): void {
    if (this.server.last.readyState === 1) this.server.last.say(frame)
  }

  /** Sends what was committed since the last delivery, in the order of the ids. */
  deliver(): void {
    if (this.server.sockets.length === 0 || this.server.last.readyState !== 1) return
    const ids = this.committed.slice(this.#delivered).toSorted((one, other) => one - other)
    if (ids.length === 0) return
    this.#delivered = this.committed.length
    this.say({ type: "events", channel, cursor: this.cursor, events: ids.map(wire) })
  }

  /** Answers the oldest request, with what is committed now. */
  answer(): void {
    const frame = this.asked.shift()
    if (frame === undefined) return
    const before = frame.before === undefined ? Infinity : Number(frame.before)
    const older = this.committed.filter((id) => id < before).toSorted((one, other) => one - other)
    const ids = older.slice(-frame.limit)
    const more = ids.length < older.length
    this.say({ type: "history", id: frame.id, channel, events: ids.map(wire), more })
  }

  drop(): void {
    this.asked.length = 0
    this.server.last.drop()
  }

  /** All committed ids, in order. */
  get all(): ReadonlyArray<number> {
    return this.committed.toSorted((one, other) => one - other)
  }
}

const wire = (id: number): WireEvent => ({ id: String(id), at, data: id, tx: "1" })

/** A list of a model, and what it shows. */
const follow = (model: Model, options?: History.Options) => {
  const errors: Array<unknown> = []
  const list = History.make(model.client, Numbers, {
    limit: 3,
    onError: (error) => errors.push(error),
    ...options
  })
  let changes = 0
  const leave = list.subscribe(() => changes++)
  const now = list.getSnapshot
  return {
    list,
    leave,
    errors,
    now,
    changes: () => changes,
    ids: () => now().events.map(({ id }) => Number(id)),
    short: () =>
      `${now().status} ${now().more ? "... " : ""}${now().events.map(({ payload }) => payload)}`
  }
}

/** A model with the events 1 to 8, and a list of it with its newest page. */
const opened = async () => {
  const model = new Model()
  for (let n = 0; n < 8; n++) model.commit(model.draw())
  const one = follow(model)
  expect(one.short()).toBe("loading ")
  await untilAsync(() => one.now().status === "live")
  return { model, ...one }
}

describe("a History", () => {
  it("begins with the newest page, and reads the ones before it", async () => {
    const { list, model, now, short } = await opened()
    expect(short()).toBe("live ... 6,7,8")
    await now().loadMore()
    await untilAsync(() => short() === "live ... 3,4,5,6,7,8")
    // Two calls share one page.
    await Promise.all([now().loadMore(), now().loadMore()])
    await untilAsync(() => short() === "live 1,2,3,4,5,6,7,8")
    await now().loadMore()
    expect(model.server.sent.filter(({ type }) => type === "history")).toHaveLength(3)
    expect(list.getServerSnapshot()).toMatchObject({ events: [], status: "loading", more: false })
  })

  it("subscribes before it reads, and shows the events in between once", async () => {
    const model = new Model()
    model.commit(model.draw())
    model.prompt = false
    const { short } = follow(model)
    await untilAsync(() => model.asked.length === 1)
    expect(model.server.sent.map(({ type }) => type)).toEqual(["hello", "subscribe", "history"])
    // One event is in the page and live, one is live only.
    model.commit(model.draw())
    model.deliver()
    model.answer()
    model.commit(model.draw())
    model.deliver()
    await untilAsync(() => short() === "live 1,2,3")
  })

  it("keeps an event before the page that was committed after the page was read", async () => {
    const model = new Model()
    model.commit(model.draw())
    model.prompt = false
    const { short } = follow(model)
    await untilAsync(() => model.asked.length === 1)
    const { id } = model.asked.shift()!
    model.commit(model.draw())
    model.deliver()
    await new Promise((done) => setTimeout(done))
    expect(short()).toBe("loading ")
    model.say({ type: "history", id, channel, events: [wire(1)], more: false })
    await untilAsync(() => short() === "live 1,2")
  })

  it("puts a late commit in its place, and goes on where the last page began", async () => {
    const model = new Model()
    const ids = Array.from({ length: 9 }, () => model.draw())
    // The second transaction is open while the others commit.
    model.commit(...ids.filter((id) => id !== 2))
    const { now, short } = follow(model)
    await untilAsync(() => short() === "live ... 7,8,9")
    model.commit(2)
    model.deliver()
    await untilAsync(() => short() === "live ... 2,7,8,9")
    await now().loadMore()
    await now().loadMore()
    await untilAsync(() => short() === "live 1,2,3,4,5,6,7,8,9")
    expect(short()).toBe("live 1,2,3,4,5,6,7,8,9")
  })

  it("keeps the identity of events and of loadMore, and changes once for events that arrive together", async () => {
    const { changes, model, now } = await opened()
    const before = now()
    const count = changes()
    model.commit(model.draw(), model.draw())
    model.deliver()
    await untilAsync(() => now().events.length === 5)
    expect(changes()).toBe(count + 1)
    expect(
      now()
        .events.slice(0, 3)
        .every((event, n) => event === before.events[n])
    ).toBe(true)
    expect(now().loadMore).toBe(before.loadMore)
    // A position changes nothing that is shown.
    const shown = now()
    model.say({ type: "cursor", channel, cursor: model.cursor })
    await new Promise((done) => setTimeout(done))
    expect(now()).toBe(shown)
  })

  it("is stale while the link is away, and goes on without a page where the server resumes", async () => {
    const { list, model, now, short } = await opened()
    const statuses: Array<string> = []
    list.subscribe(() => statuses.push(now().status))
    model.drop()
    model.commit(model.draw())
    await untilAsync(() => statuses.includes("live"))
    expect(statuses).toEqual(["stale", "live"])
    model.deliver()
    await untilAsync(() => short() === "live ... 6,7,8,9")
    expect(model.server.sent.filter(({ type }) => type === "history")).toHaveLength(1)
  })

  it("is stale without subscribers, and follows while there is one that left once", async () => {
    const { leave, list, model, now, short } = await opened()
    const stop = list.subscribe(() => {})
    leave()
    leave()
    await Promise.resolve()
    model.commit(model.draw())
    model.deliver()
    await untilAsync(() => short() === "live ... 6,7,8,9")
    stop()
    await untilAsync(() => now().status !== "live")
    expect(short()).toBe("stale ... 6,7,8,9")
  })

  it("reads as many events again after a gap as it had, and drops what was asked before it", async () => {
    const { model, now, short } = await opened()
    await now().loadMore()
    await untilAsync(() => now().events.length === 6)
    model.prompt = false
    const older = now().loadMore()
    await untilAsync(() => model.asked.length === 1)
    model.commit(model.draw(), model.draw())
    // The gap takes the place of the two.
    model.say({ type: "gap", channel, reason: "source", cursor: `e:${model.committed.length}` })
    await untilAsync(() => now().status === "stale" && model.asked.length === 2)
    expect(short()).toBe("stale ... 3,4,5,6,7,8")
    expect(model.asked[1]).toMatchObject({ limit: 6 })
    model.answer()
    await older
    expect(short()).toBe("stale ... 3,4,5,6,7,8")
    model.answer()
    await untilAsync(() => short() === "live ... 5,6,7,8,9,10")
  })

  it("asks for the page before the new list when more is wanted while it is read again", async () => {
    const { model, now, short } = await opened()
    model.prompt = false
    model.commit(...Array.from({ length: 5 }, () => model.draw()))
    model.say({ type: "gap", channel, reason: "source", cursor: `e:${model.committed.length}` })
    await untilAsync(() => model.asked.length === 1)
    const older = now().loadMore()
    model.prompt = true
    model.answer()
    await older
    await untilAsync(() => short() === "live ... 8,9,10,11,12,13")
    expect(short()).toBe("live ... 8,9,10,11,12,13")
  })

  it.each(["invalid", "truncate"])("reads nothing again after a gap %s", async (reason) => {
    const { model, short } = await opened()
    model.say({ type: "gap", channel, reason, cursor: model.cursor })
    model.commit(model.draw())
    model.deliver()
    await untilAsync(() => short() === "live ... 6,7,8,9")
    expect(model.server.sent.filter(({ type }) => type === "history")).toHaveLength(1)
  })

  it("is an error when the server rejects the page, and asks once", async () => {
    const model = new Model()
    const { heard } = model.server
    model.server.heard = (socket, frame) =>
      frame.type === "history"
        ? socket.say({
            type: "error",
            id: frame.id,
            code: "frame/malformed",
            message: "No.",
            retry: "never"
          })
        : heard(socket, frame)
    const { errors, now } = follow(model)
    await untilAsync(() => now().status === "error")
    expect(now().error).toMatchObject({ _tag: "Refused", code: "frame/malformed" })
    model.commit(model.draw())
    model.deliver()
    await new Promise((done) => setTimeout(done))
    expect(errors).toHaveLength(1)
    expect(model.server.sent.filter(({ type }) => type === "history")).toHaveLength(1)
  })

  it("keeps its list when the next page is rejected, and says why until one is read", async () => {
    const { errors, model, now, short } = await opened()
    const { heard } = model.server
    const no = { code: "channel/forbidden", message: "No.", retry: "never" } as const
    model.server.heard = (socket, frame) =>
      frame.type === "history" && socket.say({ type: "error", id: frame.id, ...no })
    await expect(now().loadMore()).rejects.toMatchObject({ code: "channel/forbidden" })
    await untilAsync(() => now().error !== undefined)
    expect(short()).toBe("live ... 6,7,8")
    model.server.heard = heard
    await now().loadMore()
    await untilAsync(() => now().error === undefined)
    expect(errors).toEqual([])
  })

  it("goes on from its position when it has subscribers again", async () => {
    const { leave, list, model, short } = await opened()
    leave()
    const count = (wanted: string) => model.server.sent.filter(({ type }) => type === wanted).length
    await untilAsync(() => count("unsubscribe") === 1)
    model.commit(model.draw())
    const again = list.subscribe(() => {})
    await untilAsync(() => count("subscribe") === 2)
    model.deliver()
    await untilAsync(() => short() === "live ... 6,7,8,9")
    expect(model.server.sent.filter(({ type }) => type === "history")).toHaveLength(1)
    again()
  })

  it("forgets the oldest events beyond 10,000, and reads them again", async () => {
    const { model, now } = await opened()
    model.commit(...Array.from({ length: 10_005 }, () => model.draw()))
    model.deliver()
    await untilAsync(() => now().events.length === 10_000)
    expect([now().events[0]!.id, now().more]).toEqual(["14", true])
    await now().loadMore()
    await untilAsync(() => now().events.length === 10_003)
    model.commit(model.draw())
    model.deliver()
    await untilAsync(() => now().events.at(-1)!.id === "10014")
    expect(now().events[0]!.id).toBe("12")
  })

  it("orders the ids of a live channel by their numbers", async () => {
    const model = new Model()
    model.server.heard = (socket, frame) => {
      if (frame.type !== "history") return model.server.answer(socket, frame)
      const events = [9, 10].map((n) => ({ id: `e:${n}`, at, data: n }))
      socket.say({ type: "history", id: frame.id, channel, events, more: false })
    }
    const { short } = follow(model)
    await untilAsync(() => short() === "live 9,10")
    const events = [10, 11, 100].map((n) => ({ id: `e:${n}`, at, data: n }))
    model.say({ type: "events", channel, cursor: "e:100", events })
    await untilAsync(() => short() === "live 9,10,11,100")
    expect(short()).toBe("live 9,10,11,100")
  })
})

describe(`pages and live events (REALTIME_TEST_SEED=${seed})`, () => {
  /** Commits, delivers, answers, loses the link and asks for more, at random. */
  const play = async (r: Random, model: Model, loadMore: () => void) => {
    const open: Array<number> = []
    for (let step = 0; step < 80; step++) {
      const dice = r.next()
      if (dice < 0.25) open.push(model.draw())
      else if (dice < 0.5 && open.length > 0) model.commit(...open.splice(r.int(open.length), 1))
      else if (dice < 0.65) model.deliver()
      else if (dice < 0.8) model.answer()
      else if (dice < 0.9) loadMore()
      else if (dice < 0.93 && model.server.sockets.length > 0) {
        model.resets = r.chance(0.5)
        model.drop()
      } else await new Promise((done) => setTimeout(done))
    }
    model.commit(...open)
    model.prompt = true
    while (model.asked.length > 0) model.answer()
  }

  it("make one list of all events, each once and in order", async () => {
    for (let round = 0; round < 12; round++) {
      const r = random(seed + round)
      const model = new Model()
      for (let n = r.int(12); n > 0; n--) model.commit(model.draw())
      model.prompt = false
      const { ids, leave, list, now } = follow(model, { limit: 1 + r.int(4) })
      list.subscribe(() => {
        const shown = ids()
        const sorted = [...new Set(shown)].toSorted((one, other) => one - other)
        expect(shown, `seed ${seed} round ${round}`).toEqual(sorted)
      })
      await play(r, model, () => void now().loadMore())
      await untilAsync(() => {
        model.deliver()
        return now().status === "live"
      })
      while (now().more) {
        await now().loadMore()
        await new Promise((done) => setTimeout(done))
      }
      await untilAsync(() => ids().length >= model.all.length)
      expect(ids(), `seed ${seed} round ${round}`).toEqual(model.all)
      leave()
    }
  })

  it("have holes where the next page ends before the lowest id of all", async () => {
    let lost = 0
    for (let round = 0; round < 10; round++) {
      const r = random(round)
      const model = new Model()
      const ids = new Set<number>()
      for (let n = 0; n < 8; n++) model.commit(model.draw())
      const late = model.draw()
      for (let n = 0; n < 8; n++) model.commit(model.draw())
      let active = false
      model.client.listen(Numbers, (_, { id }) => void ids.add(Number(id)), {
        onCursor: () => (active = true)
      })
      await untilAsync(() => active)
      const next = async () => {
        const before = ids.size === 0 ? undefined : String(Math.min(...ids))
        const page = await model.client.history(Numbers, { before, limit: 1 + r.int(4) })
        for (const { id } of page.events) ids.add(Number(id))
        return page.more
      }
      await next()
      model.commit(late)
      model.deliver()
      while (await next());
      lost += model.all.length - ids.size
    }
    expect(lost).toBeGreaterThan(0)
  })
})
