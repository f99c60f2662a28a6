/** The connection to a real NATS server: its start, its loss, its limits and its rights. */
import { describe, expect, it } from "@effect/vitest"
import { connect, nkeyAuthenticator, nkeys } from "@nats-io/transport-node"
import {
  Effect,
  Exit,
  Fiber,
  Logger,
  Metric,
  Redacted,
  Scheduler,
  Stream,
  SubscriptionRef
} from "effect"
import * as Fs from "node:fs"
import { echoes, type Refusals } from "../../src/nats/internal/proof.ts"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import { certificates, credentials, hasOpenssl } from "../support/natsProofs.ts"
import { long } from "../server/support/random.ts"
import { hop } from "../support/hop.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { turns, until } from "../support/until.ts"

const backoff = { initial: 10, cap: 50, resetAfter: 30_000 }
const quick = { backoff, heartbeatInterval: 100, heartbeatTimeout: 200 }

const reaches = ({ state }: NatsConnection.Connection, wanted: "up" | "down") =>
  SubscriptionRef.changes(state).pipe(
    Stream.filter((now) => now === wanted),
    Stream.runHead
  )

/** Collects the texts of a subject. */
const texts = (connection: NatsConnection.Connection, subject: string) =>
  Effect.gen(function* () {
    const got: Array<string> = []
    yield* connection.subscribe(subject, (data) => got.push(Buffer.from(data).toString()))
    yield* connection.flush(1000)
    return got
  })

const user = (rights: string) =>
  `authorization { users = [ { user: "node", password: "right", permissions: { ${rights} } } ] }`

const node = { user: "node", password: Redacted.make("right") }

describe.skipIf(executablePath === undefined)("NatsConnection", () => {
  it.live(
    "connects where one server of the list answers, and reaches it again after its kill",
    () =>
      Effect.gen(function* () {
        const server = yield* natsServer()
        const servers = ["127.0.0.1:1", server.address]
        const one = yield* NatsConnection.make({ servers, ...quick })
        // As an environment has it.
        const two = yield* NatsConnection.make({ servers: servers.join(", "), ...quick })
        const got = yield* texts(two, "a.b")
        expect(one.publish("a.b", "before")).toBe(true)
        yield* until(() => got.length === 1)
        yield* server.stop
        yield* Effect.all([reaches(one, "down"), reaches(two, "down")])
        expect(one.publish("a.b", "lost")).toBe(false)
        expect(yield* one.flush(100)).toBe(false)
        yield* server.start
        yield* Effect.all([reaches(one, "up"), reaches(two, "up")])
        expect(one.publish("a.b", "after")).toBe(true)
        yield* until(() => got.length > 1)
        expect(got).toEqual(["before", "after"])
      }).pipe(Effect.scoped)
  )

  it.live(
    "fails at the start where no server answers, unless the node may start without, and where the login is rejected",
    () =>
      Effect.gen(function* () {
        const nowhere = { servers: "nats://127.0.0.1:1", ...quick }
        const unreachable = yield* Effect.flip(NatsConnection.make(nowhere))
        expect(unreachable._tag).toBe("NatsUnreachable")
        expect(unreachable.message).toContain("127.0.0.1:1")
        const without = yield* NatsConnection.make({ ...nowhere, startWithout: true })
        expect(yield* SubscriptionRef.get(without.state)).toBe("down")
        const server = yield* natsServer(user(""))
        const wrong = { servers: server.address, user: "node", password: Redacted.make("wrong") }
        const refused = yield* Effect.flip(NatsConnection.make(wrong))
        expect(refused._tag).toBe("NatsRefused")
        expect(refused.message).not.toContain("wrong")
        const invalid = { servers: "nats://node:right@127.0.0.1" }
        const error = yield* Effect.flip(NatsConnection.make(invalid))
        expect([error._tag, error.message.includes("right")]).toEqual(["InvalidOption", false])
        const lost = { ...nowhere, startWithout: true, credentialsFile: "/nowhere/node.creds" }
        expect(yield* Effect.flip(NatsConnection.make(lost))).toMatchObject({
          _tag: "InvalidOption",
          option: "credentialsFile"
        })
      }).pipe(Effect.scoped)
  )

  it.live(
    "goes on by itself after its password was wrong for many attempts at run time, with one line for each change",
    () => {
      const lines: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => {
        if (logLevel !== "Debug") lines.push(`${logLevel} ${String(message)}`)
      })
      return Effect.gen(function* () {
        const server = yield* natsServer(user(""))
        let attempts = 0
        const between = yield* hop({ host: "127.0.0.1", port: server.port }, () => {
          attempts++
          return () => undefined
        })
        const servers = `127.0.0.1:${between.port}`
        const reconnects = Effect.map(Metric.value(metrics.natsReconnects), ({ count }) => count)
        const up = Effect.map(Metric.value(metrics.natsUp), ({ value }) => value)
        const before = yield* reconnects
        const one = yield* NatsConnection.make({ servers, ...node, ...quick })
        const got = yield* texts(one, "a")
        expect([lines, yield* up]).toEqual([[], 1])
        yield* server.reload(user("").replace("right", "another"))
        yield* reaches(one, "down")
        expect(yield* up).toBe(0)
        yield* until(() => attempts > 10)
        yield* server.reload(user(""))
        yield* reaches(one, "up")
        one.publish("a", "back")
        yield* until(() => got.includes("back"))
        expect([yield* up, (yield* reconnects) - before]).toEqual([1, 1])
        // The server ends the connection, and then rejects each attempt.
        expect([2, 3]).toContain(lines.length)
        expect(lines).toEqual([
          ...lines
            .slice(0, -1)
            .map(() => expect.stringMatching(/^Warn The connection to NATS is down/)),
          expect.stringMatching(/^Info The connection to NATS is back, after .* failed attempts$/)
        ])
      }).pipe(Effect.scoped, Effect.provide(Logger.layer([logger])))
    }
  )

  it.live("hears each text once where it subscribes while the connection opens again", () =>
    Effect.gen(function* () {
      const server = yield* natsServer()
      const between = yield* hop({ host: "127.0.0.1", port: server.port })
      const one = yield* NatsConnection.make({ servers: `127.0.0.1:${between.port}`, ...quick })
      const heard: Array<number> = []
      const link = { isUp: false }
      const subscribing = yield* Effect.forkScoped(
        Effect.forEach(
          Array.from({ length: 16 }).keys(),
          // Out of step, so that one of them subscribes between any two operations of the connection.
          Effect.fnUntraced(function* (count) {
            yield* turns(count)
            while (!link.isUp) {
              const number = heard.push(0) - 1
              yield* one.subscribe(`numbers.${number}`, () => heard[number]!++)
            }
          }),
          { concurrency: "unbounded" }
        )
      )
      between.cut()
      yield* reaches(one, "down")
      yield* reaches(one, "up")
      link.isUp = true
      yield* Fiber.join(subscribing)
      for (const number of heard.keys()) one.publish(`numbers.${number}`, "text")
      expect(yield* one.flush(5000)).toBe(true)
      expect(heard.filter((count) => count !== 1)).toEqual([])
      // The fiber of the connection yields after each of its operations.
    }).pipe(Effect.scoped, Effect.provideService(Scheduler.MaxOpsBeforeYield, 3))
  )

  it.live("hears what follows where a part above it throws", () =>
    Effect.gen(function* () {
      const server = yield* natsServer()
      const connection = yield* NatsConnection.make({ servers: server.address })
      const states: Array<"up" | "down"> = []
      yield* SubscriptionRef.changes(connection.state).pipe(
        Stream.runForEach((state) => Effect.sync(() => states.push(state))),
        Effect.forkScoped({ startImmediately: true })
      )
      yield* connection.subscribe("a.bad", () => {
        throw new Error("no such text")
      })
      const got = yield* texts(connection, "a.b")
      for (const subject of ["a.b", "a.bad", "a.b"]) connection.publish(subject, subject)
      expect(yield* connection.flush(1000)).toBe(true)
      expect(got).toEqual(["a.b", "a.b"])
      expect(states).toEqual(["up"])
    }).pipe(Effect.scoped)
  )

  it.live("proves nothing on a connection that closes as the proof begins", () =>
    Effect.gen(function* () {
      const server = yield* natsServer()
      const library = yield* Effect.promise(() => connect({ servers: server.address }))
      yield* Effect.promise(() => library.close())
      const refusals: Refusals = new Set()
      expect(yield* Effect.exit(echoes(library, ["a.b"], refusals))).toEqual(Exit.void)
      expect(refusals.size).toBe(0)
    }).pipe(Effect.scoped)
  )

  it.live("proves its rights, and names the operation and the subject that it may not use", () =>
    Effect.gen(function* () {
      const rights = `publish: ["a", "c"], subscribe: ["a", "b"]`
      const server = yield* natsServer(user(rights))
      const one = yield* NatsConnection.make({ servers: server.address, ...node, ...quick })
      const got = yield* texts(one, "a")
      yield* one.prove(["a"])
      expect(got).toEqual([])
      const publish = yield* Effect.flip(one.prove(["a", "b"]))
      expect(publish).toMatchObject({ _tag: "NatsForbidden", operation: "publish", subject: "b" })
      const subscribe = yield* Effect.flip(one.prove(["c"]))
      expect(subscribe).toMatchObject({ operation: "subscribe", subject: "c" })
      // A right that it gets at run time needs no restart.
      const late = yield* texts(one, "c")
      yield* server.reload(user(`publish: ["a", "c"], subscribe: ["a", "c"]`))
      yield* until(() => {
        one.publish("c", "granted")
        return late.length > 0
      })
    }).pipe(Effect.scoped)
  )

  it.live(
    "refuses what is larger than the server takes, also after the server lowered it, and keeps the connection",
    () =>
      Effect.gen(function* () {
        const server = yield* natsServer("max_payload: 65536")
        const one = yield* NatsConnection.make({ servers: server.address, ...quick })
        const got = yield* texts(one, "a")
        expect(one.maxPayload()).toBe(65_536)
        expect(one.publish("a", "x".repeat(65_536))).toBe(true)
        expect(one.publish("a", "x".repeat(65_537))).toBe(false)
        yield* until(() => got.length === 1)
        yield* server.stop
        yield* reaches(one, "down")
        yield* server.reload("max_payload: 32768")
        yield* server.start
        yield* reaches(one, "up")
        expect(one.maxPayload()).toBe(32_768)
        expect(one.publish("a", "x".repeat(32_769))).toBe(false)
        expect(one.publish("a", "y")).toBe(true)
        yield* until(() => got.includes("y"))
      }).pipe(Effect.scoped)
  )

  it.live(
    "opens another connection where NATS is silent, and bounds what NATS has not confirmed",
    () =>
      Effect.gen(function* () {
        const server = yield* natsServer()
        const between = yield* hop({ host: "127.0.0.1", port: server.port })
        const servers = `127.0.0.1:${between.port}`
        const one = yield* NatsConnection.make({ servers, ...quick, heartbeatTimeout: 1000 })
        const got = yield* texts(one, "a")
        between.silence()
        const large = Buffer.alloc(1_048_576)
        let left = 0
        while (one.publish("b", large)) left++
        expect(left).toBe(15)
        between.heal()
        yield* reaches(one, "down")
        yield* reaches(one, "up")
        one.publish("a", "again")
        yield* until(() => got.includes("again"))
      }).pipe(Effect.scoped)
  )

  it.live.skipIf(!hasOpenssl)(
    "proves itself with a certificate and an NKey, and takes only a server of its authority",
    () =>
      Effect.gen(function* () {
        const files = yield* certificates
        const user = nkeys.createUser()
        const key = `authorization { users = [ { nkey: ${user.getPublicKey()} } ] }`
        const server = yield* natsServer(`${files.server}\n${key}`)
        const tls = {
          caFile: files.authority,
          certFile: files.certificate,
          keyFile: files.key
        }
        const authenticator = nkeyAuthenticator(user.getSeed())
        const servers = `tls://localhost:${server.port}`
        const one = yield* NatsConnection.make({ servers, tls, authenticator, ...quick })
        const got = yield* texts(one, "a")
        one.publish("a", "over TLS")
        yield* until(() => got.includes("over TLS"))
        yield* server.stop
        yield* server.start
        yield* reaches(one, "up")
        const failed = (options: Partial<NatsConnection.Options>) =>
          Effect.flip(NatsConnection.make({ servers, tls, authenticator, ...quick, ...options }))
        const stranger = yield* failed({ tls: { ...tls, caFile: files.stranger } })
        expect([stranger._tag, stranger.message]).toEqual([
          "NatsRefused",
          expect.stringMatching(/unable to verify the first certificate/)
        ])
        // The reason of the server may be lost with the connection. The cure is the same.
        const bare = yield* failed({ tls: { caFile: files.authority } })
        expect([bare._tag, bare.message]).toEqual(
          bare._tag === "NatsRefused"
            ? ["NatsRefused", expect.stringMatching(/certificate.*Check the options .* tls/s)]
            : ["NatsUnreachable", expect.stringMatching(/ECONNRESET.*certFile and keyFile of tls/)]
        )
        const other = nkeyAuthenticator(nkeys.createUser().getSeed())
        expect(yield* failed({ authenticator: other })).toMatchObject({ _tag: "NatsRefused" })
      }).pipe(Effect.scoped)
  )

  // The keys of an operator take seconds on a busy machine.
  it.live.skipIf(!long)(
    "proves itself with a .creds file, whose rights it has, and which it reads again",
    () =>
      Effect.gen(function* () {
        const { file, server: config } = yield* credentials("a.>")
        const server = yield* natsServer(config)
        const options = { servers: server.address, credentialsFile: file, ...quick }
        const one = yield* NatsConnection.make(options)
        yield* one.prove(["a.b"])
        expect(yield* Effect.flip(one.prove(["b"]))).toMatchObject({ _tag: "NatsForbidden" })
        const valid = Fs.readFileSync(file)
        // The file of another operator, while NATS is away.
        Fs.copyFileSync((yield* credentials("a.>")).file, file)
        yield* server.stop
        yield* reaches(one, "down")
        yield* server.start
        const refused = yield* Effect.flip(NatsConnection.make(options))
        expect(refused).toMatchObject({ _tag: "NatsRefused" })
        expect(yield* SubscriptionRef.get(one.state)).toBe("down")
        Fs.writeFileSync(file, valid)
        yield* reaches(one, "up")
      }).pipe(Effect.scoped)
  )
})
