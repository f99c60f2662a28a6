/** What a client shows, reports and does when the server rejects its hello for now. */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Layer, Logger, Random, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Channel } from "effect-realtime"
import { type ClientError, PlainClient } from "effect-realtime/client"
import { RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"

const Orders = Channel.make("orders", Schema.Struct({ n: Schema.Finite }))

type Authenticate = RealtimeServer.Authenticate<string>

const away = new Error("the directory is away")
const me = { identity: "me" }

/** A system whose `authenticate` is `run`, its log, and what the client's `onError` received. */
const system = (run: Authenticate, token?: () => string) => {
  const lines: Array<string> = []
  const errors: Array<{ readonly _tag: string }> = []
  const layer = RealtimeTest.layer({
    channels: [Orders],
    authenticate: run,
    authorize: RealtimeServer.allowAll,
    client: { token, onError: (error) => errors.push(error) }
  }).pipe(
    Layer.provideMerge(
      Logger.layer([
        Logger.make(({ cause, message }) => {
          const parts = [message].flat()
          const causes = [cause, ...parts.filter(Cause.isCause)].map((one) => Cause.pretty(one))
          lines.push(`${String(parts[0])} ${causes.join("").split("\n")[0]}`)
        })
      ])
    )
  )
  return { errors, layer, lines }
}

const connect = Effect.gen(function* () {
  const test = yield* RealtimeTest.RealtimeTest
  const seen: Array<number> = []
  const told: Array<unknown> = []
  const client = yield* test.connect()
  const plain = PlainClient.fromClient(client)
  plain.listen(Orders, ({ n }) => seen.push(n), { onError: (error) => told.push(error) })
  yield* test.settle
  return { client, plain, seen, test, told }
})

const faults: ReadonlyArray<readonly [string, () => ReturnType<Authenticate>]> = [
  [
    "throws",
    () => {
      throw away
    }
  ],
  ["dies", () => Effect.die(away)],
  ["fails with another error", () => Effect.fail(away) as never]
]

describe("a client whose server has an authenticate that", () => {
  it.effect.each(faults)(
    "%s shows the reason, retries, and reports it once until it is let in",
    ([, fault]) => {
      let fails = true
      let calls = 0
      const { errors, layer, lines } = system(() => {
        calls++
        return fails ? fault() : Effect.succeed(me)
      })
      return Effect.gen(function* () {
        const { client, plain, seen, test, told } = yield* connect
        expect(plain.connection.getSnapshot()).toMatchObject({
          status: "waiting",
          reason: "server",
          message: "The server failed: authenticate failed"
        })
        yield* TestClock.adjust("20 seconds")
        expect(calls).toBeGreaterThan(3)
        // A retry by backoff, not a storm.
        expect(calls).toBeLessThan(40)
        expect(errors).toMatchObject([
          {
            _tag: "HelloRefused",
            code: "server/internal",
            message: "The server failed to authenticate the client: try again later."
          }
        ])
        expect(lines).toEqual(["authenticate failed. Error: the directory is away"])

        fails = false
        yield* TestClock.adjust("2 minutes")
        expect(plain.connection.getSnapshot().status).toBe("open")
        yield* test.publish(Orders, { n: 1 })
        yield* test.settle
        expect(seen).toEqual([1])

        fails = true
        yield* client.network.cut
        yield* TestClock.adjust("20 seconds")
        expect(errors.map(({ _tag }) => _tag)).toEqual(["HelloRefused", "HelloRefused"])
        expect(told).toEqual([])
      }).pipe(Effect.provide(layer), Random.withSeed("hello"))
    }
  )

  it.effect("never ends shows that it took too long", () => {
    const { errors, layer } = system(() => Effect.never)
    return Effect.gen(function* () {
      const { plain } = yield* connect
      yield* TestClock.adjust("5 seconds")
      expect(plain.connection.getSnapshot()).toMatchObject({ status: "waiting", reason: "server" })
      expect(plain.connection.getSnapshot().message).toContain("authenticate took too long")
      expect(errors).toMatchObject([{ _tag: "HelloRefused", code: "server/internal" }])
    }).pipe(Effect.provide(layer), Random.withSeed("hello"))
  })

  it.effect(
    "throws for a fresh token keeps the link, and reports it once until it is accepted",
    () => {
      let token = 0
      const { errors, layer, lines } = system(
        ({ token }) => {
          if (token === "2" || token === "3") throw away
          const expires = new Date(token === "1" ? 60_000 : 600_000)
          return Effect.succeed({ identity: "me", expires })
        },
        () => `${++token}`
      )
      return Effect.gen(function* () {
        const { plain } = yield* connect
        const session = plain.connection.getSnapshot()
        yield* TestClock.adjust("59 seconds")
        expect(token).toBeGreaterThan(3)
        expect(plain.connection.getSnapshot()).toBe(session)
        expect(errors).toMatchObject([{ _tag: "HelloRefused", code: "server/internal" }])
        expect(lines).toEqual(["authenticate failed. Error: the directory is away"])
      }).pipe(Effect.provide(layer), Random.withSeed("hello"))
    }
  )

  it.effect("rejects for good is no HelloRefused, but stops the connection", () => {
    const { errors, layer } = system(() =>
      Effect.fail(new RealtimeServer.AuthRefused({ code: "auth/invalid" }))
    )
    return Effect.gen(function* () {
      const { told } = yield* connect
      expect(errors).toMatchObject([{ _tag: "ConnectionStopped", code: 4202 }])
      expect(told).toMatchObject([{ _tag: "ConnectionStopped" }] satisfies ReadonlyArray<
        Partial<ClientError.ConnectionStopped>
      >)
    }).pipe(Effect.provide(layer), Random.withSeed("hello"))
  })
})

describe("a token callback that throws", () => {
  it.effect("keeps its cause for onError, and is shown with it", () => {
    const { errors, layer, lines } = system(
      () => Effect.succeed(me),
      () => {
        throw away
      }
    )
    return Effect.gen(function* () {
      const { plain } = yield* connect
      yield* TestClock.adjust("20 seconds")
      expect(plain.connection.getSnapshot()).toMatchObject({
        reason: "token",
        message: "The token callback failed: Error: the directory is away"
      })
      expect(errors).toMatchObject([{ _tag: "TokenFailed", cause: away }])
      expect(lines).toEqual([])
    }).pipe(Effect.provide(layer), Random.withSeed("hello"))
  })
})
