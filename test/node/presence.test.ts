/** Presence with the class of `./node`: rules, members that are programs, and two servers of one database. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, type Fiber, Scheduler, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import { presentMember } from "../../src/node/internal/iterateMembers.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import { installedDatabase } from "../support/database.ts"
import { addressOf, httpServer } from "../support/httpServer.ts"
import { hubOf } from "../../src/server/internal/hub/ofRealtime.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { turns, until } from "../support/until.ts"
import { connect } from "../support/wire.ts"

const InRoom = Channel.presence("in_room_", Schema.String, Schema.Struct({ name: Schema.String }))
const Lobby = InRoom("lobby")
const Notices = Channel.make("notices", Schema.String)

const serverOn = (url: string) =>
  Effect.gen(function* () {
    const http = yield* httpServer
    const server = yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new RealtimeServer<string>(http, url, {
            channels: [InRoom],
            authenticate: ({ token }) => ({ identity: token ?? "" }),
            rules: ({ onPresent, onSubscribe }) => [
              onSubscribe(InRoom, () => true),
              onPresent(InRoom, async ({ identity, member }) => ({
                name: `${member.name} (${identity})`
              }))
            ],
            control: true,
            limits: { drainTimeout: "100 millis" },
            presenceGrace: "100 millis"
          })
      ),
      (server) => Effect.promise(() => server.close())
    )
    return { server, ws: `ws://${addressOf(http)}/realtime` }
  })

/** Follows the members with an iteration until it ends. */
const follow = ({ server }: { readonly server: RealtimeServer<string> }) => {
  const one = { names: "", ended: false }
  const iterating = async () => {
    for await (const { members } of server.presence(Lobby)) {
      one.names = members
        .map(({ state }) => state.name)
        .toSorted()
        .join()
    }
    one.ended = true
  }
  void iterating()
  return one
}

describe("presence of the class", () => {
  it.live("programs and clients of two servers are members for each other, until they leave", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const [one, two] = [yield* serverOn(url), yield* serverOn(url)]
      yield* Effect.promise(() => Promise.all([one.server.ready, two.server.ready]))
      const seen = [follow(one), follow(two)]
      const both = (names: string) => until(() => seen.every((one) => one.names === names))
      const wire = yield* connect(two.ws)
      wire.send({ type: "hello", version: 1, token: "ann" })
      wire.send({ type: "subscribe", id: 1, channel: Lobby.name })
      wire.send({ type: "present", id: 2, channel: Lobby.name, member: { name: "Ann" } })
      const bot = yield* Effect.promise(() => one.server.present(Lobby, { name: "Bot" }))
      yield* both("Ann (ann),Bot")
      yield* Effect.promise(() => bot.update({ name: "Busy" }))
      yield* both("Ann (ann),Busy")
      const large = bot.update({ name: "x".repeat(3000) }).catch((error: unknown) => error)
      expect(yield* Effect.promise(() => large)).toMatchObject({ _tag: "PayloadTooLarge" })
      yield* Effect.promise(() => bot.leave())
      yield* both("Ann (ann)")
      yield* Effect.promise(async () => {
        await using guest = await two.server.present(Lobby, { name: "Guest" })
        expect(guest.member).toMatch(/^[\w-]{16}$/)
        await Effect.runPromise(both("Ann (ann),Guest"))
      })
      yield* both("Ann (ann)")
      wire.socket.close()
      yield* both("")
      yield* Effect.promise(() => two.server.close())
      yield* until(() => seen[1]!.ended)
    }).pipe(Effect.scoped)
  )

  it.live("takes no channel of another kind, and no family without its parameter", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const { server } = yield* serverOn(url)
      for (const wrong of [Notices, InRoom, "in_room_lobby", undefined]) {
        const rejected = server
          .present(wrong as never, {} as never)
          .catch((error: unknown) => error)
        expect(yield* Effect.promise(() => rejected)).toMatchObject({ option: "channel" })
        expect(() => server.presence(wrong as never)).toThrow(/a channel of Channel\.presence/)
      }
      expect(() => server.presence(InRoom("a b"))).toThrow(/in_room_a b/)
    }).pipe(Effect.scoped)
  )

  it.effect("a call that is interrupted at any moment leaves no member", () =>
    Effect.gen(function* () {
      const { presence } = hubOf(yield* Realtime.Realtime).deliveryOf(Lobby)
      const context = yield* Effect.context<Realtime.Realtime>()
      let calls = 0
      for (let count = 0; count < 40; count++) {
        let fiber: Fiber.Fiber<unknown, unknown> | undefined
        const run = <A, E>(effect: Effect.Effect<A, E, Realtime.Realtime>) =>
          new Promise<A>((resolve, reject) => {
            const started = Effect.runForkWith(
              Context.add(context, Scheduler.MaxOpsBeforeYield, 3)
            )(effect)
            fiber = started
            started.addObserver((exit) =>
              Exit.isSuccess(exit) ? resolve(exit.value) : reject(new Error("interrupted"))
            )
          })
        const call = presentMember(Lobby, { name: "Bot" }, run)
        yield* turns(count)
        fiber!.interruptUnsafe()
        const exit = yield* Effect.exit(Effect.tryPromise(() => call))
        expect(presence!.seats, `after ${count} turns`).toBe(Exit.isSuccess(exit) ? 1 : 0)
        if (Exit.isFailure(exit)) continue
        calls++
        yield* Effect.promise(() => exit.value.leave())
      }
      expect(calls).toBeGreaterThan(0)
    }).pipe(Effect.provide(Realtime.layerVolatile()))
  )
})
