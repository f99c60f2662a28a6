import { describe, expect, it } from "@effect/vitest"
import { resolveLimits } from "../../../../src/server/internal/limits/limits.ts"
import { digestOf, PublishKeys } from "../../../../src/server/internal/session/publishKeys.ts"

const minute = 60_000
const [one, two] = [digestOf("1"), digestOf("2")]

describe("PublishKeys", () => {
  it("a publish with a known key gets the first outcome for the same data and a conflict for other data", () => {
    const keys = new PublishKeys<string>(resolveLimits())
    expect(keys.find("ann", "moves", "k", one, 0)).toBeUndefined()
    keys.remember("ann", "moves", "k", one, 0, "done")
    expect(keys.find("ann", "moves", "k", one, 1)).toBe("done")
    expect(keys.find("ann", "moves", "k", two, 1)).toBe("conflict")
  })

  it("a publish key counts for one identity and one channel only", () => {
    const keys = new PublishKeys<string>(resolveLimits())
    keys.remember("ann", "moves", "k", one, 0, "done")
    expect(keys.find("bob", "moves", "k", two, 0)).toBeUndefined()
    expect(keys.find("ann", "other", "k", two, 0)).toBeUndefined()
    expect(keys.find("ann", "moves k", "", two, 0)).toBeUndefined()
  })

  it("a publish key is remembered for 10 minutes", () => {
    const keys = new PublishKeys<string>(resolveLimits())
    keys.remember("ann", "moves", "k", one, 0, "done")
    expect(keys.find("ann", "moves", "k", two, 10 * minute)).toBe("conflict")
    expect(keys.find("ann", "moves", "k", two, 10 * minute + 1)).toBeUndefined()
    keys.sweep(10 * minute)
    expect(keys.size).toBe(1)
    keys.sweep(10 * minute + 1)
    expect(keys.size).toBe(0)
  })

  it("a publish key that failed is forgotten, and forgetting an unknown key changes nothing", () => {
    const keys = new PublishKeys<string>(resolveLimits())
    keys.remember("ann", "moves", "k", one, 0, "on its way")
    keys.forget("ann", "moves", "k", "on its way")
    keys.forget("ann", "moves", "other", "on its way")
    keys.forget("nobody", "moves", "k", "on its way")
    expect(keys.find("ann", "moves", "k", two, 0)).toBeUndefined()
    expect(keys.size).toBe(0)
  })

  it("a publish that fails late forgets no retry, which was sent since its own key was dropped", () => {
    const keys = new PublishKeys<string>(resolveLimits({ maxPublishKeysPerIdentity: 1 }))
    keys.remember("ann", "moves", "k", one, 0, "on its way")
    keys.remember("ann", "moves", "other", one, 1, "done")
    keys.remember("ann", "moves", "k", one, 2, "sent again")
    keys.forget("ann", "moves", "k", "on its way")
    expect(keys.find("ann", "moves", "k", one, 3)).toBe("sent again")
  })

  it("an identity holds 10,000 publish keys, and one more drops its oldest", () => {
    const keys = new PublishKeys<string>(resolveLimits())
    for (let n = 0; n < 10_000; n++) keys.remember("ann", "moves", `${n}`, one, n, "done")
    expect(keys.find("ann", "moves", "0", one, 0)).toBe("done")
    const crossed = keys.remember("ann", "moves", "more", one, 10_000, "done")
    expect(crossed).toBe("maxPublishKeysPerIdentity")
    expect(keys.find("ann", "moves", "0", one, 0)).toBeUndefined()
    expect(keys.find("ann", "moves", "1", one, 0)).toBe("done")
    expect(keys.size).toBe(10_000)
  })

  it("all identities share a limit of publish keys, and an identity over it drops its own oldest", () => {
    const keys = new PublishKeys<string>(resolveLimits({ maxPublishKeys: 10 }))
    for (let n = 0; n < 5; n++) keys.remember("ann", "moves", `${n}`, one, n, "done")
    for (let n = 0; n < 50; n++) keys.remember("bob", "moves", `${n}`, one, n, "done")
    expect(keys.size).toBe(10)
    expect(keys.find("ann", "moves", "0", one, 50)).toBe("done")
    expect(keys.find("bob", "moves", "44", one, 50)).toBeUndefined()
    expect(keys.find("bob", "moves", "45", one, 50)).toBe("done")
    expect(keys.remember("bob", "moves", "more", one, 50, "done")).toBe("maxPublishKeys")
    // The only key of an identity stays.
    expect(keys.remember("eve", "moves", "k", one, 50, "done")).toBeUndefined()
    expect(keys.find("eve", "moves", "k", one, 50)).toBe("done")
  })

  it("a publish key used again after 10 minutes is remembered for 10 more", () => {
    const keys = new PublishKeys<string>(resolveLimits())
    keys.remember("ann", "moves", "k", one, 0, "done")
    keys.remember("ann", "moves", "l", one, 1, "done")
    keys.remember("ann", "moves", "k", two, 11 * minute, "done")
    keys.sweep(11 * minute)
    expect(keys.find("ann", "moves", "k", two, 11 * minute)).toBe("done")
    expect(keys.size).toBe(1)
  })
})
