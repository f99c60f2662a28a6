/**
 * What rules may be, by their types: the parameter, the payload and the identity come from definitions and
 * from `authenticate`, and no definition is without its rules. `tsc` checks the lines.
 */
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, type Layer, Schema } from "effect"
import type * as HttpRouter from "effect/http/HttpRouter"
import type { Server } from "node:http"
import { expectTypeOf } from "vitest"
import * as Channel from "../../src/Channel.ts"
import { RealtimeServer as NodeServer } from "../../src/node/RealtimeServer.ts"
import type * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { allowAll, type Authenticate } from "../../src/server/ServerOptions.ts"
import * as RealtimeTest from "../../src/testing/RealtimeTest.ts"

const Text = Schema.Struct({ sender: Schema.String, text: Schema.String })
const News = Channel.make("news", Text)
const Notes = Channel.make("notes", Text, { publish: true })
const Room = Channel.family("room_", Schema.FiniteFromString, Text, { publish: true })
const channels = [News, Room] as const
const Ticket = Schema.Struct({ id: Schema.Int, team: Schema.String, status: Schema.String })
const Tickets = Channel.table("tickets", Ticket, {
  key: "id",
  by: "team",
  filter: "status"
})

interface Person {
  readonly name: string
}
class Users extends Context.Service<Users, { readonly may: (name: string) => boolean }>()(
  "test/Users"
) {}
class Words extends Context.Service<Words, { readonly clean: (text: string) => string }>()(
  "test/Words"
) {}
const authenticate: Authenticate<Person> = () => Effect.succeed({ identity: { name: "ann" } })
const identityKey = ({ name }: Person) => name

describe("The types of rules", () => {
  it("a rule limits the rows of a table by the columns of its definition, and of no other channel", () => {
    expect(() => {
      RealtimeServer.layer({
        channels: [Tickets, News],
        authenticate,
        identityKey,
        rules: ({ onSubscribe }) => [
          onSubscribe(Tickets, async ({ identity, params }) => {
            expectTypeOf(params).toEqualTypeOf<string>()
            return identity.name === "ann" || { where: { team: ["a", "b"], status: "new" } }
          }),
          onSubscribe(News, () => true)
        ]
      })
      RealtimeServer.layer({
        channels: [Tickets, News],
        authenticate,
        identityKey,
        rules: ({ onSubscribe }) => [
          // @ts-expect-error: `id` is in none of filter, boundary and by.
          onSubscribe(Tickets, () => ({ where: { id: 1 } })),
          // @ts-expect-error: a status is a text.
          onSubscribe(Tickets, () => ({ where: { status: 1 } })),
          // @ts-expect-error: a column of no value is left out, or it is a fault.
          onSubscribe(Tickets, () => ({ where: { status: undefined } })),
          // @ts-expect-error: the channel is not a table's.
          onSubscribe(News, () => ({ where: { team: "a" } }))
        ]
      })
      RealtimeServer.layer({
        channels: [Tickets],
        authenticate,
        identityKey,
        authorize: ({ identity }) => Effect.succeed({ where: { team: identity.name } })
      })
    }).toBeTypeOf("function")
  })

  it("a rule has the parameter of its family, the payload of its definition and the identity", () => {
    expect(() => {
      RealtimeServer.layer({
        channels,
        authenticate: ({ token }) => Effect.succeed({ identity: { name: token ?? "" } }),
        identityKey: ({ name }) => name,
        rules: ({ onPublish, onSubscribe }) => [
          onSubscribe(News, ({ channel, identity }) => {
            expectTypeOf(identity).toEqualTypeOf<{ name: string }>()
            expectTypeOf(channel).toEqualTypeOf<string>()
            return true
          }),
          onSubscribe(Room, async ({ params }) => {
            expectTypeOf(params).toEqualTypeOf<number>()
            return params === 1
          }),
          onPublish(Room, ({ identity, params, payload }) => {
            expectTypeOf(identity).toEqualTypeOf<{ name: string }>()
            expectTypeOf(params).toEqualTypeOf<number>()
            expectTypeOf(payload).toEqualTypeOf<typeof Text.Type>()
            return payload.text === ""
              ? new RealtimeServer.RuleRefused({ message: "Write something." })
              : { ...payload, sender: identity.name }
          })
        ]
      })
      RealtimeServer.layer({
        channels: [News],
        rules: ({ onSubscribe }) => [
          // @ts-expect-error a single channel has no parameter
          onSubscribe(News, ({ params }) => params === "")
        ]
      })
      RealtimeServer.layer({
        channels: [News],
        rules: ({ onSubscribe }) => [
          onSubscribe(News, ({ identity }) => {
            expectTypeOf(identity).toEqualTypeOf<undefined>()
            return true
          })
        ]
      })
    }).toBeTypeOf("function")
  })

  it("a rule returns the payload, or whether the client may subscribe", () => {
    const write = ({ onPublish, onSubscribe }: RealtimeServer.RuleMaker<Person>) => [
      // @ts-expect-error the sender is a text
      onPublish(Notes, ({ payload }) => ({ ...payload, sender: 1 })),
      // @ts-expect-error a rule for publishing rejects with RuleRefused
      onPublish(Notes, () => false),
      // @ts-expect-error the sender is missing
      onPublish(Notes, () => Effect.succeed({ text: "" })),
      // @ts-expect-error clients do not publish here
      onPublish(News, ({ payload }) => payload),
      // @ts-expect-error a rule fails with RuleRefused only
      onPublish(Notes, () => Effect.fail("no")),
      // @ts-expect-error a text allows nothing
      onSubscribe(Notes, () => "yes"),
      // @ts-expect-error a person has no role
      onSubscribe(Notes, ({ identity }) => identity.role === "admin")
    ]
    expect(write).toBeTypeOf("function")
  })

  it("each definition has its rules, and each rule its definition", () => {
    expect(() => {
      RealtimeServer.layer({
        channels,
        // @ts-expect-error onPublish for room_* is missing
        rules: ({ onSubscribe }) => [onSubscribe(News, () => true), onSubscribe(Room, () => true)]
      })
      RealtimeServer.layer({
        channels,
        // @ts-expect-error onSubscribe for news is missing
        rules: ({ onPublish, onSubscribe }) => [
          onSubscribe(Room, () => true),
          onPublish(Room, ({ payload }) => payload)
        ]
      })
      RealtimeServer.layer({
        channels: [News],
        // @ts-expect-error notes is not in channels
        rules: ({ onSubscribe }) => [onSubscribe(News, () => true), onSubscribe(Notes, () => true)]
      })
      // The compiler does not know these definitions, and the server checks them at start.
      const unknown: ReadonlyArray<Channel.Definition> = channels
      RealtimeServer.layer({
        channels: unknown,
        rules: ({ onSubscribe }) => unknown.map((each) => onSubscribe(each, () => true))
      })
      RealtimeServer.layer({
        channels: unknown,
        rules: ({ onSubscribe }) => [onSubscribe(News, () => true)]
      })
    }).toBeTypeOf("function")
    type Wrong = RealtimeServer.CompleteRules<
      typeof News | typeof Room,
      readonly [RealtimeServer.Rule<typeof Notes, "subscribe">]
    >
    expectTypeOf<Wrong>().toEqualTypeOf<{
      readonly "The rules need":
        | "no rule for notes: it is not in channels"
        | "onPublish for room_*"
        | "onSubscribe for news"
        | "onSubscribe for room_*"
    }>()
  })

  it("a presence channel has a rule for its members, with its parameter, its state and the identity", () => {
    const InRoom = Channel.presence("in_room_", Schema.FiniteFromString, Text)
    const Lobby = Channel.presence("lobby", Text)
    expect(() => {
      RealtimeServer.layer({
        channels: [InRoom, News],
        authenticate,
        identityKey,
        rules: ({ onPresent, onSubscribe }) => [
          onSubscribe(News, () => true),
          onSubscribe(InRoom, ({ params }) => {
            expectTypeOf(params).toEqualTypeOf<number>()
            return true
          }),
          onPresent(InRoom, ({ identity, member, params }) => {
            expectTypeOf(params).toEqualTypeOf<number>()
            expectTypeOf(member).toEqualTypeOf<typeof Text.Type>()
            return { ...member, sender: identity.name }
          })
        ]
      })
      RealtimeServer.layer({
        channels: [InRoom],
        // @ts-expect-error onPresent for in_room_* is missing
        rules: ({ onSubscribe }) => [onSubscribe(InRoom, () => true)]
      })
      RealtimeServer.layer({
        channels: [InRoom],
        // @ts-expect-error lobby is not in channels
        rules: ({ onPresent, onSubscribe }) => [
          onSubscribe(InRoom, () => true),
          onPresent(InRoom, ({ member }) => member),
          onPresent(Lobby, ({ member }) => member)
        ]
      })
    }).toBeTypeOf("function")
    const write = ({ onPresent, onPublish, onSubscribe }: RealtimeServer.RuleMaker<Person>) => [
      // @ts-expect-error a sender is a text
      onPresent(InRoom, ({ member }) => ({ ...member, sender: 1 })),
      // @ts-expect-error a rule gives the state, and no decision
      onPresent(InRoom, () => true),
      // @ts-expect-error a failure is a RuleRefused
      onPresent(InRoom, () => Effect.fail("no")),
      // @ts-expect-error the channel has no members
      onPresent(Notes, ({ member }) => member),
      // @ts-expect-error the channel has no events
      onPublish(InRoom, ({ payload }) => payload),
      // @ts-expect-error the channel is not a table's
      onSubscribe(InRoom, () => ({ where: { team: "a" } }))
    ]
    expect(write).toBeTypeOf("function")
    expectTypeOf<
      RealtimeServer.CompleteRules<
        typeof InRoom | typeof Lobby,
        readonly [RealtimeServer.Rule<typeof Lobby, "subscribe">]
      >
    >().toEqualTypeOf<{
      readonly "The rules need":
        | "onSubscribe for in_room_*"
        | "onPresent for in_room_*"
        | "onPresent for lobby"
    }>()
  })

  it("a server has rules or authorize, and not both", () => {
    expect(() => {
      // @ts-expect-error authorize decides already
      RealtimeServer.layer({
        channels: [News],
        authorize: allowAll,
        rules: (make: RealtimeServer.RuleMaker<undefined>) => [make.onSubscribe(News, () => true)]
      })
      RealtimeServer.layer({
        channels: [News],
        authenticate,
        // @ts-expect-error identities that are no strings need a key
        rules: ({ onSubscribe }) => [onSubscribe(News, () => true)]
      })
    }).toBeTypeOf("function")
  })

  it("the server requires the services of its rules", () => {
    const door = () =>
      RealtimeServer.layer({
        channels: [Room],
        authenticate,
        identityKey,
        rules: ({ onPublish, onSubscribe }) => [
          onSubscribe(Room, ({ identity }) => Users.useSync(({ may }) => may(identity.name))),
          onPublish(Room, ({ payload }) =>
            Words.useSync(({ clean }) => ({ ...payload, text: clean(payload.text) }))
          )
        ]
      })
    expectTypeOf<Layer.Services<ReturnType<typeof door>>>().toEqualTypeOf<
      HttpRouter.HttpRouter | Realtime.Realtime | Users | Words
    >()
    const system = () =>
      RealtimeTest.layer({
        channels: [News],
        rules: ({ onSubscribe }) => [
          onSubscribe(News, () => Users.useSync(({ may }) => may("ann")))
        ]
      })
    expectTypeOf<Layer.Services<ReturnType<typeof system>>>().toEqualTypeOf<Users>()
    expect(door).toBeTypeOf("function")
  })

  it("the class of ./node takes the same rules, without services", () => {
    expect((server: Server) => [
      new NodeServer(server, "", {
        channels: [Room],
        authenticate: () => ({ identity: { name: "ann" } }),
        identityKey,
        rules: ({ onPublish, onSubscribe }) => [
          onSubscribe(Room, async ({ identity, params }) => identity.name === "ann" && params > 1),
          onPublish(Room, ({ identity, payload }) => ({ ...payload, sender: identity.name }))
        ]
      }),
      new NodeServer(server, "", {
        channels: [News],
        // @ts-expect-error the class has no service for it
        rules: ({ onSubscribe }) => [onSubscribe(News, () => Users.useSync(({ may }) => may("a")))]
      })
    ]).toBeTypeOf("function")
  })
})
