/** The rules of the gateway: any, signed-in, or a claim that equals a parameter or a column. */
import { describe, expect, it } from "@effect/vitest"
import { authorizer, type Client } from "../../../src/bin/gateway/access.ts"
import { servedChannel } from "../../../src/bin/gateway/channels.ts"
import { fits } from "../../../src/bin/gateway/columns.ts"
import type { Access } from "../../../src/bin/gateway/config.ts"
import { servedTable } from "../support/gateway.ts"
import type { Action } from "../../../src/server/ServerOptions.ts"

const anonymous: Client = { key: "anonymous 1", claims: undefined }
const ann: Client = { key: "ann", claims: { sub: "ann", rooms: ["lobby", 7], team: "red" } }

const asked = (
  client: Client,
  action: Action,
  params?: unknown,
  given: Access | undefined = undefined
) => {
  const { definition } = servedChannel("room_{room}", {})
  const one = { definition, read: given, publish: given }
  return authorizer([one])({ identity: client, channel: "room_x", definition, params, action })
}

describe("a rule of the gateway", () => {
  it("allows nothing where there is none", () => {
    expect(asked(ann, "subscribe", "lobby")).toBe(false)
    expect(asked(ann, "publish", "lobby")).toBe(false)
    expect(asked(ann, "present", "lobby")).toBe(false)
  })

  it("allows any client, or one with a valid token", () => {
    expect(asked(anonymous, "subscribe", "lobby", "any")).toBe(true)
    expect(asked(anonymous, "subscribe", "lobby", "signed-in")).toBe(false)
    expect(asked(ann, "publish", "lobby", "signed-in")).toBe(true)
  })

  it("allows a client whose claim is the parameter, or has it in a list", () => {
    const rooms = { claim: "rooms", param: "room" } as const
    expect(asked(ann, "subscribe", "lobby", rooms)).toBe(true)
    expect(asked(ann, "subscribe", "7", rooms)).toBe(true)
    expect(asked(ann, "subscribe", "attic", rooms)).toBe(false)
    expect(asked(anonymous, "subscribe", "lobby", rooms)).toBe(false)
    expect(asked(ann, "present", "ann", { claim: "sub", param: "room" })).toBe(true)
    expect(asked(ann, "present", "ann", { claim: "missing", param: "room" })).toBe(false)
  })

  it("equals nothing by a claim that is an object, or a list in a list", () => {
    const bob: Client = {
      key: "bob",
      claims: { rooms: [["lobby"], { id: "lobby" }, null, 7], team: { name: "red" }, sub: "bob" }
    }
    const rooms = { claim: "rooms", param: "room" } as const
    expect(asked(bob, "subscribe", "lobby", rooms)).toBe(false)
    expect(asked(bob, "subscribe", "7", rooms)).toBe(true)
    const team = { claim: "team", param: "room" } as const
    expect(asked(bob, "subscribe", "[object Object]", team)).toBe(false)
    // An object has these without a claim.
    const inherited = { claim: "constructor", param: "room" } as const
    expect(asked(bob, "subscribe", String(Object), inherited)).toBe(false)
    const described = { key: ["id"], columns: ["id", "team"] }
    const orders = servedTable("orders", { read: { claim: "rooms", column: "team" } }, described)
    expect(
      authorizer([orders])({
        identity: bob,
        channel: "c",
        definition: orders.definition,
        params: undefined,
        action: "subscribe"
      })
    ).toEqual({ where: { team: [7] } })
  })

  it("bounds the rows of a table by a column, and by none where the claim is missing", () => {
    const described = { key: ["id"], columns: ["id", "team"] }
    const rows = (client: Client, claim: string) => {
      const served = servedTable("orders", { read: { claim, column: "team" } }, described)
      const { definition } = served
      const request = { identity: client, channel: "c", definition, params: undefined } as const
      expect(authorizer([served])({ ...request, action: "publish" })).toBe(false)
      return authorizer([served])({ ...request, action: "subscribe" })
    }
    expect(rows(ann, "team")).toEqual({ where: { team: ["red"] } })
    expect(rows(ann, "missing")).toEqual({ where: { team: [] } })
    expect(rows(anonymous, "team")).toBe(false)
  })
})

describe("a value of a claim", () => {
  it("fits a column that PostgreSQL could write so, and no other", () => {
    const types: Readonly<Record<string, number>> = {
      bool: 16,
      int8: 20,
      int2: 21,
      int4: 23,
      text: 25,
      date: 1082,
      uuid: 2950
    }
    const uuid = "0b0e1c1a-8d5b-4f0e-9a59-1c1f5c1b2a3d"
    const cases: Readonly<
      Record<string, readonly [ReadonlyArray<unknown>, ReadonlyArray<unknown>]>
    > = {
      bool: [
        [true, "false"],
        ["t", 1]
      ],
      int2: [
        [0, "-32768", 32_767],
        ["32768", "07", "+1", "-0", 1.5, "nonsense", ""]
      ],
      int4: [
        [-2_147_483_648, "2147483647"],
        [2_147_483_648, 1e21]
      ],
      int8: [["-9223372036854775808", "9223372036854775807"], ["9223372036854775808"]],
      date: [
        ["2024-02-29", "0001-01-01"],
        ["2026-02-30", "0000-01-01", "2026-1-1", "today"]
      ],
      uuid: [[uuid], [uuid.toUpperCase(), uuid.replaceAll("-", "")]],
      text: [["", "red", 7], ["\u0000"]]
    }
    for (const [name, [fit, unfit]] of Object.entries(cases)) {
      const column = { type: types[name]!, labels: [] }
      for (const value of fit) expect(fits(column, value), `${name} ${String(value)}`).toBe(true)
      for (const value of unfit) expect(fits(column, value), `${name} ${String(value)}`).toBe(false)
    }
    const mood = { type: 99_999, labels: ["ok", "sad"] }
    expect([fits(mood, "ok"), fits(mood, "glad")]).toEqual([true, false])
  })
})
