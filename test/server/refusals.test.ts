/**
 * Every rejection is logged with its reason, in few lines however often it happens, and the client
 * gets a code.
 */
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Layer, Logger, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import type { IncomingMessage } from "node:http"
import * as Channel from "../../src/Channel.ts"
import { resolveLimits } from "../../src/server/internal/limits/limits.ts"
import { Notices } from "../../src/server/internal/notices.ts"
import { Crossings } from "../../src/server/internal/limits/boundedLog.ts"
import { Voice } from "../../src/server/internal/limits/refusalLog.ts"
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

/** Runs the test beside a server; `lines` is its log. */
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

/** An outbox in memory with a changed reader. */
const changed = (more: Partial<OutboxReader.OutboxReader["Service"]>) =>
  Layer.effect(
    OutboxReader.OutboxReader,
    Effect.map(OutboxReader.OutboxReader, (reader) => ({ ...reader, ...more }))
  ).pipe(Layer.provide(MemoryOutbox.layer()))

const texts = (lines: ReadonlyArray<Line>) => lines.map(({ text }) => text)

describe("Failures of authenticate", () => {
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
    "an authenticate that %s is logged with its cause once a minute, and the client gets server/internal",
    ([, more]) =>
      withDoor(
        (lines) =>
          Effect.gen(function* () {
            for (let n = 0; n < 5; n++) {
              const visitor = yield* visit({ token: "ann" })
              expect(visitor.last("error")).toMatchObject({
                code: "server/internal",
                message: "The server failed to authenticate the client: try again later.",
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
    "an authenticate that returns %s as expires fails as server/internal, and is logged as a failure",
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

  it.effect("an authenticate that rejects is logged once a minute with its reason", () =>
    withDoor(
      (lines) =>
        Effect.gen(function* () {
          for (let n = 0; n < 5; n++) yield* visit({ token: "ann" })
          expect(texts(lines)).toEqual([
            "authenticate refused a client: its token is not valid. Compare the key, the issuer and the audience of the tokens with those of authenticate, and whether the tokens have the claims exp and sub."
          ])
        }),
      { authenticate: () => Effect.fail(new AuthRefused({ code: "auth/invalid" })) } as never
    )
  )
})

describe("Failures of authorize", () => {
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
    "an authorize that %s is logged with its cause once a minute, and the client gets server/internal",
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

  it.effect("an authorize that rejects is logged once a minute for each action", () =>
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

describe("Expired tokens", () => {
  it.effect.each([1, 3, 20])("one line logs the expired tokens of %s sessions", (count) =>
    withDoor(
      (lines) =>
        Effect.gen(function* () {
          const visitors = yield* Effect.replicateEffect(visit({ token: "ann" }), count)
          yield* TestClock.adjust("61 seconds")
          expect(visitors.map(({ closeCode }) => closeCode)).toEqual(visitors.map(() => 4100))
          expect(texts(lines)).toEqual([
            expect.stringMatching(/^A session was closed with 4100: its token expired/)
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

describe("Crossed limits", () => {
  const steady = [
    [0, 1],
    [9, 1],
    [10, 1],
    [60, 5]
  ] as const
  it.effect.each(steady)(
    "a limit that clients cross each second for %s s is logged once after 10 s, and again after a minute",
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

  /** A client that subscribes each second, for `seconds` seconds. */
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

  it("every crossed limit is logged with its unit", () => {
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

  it.effect("waiting for a source that is down counts as sourceTimeout, and is not logged", () =>
    withDoor(
      (lines) =>
        Effect.gen(function* () {
          const before = yield* refusals("sourceTimeout")
          yield* (yield* MemorySource.MemorySource).lose
          const visitor = yield* asking(30, () => "orders")
          expect(new Set(visitor.errors)).toEqual(new Set(["source/down"]))
          expect(visitor.errors).toHaveLength(30)
          expect(yield* refusals("sourceTimeout")).toBe(before + 30)
          expect(texts(lines)).toEqual([])
        }),
      { limits }
    )
  )

  it.effect("maxChannels is logged with the option that raises it, and sends retryAfter", () =>
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

  it.effect("a full replay queue is logged with the option that raises it", () =>
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

  it("a limit that is crossed once in 10 s is not logged", () => {
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

describe("An outbox that cannot be read", () => {
  const faults = [
    new NotInstalled({}),
    new OutdatedInstall({ installed: 1, needed: 3 }),
    new ServerError.NotPrimary(),
    new ServerError.OtherOutbox()
  ]
  it.effect.each(faults.map((fault) => [fault._tag, fault] as const))(
    "an outbox that fails with %s is logged by its reader, and not again for each subscription",
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

describe("Pages of another origin", () => {
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
      "behind a trusted proxy with another host",
      { trustProxy: 1 },
      { "x-forwarded-host": "internal.example.com" },
      [
        `"https://app.example.com"`,
        `X-Forwarded-Host of the request is "internal.example.com"`,
        "origins"
      ]
    ],
    [
      "not in the list",
      { origins: ["https://www.example.com"] },
      {},
      [`"https://app.example.com"`, "origins (https://www.example.com)"]
    ]
  ] as const
  it.effect.each(cases)(
    "an origin %s is rejected with one warning, which has both values and the options",
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
    "rejected origins are logged at most 20 times an hour, in lines of bounded length without breaks",
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

describe("The repetition of log lines", () => {
  it("a notice is due again when the clock goes back, and once while it stands still", () => {
    const notices = new Notices()
    expect([0, 0, -60_000, -60_000, 0].map((time) => notices.due("x", 1e6 + time))).toEqual([
      0,
      undefined,
      1,
      undefined,
      1
    ])
  })

  it("notices about different things share one limit", () => {
    const notices = new Notices(60_000, 3)
    const due = (time: number) => ["a", "b", "c", "d"].map((key) => notices.due(key, time))
    expect(due(0)).toEqual([0, 0, 0, undefined])
    expect(due(59_999)).toEqual([undefined, undefined, undefined, undefined])
    expect(due(60_000)).toEqual([1, 1, 1, undefined])
  })
})
