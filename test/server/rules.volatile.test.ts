/** A rule for publishing on a volatile channel: it stamps every payload, however many come in a second. */
import { expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import { RuleRefused } from "../../src/server/Rule.ts"
import { AuthRefused, type IdentityRules } from "../../src/server/ServerOptions.ts"
import { layerDoor, settle, visit } from "../support/sessions.ts"

const Typing = Channel.make("typing", Schema.Struct({ user: Schema.String }), {
  delivery: "volatile",
  publish: true,
  latestBy: "user"
})

const options: IdentityRules<string> = {
  channels: [Typing],
  authenticate: ({ token }) =>
    token === undefined
      ? Effect.fail(new AuthRefused({ code: "auth/required" }))
      : Effect.succeed({ identity: token }),
  limits: { authorizeRate: { perSecond: 1, burst: 3 } },
  rules: ({ onPublish, onSubscribe }) => [
    onSubscribe(Typing, () => true),
    onPublish(Typing, ({ identity, payload }) =>
      payload.user === "muted" ? new RuleRefused({ message: "You are muted." }) : { user: identity }
    )
  ]
}

it.effect("stamps each volatile payload, and authorizeRate does not bound it", () =>
  Effect.gen(function* () {
    const ann = yield* visit({ token: "ann" })
    const bob = yield* visit({ token: "bob" })
    bob.send({ type: "subscribe", id: 1, channel: "typing" })
    yield* settle
    for (let id = 1; id <= 20; id++) {
      const data = { user: id === 7 ? "muted" : "eve" }
      ann.send({ type: "publish", id, channel: "typing", data })
      yield* settle
    }
    expect(ann.of("published").length).toBe(19)
    expect(ann.answer(7)).toMatchObject({ code: "publish/forbidden", message: "You are muted." })
    const told = bob.of("events").flatMap(({ events }) => events.map(({ data }) => data))
    expect(told).toEqual(told.map(() => ({ user: "ann" })))
    expect(told.length).toBeGreaterThan(0)
  }).pipe(Effect.scoped, Effect.provide(layerDoor(options)))
)
