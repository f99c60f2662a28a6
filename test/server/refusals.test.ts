/**
 * Nobody is refused in silence: whoever runs the server reads why, in few lines however often it happens,
 * and the client hears what it is.
 */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Layer, Logger, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import type { IncomingMessage } from "node:http"
import * as Channel from "../../src/Channel.ts"
import { resolveLimits } from "../../src/server/internal/limits/limits.ts"
import { Crossings, Notices } from "../../src/server/internal/limits/notices.ts"
import { Voice } from "../../src/server/internal/limits/voice.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as ServerError from "../../src/server/ServerError.ts"
import type { InvalidOption } from "../../src/server/ServerError.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import { NotInstalled, OutdatedInstall } from "../../src/server/PgInstaller.ts"
import type { Options as RealtimeOptions, Realtime } from "../../src/server/Realtime.ts"
import { allowAll, AuthRefused, type Options } from "../../src/server/ServerOptions.ts"
import { layerDoor, refusals, settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"

const Orders = Channel.make("orders", Schema.Struct({ id: Schema.Int }))
const History = Channel.make("history", Schema.Unknown, { delivery: "durable" })
const Moves = Channel.make("moves", Schema.Struct({ id: Schema.Int }), { publish: true })

interface Line {
  readonly level: string
  readonly text: string
  readonly cause: string
}

/** Runs beside a door; `lines` is what its log says. */
const withDoor = <A, E>(
  body: (
    lines: ReadonlyArray<Line>
  ) => Effect.Effect<A, E, TestDoor | Realtime | MemorySource.MemorySource | Scope.Scope>,
  more: Partial<Options<string>> = {},
  realtime?: RealtimeOptions,
  outbox: Layer.Layer<OutboxReader.OutboxReader, InvalidOption> = MemoryOutbox.layer()
) => {
  const lines: Array<Line> = []
  const options = { channels: [Orders, Moves], authorize: allowAll, ...more } as Options<string>
  return Effect.suspend(() => body(lines)).pipe(
    Effect.scoped,
    Effect.provide(layerDoor(options, realtime)),
    Effect.provide(outbox),
    Effect.provide(
      Logger.layer([
        Logger.make(({ cause, logLevel, message }) => {
          const parts = [message].flat()
          const causes = [cause, ...parts.filter(Cause.isCause)].map((one) => Cause.pretty(one))
          lines.push({ level: logLevel, text: String(parts[0]), cause: causes.join("") })
        })
      ])
    )
  )
}

const subscribe = (visitor: Visitor, id: number, channel = "orders") =>
  Effect.suspend(() => {
    visitor.send({ type: "subscribe", id, channel })
    return settle
  })

/** An outbox in memory whose reader does some of it in another way. */
const changed = (more: Partial<OutboxReader.OutboxReader["Service"]>) =>
  Layer.effect(
    OutboxReader.OutboxReader,
    Effect.map(OutboxReader.OutboxReader, (reader) => ({ ...reader, ...more }))
  ).pipe(Layer.provide(MemoryOutbox.layer()))

const texts = (lines: ReadonlyArray<Line>) => lines.map(({ text }) => text)

describe("authenticate", () => {
  const throwing = (run: () => never) => ({ authenticate: () => Effect.sync(run) })
  const faults = [
    [
      "throws",
      {
        authenticate: () => {
          throw new Error("the directory is away")
        }
      }
    ],
    [
      "dies",
      throwing(() => {
        throw new Error("the directory is away")
      })
    ],
    ["fails", { authenticate: () => Effect.fail(new Error("the directory is away")) }]
  ] as unknown as ReadonlyArray<readonly [string, Partial<Options<string>>]>
  it.effect.each(faults)(
    "that %s is logged with its cause once a minute, and is the server's failure to the client",
    ([, more]) =>
      withDoor(
        (lines) =>
          Effect.gen(function* () {
            for (let n = 0; n < 5; n++) {
              const visitor = yield* visit({ token: "ann" })
              expect(visitor.last("error")).toMatchObject({
                code: "server/internal",
                message: "The server failed to tell who the client is: try again later.",
                retry: "later"
              })
              expect([visitor.closeCode, visitor.closeReason]).toEqual([
                1011,
                "The server failed: authenticate failed"
              ])
            }
            expect(lines).toEqual([
              {
                level: "Error",
                text: "authenticate failed.",
                cause: expect.stringContaining("the directory is away")
              }
            ])
            yield* TestClock.adjust("1 minute")
            yield* visit({ token: "ann" })
            expect(texts(lines)[1]).toBe("authenticate failed (4 more since this was last said).")
          }),
        more
      )
  )

  const never = [
    ["an invalid Date", new Date("soon"), /expires as an invalid Date/],
    ["a number", 1_800_000_000, /expires as a number/]
  ] as const
  it.effect.each(never)(
    "whose expires is %s has failed, and its token has not ended",
    ([, expires, said]) =>
      withDoor(
        (lines) =>
          Effect.gen(function* () {
            const visitor = yield* visit({ token: "ann" })
            expect(visitor.errors).toEqual(["server/internal"])
            expect([visitor.closeCode, visitor.closeReason]).toEqual([
              1011,
              "The server failed: authenticate failed"
            ])
            expect(lines).toMatchObject([{ level: "Error", text: "authenticate failed." }])
            expect(lines[0]!.cause).toMatch(said)
          }),
        { authenticate: () => Effect.succeed({ identity: "ann", expires }) } as never
      )
  )

  it.effect("that refuses is said once a minute, by its reason", () =>
    withDoor(
      (lines) =>
        Effect.gen(function* () {
          for (let n = 0; n < 5; n++) yield* visit({ token: "ann" })
          expect(texts(lines)).toEqual(["authenticate refused a client: its token is not valid."])
        }),
      { authenticate: () => Effect.fail(new AuthRefused({ code: "auth/invalid" })) } as never
    )
  )
})

describe("authorize", () => {
  const away = new Error("the database is away")
  const faults = [
    [
      "throws",
      () => {
        throw away
      }
    ],
    ["dies", () => Effect.die(away)],
    ["fails", () => Effect.fail(away)]
  ] as unknown as ReadonlyArray<readonly [string, Options<string>["authorize"]]>
  it.effect.each(faults)(
    "that %s is logged with its cause once a minute, and is the server's failure to the client",
    ([, authorize]) =>
      withDoor(
        (lines) =>
          Effect.gen(function* () {
            const visitor = yield* visit()
            for (let id = 0; id < 5; id++) yield* subscribe(visitor, id)
            expect(visitor.of("error")).toHaveLength(5)
            expect(visitor.last("error")).toMatchObject({
              code: "server/internal",
              message: "The server failed to decide: try again later."
            })
            expect(lines).toEqual([
              {
                level: "Error",
                text: "authorize failed.",
                cause: expect.stringContaining("the database is away")
              }
            ])
          }),
        { authorize } as never
      )
  )

  it.effect("that refuses is said once a minute for each action, with a channel", () =>
    withDoor(
      (lines) =>
        Effect.gen(function* () {
          const visitor = yield* visit()
          for (let id = 0; id < 4; id++) yield* subscribe(visitor, id)
          for (let id = 4; id < 7; id++) {
            visitor.send({ type: "publish", id, channel: "moves", key: `${id}`, data: { id } })
            yield* settle
          }
          expect(lines).toMatchObject([
            { level: "Info", text: `authorize refused to let a client subscribe on "orders".` },
            { level: "Info", text: `authorize refused to let a client publish on "moves".` }
          ])
          yield* TestClock.adjust("1 minute")
          const other = yield* visit()
          yield* subscribe(other, 1)
          expect(texts(lines)[2]).toBe(
            `authorize refused to let a client subscribe on "orders" (3 more since this was last said).`
          )
        }),
      { authorize: () => Effect.succeed(false) } as never
    )
  )
})

describe("a token whose life ends", () => {
  it.effect.each([1, 3, 20])("is said in one line, for %s sessions at once", (count) =>
    withDoor(
      (lines) =>
        Effect.gen(function* () {
          const visitors = yield* Effect.replicateEffect(visit({ token: "ann" }), count)
          yield* TestClock.adjust("61 seconds")
          expect(visitors.map(({ closeCode }) => closeCode)).toEqual(visitors.map(() => 4100))
          expect(texts(lines)).toEqual([
            expect.stringMatching(/^A session was closed with 4100: its token ended/)
          ])
        }),
      {
        authenticate: ({ token = "" }) =>
          Effect.succeed({ identity: token, expires: new Date(60_000) }),
        limits: { pingInterval: "1 hour" }
      } as never
    )
  )
})

describe("a limit", () => {
  const steady = [
    [0, 1],
    [9, 1],
    [10, 1],
    [60, 5]
  ] as const
  it.effect.each(steady)(
    "that is crossed for %s s without a pause is said in so few lines",
    ([seconds]) =>
      withDoor(
        (lines) =>
          Effect.gen(function* () {
            const visitor = yield* visit()
            for (let second = 0; second <= seconds; second++) {
              yield* subscribe(visitor, 1000 + second)
              yield* subscribe(visitor, 2000 + second, "moves")
              if (second < seconds) yield* TestClock.adjust("1 second")
            }
            const said = texts(lines).filter((text) => text.startsWith("The limit"))
            expect(said).toHaveLength(seconds < 10 ? 0 : 1)
            if (said.length > 0) {
              expect(said[0]).toMatch(
                /^The limit maxSubscriptions \(1 subscriptions\) was crossed \d+ times in the last 10 s\. If honest clients need more, raise limits\.maxSubscriptions\.$/
              )
            }
          }),
        { limits: { maxSubscriptions: 1, pingInterval: "1 hour" } }
      )
  )

  /** A client that asks each second, for so long. */
  const asking = (seconds: number, channel: (second: number) => string, cursor?: string) =>
    Effect.gen(function* () {
      const visitor = yield* visit()
      for (let second = 0; second < seconds; second++) {
        visitor.send({ type: "subscribe", id: second, channel: channel(second), cursor })
        yield* TestClock.adjust("1 second")
      }
      return visitor
    })
  const limits = {
    pingInterval: "1 hour",
    sourceTimeout: "500 millis",
    maxSubscriptions: 1
  } as const

  it("is said with its unit, whatever it is", () => {
    const resolved = resolveLimits()
    for (const [name, value] of Object.entries(resolved)) {
      const said: Array<string> = []
      const logger = Logger.make(({ message }) => void said.push(String(message)))
      const voice = new Voice(resolved)
      expect(voice.refused(name, 0)).toBeUndefined()
      Effect.runSync(Effect.provide(voice.refused(name, 10_000)!, Logger.layer([logger])))
      expect(said).toHaveLength(1)
      expect(said[0]).toMatch(
        typeof value === "number"
          ? new RegExp(`^The limit ${name} \\(${value} [a-z]+\\) was`)
          : new RegExp(
              `^The limit ${name} \\(${value.perSecond} [a-z ]+ per second, ${value.burst} at once\\) was`
            )
      )
    }
  })

  it.effect(
    "is not the cure for a source that is down: sourceTimeout is counted, and not said",
    () =>
      withDoor(
        (lines) =>
          Effect.gen(function* () {
            const before = yield* refusals("sourceTimeout")
            yield* (yield* MemorySource.MemorySource).lose
            const visitor = yield* asking(30, () => "orders")
            expect(new Set(visitor.errors)).toEqual(new Set(["source/down"]))
            expect(yield* refusals("sourceTimeout")).toBeGreaterThan(before + 10)
            expect(texts(lines)).toEqual([])
          }),
        { limits }
      )
  )

  it.effect("of the node's channels is said with what raises it, and when to come back", () =>
    withDoor(
      (lines) =>
        Effect.gen(function* () {
          const first = yield* visit()
          yield* subscribe(first, 1)
          const visitor = yield* asking(12, () => "moves")
          expect(visitor.last("error")).toMatchObject({
            code: "server/overloaded",
            retryAfter: expect.toSatisfy((millis: number) => millis >= 1000 && millis <= 2000)
          })
          expect(texts(lines)).toEqual([
            expect.stringMatching(
              /^The limit maxChannels \(1 channels\) was crossed \d+ times .* raise maxChannels \(of Realtime\.layer/
            )
          ])
        }),
      { limits },
      { maxChannels: 1 }
    )
  )

  it.effect("of the node's replays is said with what raises it", () =>
    withDoor(
      (lines) =>
        Effect.gen(function* () {
          yield* asking(12, () => "history", "a cursor")
          expect(texts(lines)).toEqual([
            expect.stringMatching(
              /^The limit maxReplayQueue \(7 replays\) was crossed .* raise maxReplayQueue \(of OutboxReader\.layer/
            )
          ])
        }),
      { limits, channels: [History] },
      undefined,
      changed({ join: () => Effect.fail(new OutboxReader.ReplaysOverloaded({ limit: 7 })) })
    )
  )

  it("that is crossed with pauses of more than 10 s is not said", () => {
    const crossings = new Crossings()
    const times = [0, 10_001, 20_002, 30_003, 40_003, 40_004]
    expect(times.map((time) => crossings.crossed("x", time)?.times)).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
      2,
      3
    ])
  })
})

describe("an outbox that cannot be read", () => {
  const faults = [
    new NotInstalled({}),
    new OutdatedInstall({ installed: 1, needed: 3 }),
    new ServerError.NotPrimary(),
    new ServerError.OtherOutbox()
  ]
  it.effect.each(faults.map((fault) => [fault._tag, fault] as const))(
    "(%s) is told by its reader, not once more for each subscription",
    ([, fault]) =>
      withDoor(
        (lines) =>
          Effect.gen(function* () {
            const visitor = yield* visit()
            for (let id = 0; id < 3; id++) {
              yield* subscribe(visitor, id, "history")
              yield* TestClock.adjust("1 minute")
            }
            expect(visitor.errors).toEqual(["source/down", "source/down", "source/down"])
            expect(lines).toEqual([])
          }),
        { channels: [History], limits: { pingInterval: "1 hour" } },
        undefined,
        changed({ follow: () => Effect.fail(fault) })
      )
  )
})

describe("a page of another origin", () => {
  const from = (origin: string, more: Record<string, string> = {}) =>
    ({
      url: "/realtime",
      headers: {
        host: "127.0.0.1:3000",
        origin,
        "sec-websocket-version": "13",
        ...more
      },
      socket: { remoteAddress: "127.0.0.1" }
    }) as unknown as IncomingMessage

  const cases = [
    [
      "behind a proxy that rewrites Host",
      {},
      {},
      [
        `"https://app.example.com"`,
        `Host of the request is "127.0.0.1:3000"`,
        "trustProxy",
        "origins"
      ]
    ],
    [
      "behind a trusted proxy that tells another host",
      { trustProxy: 1 },
      { "x-forwarded-host": "internal.example.com" },
      [
        `"https://app.example.com"`,
        `X-Forwarded-Host of the request is "internal.example.com"`,
        "origins"
      ]
    ],
    [
      "that is not in the list",
      { origins: ["https://www.example.com"] },
      {},
      [`"https://app.example.com"`, "origins (https://www.example.com)"]
    ]
  ] as const
  it.effect.each(cases)(
    "%s is refused with one warning, both values and the cure",
    ([, more, headers, parts]) =>
      withDoor(
        (lines) =>
          Effect.gen(function* () {
            const door = yield* TestDoor
            for (let n = 0; n < 5; n++) {
              expect(door.refusal(from("https://app.example.com", headers))?.status).toBe(403)
            }
            expect(lines).toHaveLength(1)
            expect(lines[0]!.level).toBe("Warn")
            for (const part of parts) expect(lines[0]!.text).toContain(part)
            door.refusal(from("https://other.example.com", headers))
            expect(lines).toHaveLength(2)
          }),
        more as Partial<Options<string>>
      )
  )

  it.effect(
    "is named at most 20 times an hour, in one line of bounded length, whatever it sends",
    () =>
      withDoor((lines) =>
        Effect.gen(function* () {
          const door = yield* TestDoor
          door.refusal(from(`https://x.example.com/\n${"y".repeat(8000)}`))
          for (let n = 0; n < 300; n++) door.refusal(from(`https://${n}.example.com`))
          expect(lines).toHaveLength(20)
          expect(lines[0]!.text.length).toBeLessThan(1000)
          expect(lines.every(({ text }) => !text.includes("\n"))).toBe(true)
          yield* TestClock.adjust("1 hour")
          door.refusal(from("https://again.example.com"))
          expect(lines).toHaveLength(21)
        })
      )
  )
})

describe("what is said", () => {
  it("is said again when the clock was set back, and once when it stands", () => {
    const notices = new Notices()
    expect([0, 0, -60_000, -60_000, 0].map((time) => notices.due("x", 1e6 + time))).toEqual([
      0,
      undefined,
      1,
      undefined,
      1
    ])
  })

  it("about different things is bounded together", () => {
    const notices = new Notices(60_000, 3)
    const due = (time: number) => ["a", "b", "c", "d"].map((key) => notices.due(key, time))
    expect(due(0)).toEqual([0, 0, 0, undefined])
    expect(due(59_999)).toEqual([undefined, undefined, undefined, undefined])
    expect(due(60_000)).toEqual([1, 1, 1, undefined])
  })
})
