import { describe, expect, it } from "@effect/vitest"
import { Identities } from "../../../../src/server/internal/auth/identities.ts"

describe("Identities", () => {
  const [a, b, c] = [{ name: "a" }, { name: "b" }, { name: "c" }]

  it("an identity holds sessions up to its limit, and a further session is rejected", () => {
    const identities = new Identities<object>()
    expect([a, b, c].map((session) => identities.add("ada", session, 2))).toEqual([
      true,
      true,
      false
    ])
    expect(identities.add("bob", c, 2)).toBe(true)
    expect([identities.of("ada"), identities.of("bob"), identities.of("eve")]).toEqual([
      [a, b],
      [c],
      []
    ])
  })

  it("a session that leaves frees its place for another session of the identity", () => {
    const identities = new Identities<object>()
    identities.add("ada", a, 2)
    identities.add("ada", b, 2)
    identities.remove("ada", a)
    expect(identities.of("ada")).toEqual([b])
    expect(identities.add("ada", c, 2)).toBe(true)
    identities.remove("ada", b)
    identities.remove("ada", c)
    expect(identities.of("ada")).toEqual([])
    expect(identities.add("ada", a, 1)).toBe(true)
    identities.remove("ada", a)
    expect(identities.of("ada")).toEqual([])
  })

  it("removing a session that an identity does not hold changes nothing", () => {
    const identities = new Identities<object>()
    identities.add("ada", a, 2)
    identities.remove("ada", b)
    identities.remove("bob", a)
    expect(identities.of("ada")).toEqual([a])
  })

  it("a limit of 0 rejects every session of an identity", () => {
    expect(new Identities<object>().add("ada", a, 0)).toBe(false)
  })
})
