/**
 * What must not compile: a server without `authorize`, identities of the wrong type, a client that
 * publishes where clients may not. `tsc` checks the lines.
 */
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted, Schema, Stream } from "effect"
import type * as HttpRouter from "effect/http/HttpRouter"
import { generateKeyPairSync } from "node:crypto"
import type { Server } from "node:http"
import { expectTypeOf } from "vitest"
import * as Channel from "../../src/Channel.ts"
import * as RealtimeClient from "../../src/client/RealtimeClient.ts"
import { RealtimeServer as NodeServer } from "../../src/node/RealtimeServer.ts"
import * as Jwt from "../../src/server/Jwt.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import type { OutboxReader } from "../../src/server/OutboxReader.ts"
import {
  allowAll,
  type Authenticate,
  type Authenticated,
  AuthRefused,
  type Request
} from "../../src/server/ServerOptions.ts"

const Orders = Channel.make("orders", Schema.Struct({ id: Schema.Int }))
const Moves = Channel.make("moves", Schema.Struct({ id: Schema.Int }), { publish: true })
const channels = [Orders, Moves]

interface Person {
  readonly name: string
}
class Users extends Context.Service<Users, { readonly may: (name: string) => boolean }>()(
  "test/Users"
) {}

const authenticate: Authenticate<Person> = ({ token }) =>
  token === undefined
    ? Effect.fail(new AuthRefused({ code: "auth/required" }))
    : Effect.succeed({ identity: { name: token } })

const identityKey = ({ name }: Person) => name

describe("RealtimeServer.layer", () => {
  it("RealtimeServer.layer requires authorize or allowAll", () => {
    expect(() => {
      // @ts-expect-error authorize is required
      RealtimeServer.layer({ channels })
      // @ts-expect-error authenticate does not replace authorize
      RealtimeServer.layer({ channels, authenticate, identityKey })
      // @ts-expect-error a word of an earlier idea
      RealtimeServer.layer({ channels, authorize: true })
      RealtimeServer.layer({ channels, authorize: allowAll })
      RealtimeServer.layer({ channels, authorize: RealtimeServer.allowAll })
      RealtimeServer.layer({ channels, authenticate, authorize: allowAll, identityKey })
    }).toBeTypeOf("function")
    expect(RealtimeServer.allowAll).toBe(allowAll)
  })

  it("authorize gets the identity type that authenticate returns", () => {
    expect(() => {
      RealtimeServer.layer({
        channels,
        authenticate,
        authorize: ({ identity }) => {
          expectTypeOf(identity).toEqualTypeOf<Person>()
          return Effect.succeed(identity.name === "ann")
        },
        identityKey
      })
      RealtimeServer.layer({
        channels,
        authorize: ({ identity }) => {
          expectTypeOf(identity).toEqualTypeOf<undefined>()
          return Effect.succeed(true)
        }
      })
      RealtimeServer.layer({
        channels,
        authenticate,
        // @ts-expect-error a person has no role
        authorize: ({ identity }) => Effect.succeed(identity.role === "admin"),
        identityKey
      })
      // @ts-expect-error without authenticate no identity has a key
      RealtimeServer.layer({
        channels,
        authorize: ({ identity }: Request<Person>) => Effect.succeed(identity.name === "ann")
      })
      RealtimeServer.layer({
        channels,
        authenticate,
        authorize: allowAll,
        // @ts-expect-error a person has no id
        identityKey: ({ id }) => id
      })
    }).toBeTypeOf("function")
  })

  it("identityKey is required for an identity that is no string", () => {
    expect(() => {
      // @ts-expect-error two texts of one person are two people
      RealtimeServer.layer({ channels, authenticate, authorize: allowAll })
      RealtimeServer.layer({
        channels,
        authenticate: ({ token }) =>
          token === undefined
            ? Effect.fail(new AuthRefused({ code: "auth/required" }))
            : Effect.succeed({ identity: token }),
        authorize: ({ identity }) => Effect.succeed(identity.startsWith("ann"))
      })
      RealtimeServer.layer({
        channels,
        authenticate: ({ token }) =>
          token === undefined
            ? Effect.fail(new AuthRefused({ code: "auth/required" }))
            : Effect.succeed({ identity: { name: token } }),
        authorize: ({ identity }) => Effect.succeed(identity.name === "ann"),
        identityKey: ({ name }) => name
      })
      // @ts-expect-error the identity may be undefined
      RealtimeServer.layer({
        channels,
        authenticate: ({ token }) => Effect.succeed({ identity: token }),
        authorize: ({ identity }) => Effect.succeed(identity === "ann")
      })
    }).toBeTypeOf("function")
  })

  it("revoke and reauthorize of the service take the key of an identity only", () => {
    expect((ann: Person) =>
      RealtimeServer.RealtimeServer.use((server) => {
        // @ts-expect-error the service does not know the key of a person
        server.revoke(ann)
        // @ts-expect-error nor does this
        server.reauthorize(ann)
        return Effect.andThen(server.revoke(ann.name), server.reauthorize(ann.name))
      })
    ).toBeTypeOf("function")
  })

  it("authorize must be an Effect of a boolean that cannot fail", () => {
    expect(() => {
      // @ts-expect-error a boolean is no Effect
      RealtimeServer.layer({ channels, authorize: () => true })
      // @ts-expect-error nor is a Promise
      RealtimeServer.layer({ channels, authorize: async () => true })
      // @ts-expect-error only true and false are verdicts
      RealtimeServer.layer({ channels, authorize: () => Effect.succeed("yes") })
      // @ts-expect-error what to do about a failure must be decided here
      RealtimeServer.layer({ channels, authorize: () => Effect.fail("no") })
      // @ts-expect-error a refusal says why, as one of three codes
      RealtimeServer.layer({ channels, authenticate: () => Effect.fail("no"), authorize: allowAll })
      // @ts-expect-error there is no such code
      return new AuthRefused({ code: "channel/forbidden" })
    }).toBeTypeOf("function")
  })

  it("the server requires the services of authenticate and authorize", () => {
    const door = RealtimeServer.layer({
      channels,
      authenticate,
      authorize: ({ identity }) => Users.useSync((users) => users.may(identity.name)),
      identityKey
    })
    expectTypeOf<Layer.Services<typeof door>>().toEqualTypeOf<
      HttpRouter.HttpRouter | Realtime.Realtime | Users
    >()
    expect(Layer.isLayer(door)).toBe(true)
  })

  it("limits accept known names only, and a rate needs a burst", () => {
    expect(() => {
      RealtimeServer.layer({ channels, authorize: allowAll, limits: { helloTimeout: "1 second" } })
      // @ts-expect-error there is no such limit
      RealtimeServer.layer({ channels, authorize: allowAll, limits: { helo: "1 second" } })
      // @ts-expect-error a rate has a burst
      RealtimeServer.layer({ channels, authorize: allowAll, limits: { upgradeRate: { burst: 1 } } })
    }).toBeTypeOf("function")
  })
})

describe("The class RealtimeServer of ./node", () => {
  it("the class accepts values and Promises, and checks identities alike", () => {
    expect((server: Server) => [
      new NodeServer(server, ""),
      new NodeServer(server, "", { authorize: ({ action }) => action === "subscribe" }),
      new NodeServer(server, "", {
        authenticate: async ({ token }): Promise<Authenticated<Person>> => ({
          identity: { name: token ?? "" }
        }),
        authorize: async ({ identity }) => identity.name === "ann",
        identityKey
      }),
      new NodeServer(server, "", {
        authenticate: async ({ token }) => ({ identity: token ?? "" }),
        authorize: ({ identity }) => identity.startsWith("ann")
      }),
      new NodeServer(server, "", {
        authenticate: () => ({ identity: { name: "ann" } }),
        // @ts-expect-error a person has no role
        authorize: ({ identity }) => identity.role === "admin",
        identityKey
      }),
      // @ts-expect-error two texts of one person are two people
      new NodeServer(server, "", {
        authenticate: () => ({ identity: { name: "ann" } }),
        authorize: ({ identity }) => identity.name === "ann"
      }),
      // @ts-expect-error without authenticate no identity has a key
      new NodeServer(server, "", { authorize: ({ identity }) => identity.name === "ann" }),
      // @ts-expect-error text is no verdict
      new NodeServer(server, "", { authorize: () => "yes" })
    ]).toBeTypeOf("function")
  })
})

describe("revoke and reauthorize of ./node", () => {
  it("take the text that identityKey gives", () => {
    expect((server: Server) => {
      const people = new NodeServer(server, "", {
        authenticate: () => ({ identity: { name: "ann" } }),
        authorize: () => true,
        identityKey
      })
      void people.revoke("ann")
      // @ts-expect-error a person is no text
      void people.revoke({ name: "ann" })
      // @ts-expect-error nor is this
      void people.reauthorize({ id: 1 })
      const names = new NodeServer(server, "", { authenticate: () => ({ identity: "ann" }) })
      void names.revoke("ann")
      return names.reauthorize("ann")
    }).toBeTypeOf("function")
  })
})

describe("The client's types", () => {
  it("a client publishes only to channels that allow clients to publish", () => {
    expect(() =>
      RealtimeClient.RealtimeClient.use((client) => {
        // @ts-expect-error clients only read this one
        client.publish(Orders, { id: 1 })
        // @ts-expect-error the payload has no text
        client.publish(Moves, { id: "1" })
        return client.publish(Moves, { id: 1 })
      })
    ).toBeTypeOf("function")
  })
})

describe("jwt types", () => {
  const secret = Redacted.make("0123456789abcdef0123456789abcdef")
  const { publicKey } = generateKeyPairSync("ed25519")

  it("jwt gets its identity type from the Schema or the function, and string otherwise", () => {
    const Claims = Schema.Struct({ sub: Schema.String, role: Schema.Literals(["admin", "user"]) })
    expectTypeOf(Jwt.authenticate({ keys: secret })).toEqualTypeOf<Jwt.Authenticate<string>>()
    expectTypeOf(Jwt.authenticate({ keys: secret, identity: Claims })).toEqualTypeOf<
      Jwt.Authenticate<typeof Claims.Type>
    >()
    expectTypeOf(
      Jwt.authenticate({ keys: publicKey, identity: ({ sub }) => ({ id: sub }) })
    ).toEqualTypeOf<Jwt.Authenticate<{ id: string | undefined }>>()
    expectTypeOf(
      Jwt.authenticate({
        keys: secret,
        identity: ({ sub = "" }) => Users.useSync(({ may }) => may(sub))
      })
    ).toEqualTypeOf<Jwt.Authenticate<boolean, Users>>()
  })

  it("authorize gets the identity type of jwt", () => {
    const Claims = Schema.Struct({ sub: Schema.String, role: Schema.Literals(["admin", "user"]) })
    expect(() => {
      RealtimeServer.layer({
        channels,
        authenticate: Jwt.authenticate({ keys: secret }),
        authorize: ({ identity }) => Effect.succeed(identity.startsWith("ann"))
      })
      RealtimeServer.layer({
        channels,
        authenticate: Jwt.authenticate({ keys: secret, identity: Claims }),
        authorize: ({ identity }) => Effect.succeed(identity.role === "admin"),
        identityKey: ({ sub }) => sub
      })
      // @ts-expect-error another role would be another person
      RealtimeServer.layer({
        channels,
        authenticate: Jwt.authenticate({ keys: secret, identity: Claims }),
        authorize: ({ identity }) => Effect.succeed(identity.role === "admin")
      })
      RealtimeServer.layer({
        channels,
        authenticate: Jwt.authenticate({
          keys: secret,
          identity: ({ sub }) => ({ id: sub ?? "" })
        }),
        authorize: ({ identity }) => Effect.succeed(identity.id === "ann"),
        identityKey: ({ id }) => id
      })
    }).toBeTypeOf("function")
  })

  it("jwt rejects an identity of unknown type, which would need no key", () => {
    expect(() => {
      // @ts-expect-error any claim may be anything
      Jwt.authenticate({ keys: secret, identity: (claims) => claims["role"] })
      // @ts-expect-error nor does an Effect make it known
      Jwt.authenticate({ keys: secret, identity: (claims) => Effect.succeed(claims["role"]) })
      // @ts-expect-error nor a Schema that takes everything
      Jwt.authenticate({ keys: secret, identity: Schema.Unknown })
      RealtimeServer.layer({
        channels,
        // @ts-expect-error nor does it help to be in the door
        authenticate: Jwt.authenticate({ keys: secret, identity: ({ role }) => role }),
        authorize: allowAll
      })
      Jwt.authenticate({ keys: secret, identity: (claims) => ({ role: claims["role"] }) })
      Jwt.authenticate({ keys: secret, identity: (claims) => String(claims["uid"]) })
    }).toBeTypeOf("function")
  })

  it("jwt rejects the algorithm none, a secret as a public key, and a provider without issuer or audience", () => {
    expect(() => {
      // @ts-expect-error unsigned is no algorithm
      Jwt.authenticate({ keys: secret, algorithms: ["none"] })
      // @ts-expect-error a secret has no RS256
      Jwt.authenticate({ keys: secret, algorithms: ["RS256"] })
      // @ts-expect-error a key set has no secrets
      Jwt.authenticate({
        keys: "https://id.example",
        issuer: "i",
        audience: "a",
        algorithms: ["HS256"]
      })
      // @ts-expect-error the audience is required
      Jwt.authenticate({ keys: "https://id.example", issuer: "https://id.example" })
      // @ts-expect-error the issuer is required
      Jwt.authenticate({ keys: "https://id.example", audience: "app" })
      Jwt.authenticate({ keys: "https://id.example", issuer: "any", audience: "any" })
    }).toBeTypeOf("function")
  })
})

/** The services that an effect requires; a type only. */
const needs = <R>(effect: Effect.Effect<unknown, unknown, R>): R => effect as never
/** The services that a server layer requires; a type only. */
const doorNeeds = <R>(door: Layer.Layer<RealtimeServer.RealtimeServer, unknown, R>): R =>
  door as never

describe("The types of a durable channel", () => {
  const Log = Channel.make("log", Schema.Int, { delivery: "durable" })
  const Notes = Channel.family("note_", Schema.String, Schema.Int, { delivery: "durable" })

  it("a durable channel requires the outbox wherever it is used, and a live one does not", () => {
    expectTypeOf(needs(Realtime.publish(Log, 1))).toEqualTypeOf<Realtime.Realtime | OutboxReader>()
    expectTypeOf(needs(Realtime.publish(Moves, { id: 1 }))).toEqualTypeOf<Realtime.Realtime>()
    const events = Stream.runDrain(Realtime.events(Notes("a")))
    expectTypeOf(needs(events)).toEqualTypeOf<Realtime.Realtime | OutboxReader>()
    expectTypeOf(needs(Stream.runDrain(Realtime.subscribe(Log)))).toEqualTypeOf<
      Realtime.Realtime | OutboxReader
    >()
    expectTypeOf(
      needs(Stream.runDrain(Realtime.batches(Orders)))
    ).toEqualTypeOf<Realtime.Realtime>()
  })

  it("a server with a durable channel requires the outbox, also beside live channels", () => {
    const authorize = allowAll
    type Usual = HttpRouter.HttpRouter | Realtime.Realtime
    expectTypeOf(
      doorNeeds(RealtimeServer.layer({ channels: [Orders, Notes], authorize }))
    ).toEqualTypeOf<Usual | OutboxReader>()
    expectTypeOf(
      doorNeeds(RealtimeServer.layer({ channels: [Log], authenticate, authorize, identityKey }))
    ).toEqualTypeOf<Usual | OutboxReader>()
    expectTypeOf(
      doorNeeds(RealtimeServer.layer({ channels: [Orders], authorize }))
    ).toEqualTypeOf<Usual>()
    // The deliveries of these are unknown to the types, and are checked at start.
    const unknown: ReadonlyArray<Channel.Definition> = [Log, Orders]
    expectTypeOf(
      doorNeeds(RealtimeServer.layer({ channels: unknown, authorize }))
    ).toEqualTypeOf<Usual>()
  })

  it("a volatile channel requires neither the outbox nor a notification source, and cannot be consumed", () => {
    const Pointers = Channel.make("pointers", Schema.Int, { delivery: "volatile" })
    const Typing = Channel.family("typing_", Schema.String, Schema.Int, { delivery: "volatile" })
    type Usual = HttpRouter.HttpRouter | Realtime.Realtime
    expectTypeOf(needs(Realtime.publish(Pointers, 1))).toEqualTypeOf<Realtime.Realtime>()
    const events = Stream.runDrain(Realtime.subscribe(Typing("a")))
    expectTypeOf(needs(events)).toEqualTypeOf<Realtime.Realtime>()
    expectTypeOf(
      doorNeeds(RealtimeServer.layer({ channels: [Pointers, Typing], authorize: allowAll }))
    ).toEqualTypeOf<Usual>()
    expectTypeOf<Layer.Services<ReturnType<typeof Realtime.layerVolatile>>>().toEqualTypeOf<never>()
    expectTypeOf(() => {
      // @ts-expect-error a volatile channel keeps nothing to go on from
      Realtime.consume(Pointers, { name: "ledger", onEvents: () => Effect.void })
    }).toBeFunction()
  })

  it("only a durable channel can be consumed", () => {
    expectTypeOf(() => {
      Realtime.consume(Log, { name: "ledger", onEvents: () => Effect.void })
      // @ts-expect-error a live channel keeps nothing to go on from
      Realtime.consume(Orders, { name: "ledger", onEvents: () => Effect.void })
      const any = Log as Channel.Channel<number>
      // @ts-expect-error the delivery of this channel is unknown
      Realtime.consume(any, { name: "ledger", onEvents: () => Effect.void })
    }).toBeFunction()
  })
})
