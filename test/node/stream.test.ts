/** The class RealtimeServer streams a result in parts from an async iterable. */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import { installedDatabase } from "../support/database.ts"
import { addressOf, httpServer } from "../support/httpServer.ts"
import { greet } from "../support/wire.ts"

const Answer = Channel.queryResults(Schema.String, { delivery: "durable", publish: true })

const serverOn = (url: string) =>
  Effect.gen(function* () {
    const http = yield* httpServer
    const server = yield* Effect.acquireRelease(
      Effect.sync(
        () => new RealtimeServer(http, url, { channels: [Answer], authorize: () => true })
      ),
      (server) => Effect.promise(() => server.close())
    )
    yield* Effect.promise(() => server.ready)
    return { server, ws: `ws://${addressOf(http)}/realtime` }
  })

/** Says two parts, and the third one when the gate opens. Counts its end. */
const speech = () => {
  const gate = Deferred.makeUnsafe<void>()
  const over = Deferred.makeUnsafe<void>()
  const parts = async function* () {
    try {
      yield "one "
      yield "two "
      await Effect.runPromise(Deferred.await(gate))
      yield "three"
    } finally {
      Deferred.doneUnsafe(over, Effect.void)
    }
  }
  return { parts: parts(), open: Deferred.succeed(gate, undefined), over: Deferred.await(over) }
}

/** Waits until one of the payloads of a wire fits, and gives all of them since the last call. */
const payloadsOf = (wire: Effect.Success<ReturnType<typeof greet>>) => {
  const told: Array<Channel.QueryResult<string>> = []
  return (fits: (payload: Channel.QueryResult<string>) => boolean) =>
    Effect.gen(function* () {
      while (!told.some(fits)) {
        const { events } = yield* wire.next("events")
        told.push(...events.map(({ data }) => data as Channel.QueryResult<string>))
      }
      return told.splice(0)
    })
}

describe("stream of the class", () => {
  it.live(
    "a page of another node receives all parts when it subscribes late, then the end, and stops work",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const [one, other] = [yield* serverOn(url), yield* serverOn(url)]
        const first = speech()
        yield* Effect.promise(() => one.server.stream(Answer("1"), first.parts))
        const early = yield* greet(one.ws)
        early.send({ type: "subscribe", id: 1, channel: "query_results_1", cursor: "oldest" })
        const heard = payloadsOf(early)
        yield* heard(({ chunk }) => chunk !== undefined)
        const late = yield* greet(other.ws)
        late.send({ type: "subscribe", id: 1, channel: "query_results_1", cursor: "oldest" })
        const until = payloadsOf(late)
        const { cursor, state } = yield* late.next("subscribed")
        expect([state, cursor!.slice(0, 2)]).toEqual(["recovered", "2."])
        yield* first.open
        const told = yield* until(({ status }) => status === "completed")
        expect(told[0]).toEqual({ status: "running" })
        const chunks = told.flatMap(({ chunk }) => chunk ?? []).join("")
        expect("one two three".startsWith(chunks)).toBe(true)
        expect(told.at(-1)).toEqual({ status: "completed", data: "one two three" })

        const second = speech()
        yield* Effect.promise(() => one.server.stream(Answer("1"), second.parts))
        yield* until(({ chunk }) => chunk !== undefined)
        late.send({
          type: "publish",
          id: 2,
          channel: "query_results_1",
          key: "k",
          data: { status: "stop" }
        })
        yield* heard(({ status }) => status === "stop")
        // The iterator ends after the promise that it awaits.
        yield* second.open
        expect((yield* until(({ status }) => status === "stopped")).at(-1)).toMatchObject({
          data: expect.stringContaining("one two ")
        })
        yield* second.over
      })
  )

  it.live("close ends the work as an error, and rejects work after it", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const { server } = yield* serverOn(url)
      const { ws } = yield* serverOn(url)
      const wire = yield* greet(ws)
      wire.send({ type: "subscribe", id: 1, channel: "query_results_1" })
      yield* wire.next("subscribed")
      const until = payloadsOf(wire)
      const { open, parts } = speech()
      yield* Effect.promise(() => server.stream(Answer("1"), parts))
      yield* until(({ status }) => status === "running")
      yield* Effect.forkChild(
        Effect.promise(() => server.close()),
        { startImmediately: true }
      )
      yield* open
      const told = yield* until(({ status }) => status === "error")
      expect(told.at(-1)!.error).toContain("shut down")
      const late = yield* Effect.flip(
        Effect.tryPromise(() => server.stream(Answer("1"), speech().parts))
      )
      expect(late.cause).toMatchObject({ _tag: "ServerClosed", before: "the work began" })
    })
  )
})
