/**
 * Admission: every rejection of an upgrade, their order, and the client address that a proxy
 * forwards.
 */
import { describe, expect, it } from "@effect/vitest"
import type { IncomingHttpHeaders, IncomingMessage } from "node:http"
import { isNear, networkOf, readAddress } from "../../../../src/server/internal/door/address.ts"
import { Admission } from "../../../../src/server/internal/door/admission.ts"
import { resolveLimits } from "../../../../src/server/internal/limits/limits.ts"
import type { DoorOptions } from "../../../../src/server/ServerOptions.ts"

const client = "203.0.113.7"

const request = (headers: IncomingHttpHeaders = {}, remoteAddress = client) =>
  ({
    headers: { host: "app.example", "sec-websocket-version": "13", ...headers },
    socket: { remoteAddress }
  }) as IncomingMessage

/** The admission of a server at a time that the test sets. */
const open = (options: Partial<DoorOptions> = {}) => {
  const admission = new Admission({ channels: [], ...options }, resolveLimits(options.limits), 0)
  const state = { now: 0, sessions: 0, draining: false }
  const knock = (headers?: IncomingHttpHeaders, address?: string) => {
    const from = request(headers, address)
    const { draining, now, sessions } = state
    return admission.refusal(from, admission.addressOf(from), sessions, draining, now)
  }
  return { admission, knock, state }
}

const evil = { origin: "https://evil.example", "sec-websocket-protocol": "other" }

describe("Admission of upgrades", () => {
  it("an upgrade is rejected with 503 while the node is full or draining", () => {
    const { knock, state } = open({ limits: { maxSessions: 2 } })
    state.sessions = 1
    expect(knock()).toBeUndefined()
    state.sessions = 2
    expect(knock()).toMatchObject({ status: 503, retryAfterSeconds: 1, limit: "maxSessions" })
    state.sessions = 0
    state.draining = true
    expect(knock()).toMatchObject({ status: 503, retryAfterSeconds: 1 })
  })

  it("a node accepts 500 upgrades at once and 500 more each second, and rejects others with 503", () => {
    const { knock, state } = open()
    const many = (count: number) =>
      Array.from({ length: count }, (_, n) => knock({}, `203.0.${n >> 8}.${n & 255}`))
    expect(many(500).every((refused) => refused === undefined)).toBe(true)
    expect(knock()).toMatchObject({ status: 503, retryAfterSeconds: 1, limit: "upgradeRate" })
    state.now = 1000
    expect(many(500).every((refused) => refused === undefined)).toBe(true)
    expect(knock()).toMatchObject({ status: 503 })
  })

  it("an address gets 40 upgrades at once and 20 more each second, and 429 for others", () => {
    const { knock, state } = open()
    for (let n = 0; n < 40; n++) expect(knock()).toBeUndefined()
    expect(knock()).toMatchObject({
      status: 429,
      retryAfterSeconds: 1,
      limit: "upgradeRatePerAddress"
    })
    expect(knock({}, "203.0.113.8")).toBeUndefined()
    state.now = 1000
    for (let n = 0; n < 20; n++) expect(knock()).toBeUndefined()
    expect(knock()).toMatchObject({ status: 429 })
  })

  it("an address with 100 sessions is rejected with 429 until one of them leaves", () => {
    const { admission, knock } = open()
    for (let n = 0; n < 99; n++) admission.enter(client)
    expect(knock()).toBeUndefined()
    admission.enter(client)
    expect(knock()).toMatchObject({ status: 429, limit: "maxSessionsPerAddress" })
    admission.leave(client)
    expect(knock()).toBeUndefined()
  })

  it("one address that floods the server cannot use up the upgrades of the whole node", () => {
    const { knock } = open({ limits: { upgradeRate: { perSecond: 50, burst: 50 } } })
    for (let n = 0; n < 1000; n++) knock()
    expect(knock({}, "203.0.113.8")).toBeUndefined()
  })

  it("an upgrade that breaks several rules is rejected with the first of 503, 429, 403 and 400", () => {
    const limits = { maxSessions: 1, upgradeRatePerAddress: { perSecond: 1, burst: 1 } }
    const { knock, state } = open({ limits })
    state.sessions = 1
    expect(knock(evil)?.status).toBe(503)
    state.sessions = 0
    expect(knock(evil)?.status).toBe(403)
    expect(knock(evil)?.status).toBe(429)
    state.now = 1000
    expect(knock({ "sec-websocket-protocol": "other" })?.status).toBe(400)
  })

  it("an upgrade that offers only other subprotocols is rejected with 400", () => {
    const { knock } = open()
    const offer = (names: string) => knock({ "sec-websocket-protocol": names })?.status
    expect(offer("effect-realtime.v1")).toBeUndefined()
    expect(offer("graphql-ws , effect-realtime.v1")).toBeUndefined()
    expect(offer("effect-realtime.v2")).toBe(400)
    expect(offer("")).toBe(400)
    expect(knock()).toBeUndefined()
  })

  it("an upgrade with any WebSocket version but 13 is rejected with 400", () => {
    const { knock } = open()
    for (const version of [undefined, "", "8", "12", "13, 8", "0x0d"]) {
      expect(knock({ "sec-websocket-version": version })?.status).toBe(400)
    }
  })
})

describe("Admission by origin", () => {
  const same = [
    ["https://app.example", "app.example"],
    ["http://app.example", "app.example:80"],
    ["https://app.example:443", "app.example"],
    ["https://app.example", "app.example:443"],
    ["https://app.example:8443", "app.example:8443"],
    ["HTTPS://APP.Example", "app.EXAMPLE"],
    ["http://[::1]:3000", "[::1]:3000"],
    ["http://[0:0:0:0:0:0:0:1]:3000", "[::1]:3000"],
    ["https://münchen.example", "xn--mnchen-3ya.example"]
  ] as const
  it.each(same)("origin %s passes for host %s", (origin, host) => {
    expect(open().knock({ origin, host })).toBeUndefined()
  })

  const other = [
    ["https://evil.example", "app.example"],
    ["https://app.example.evil.example", "app.example"],
    ["https://evil.example/app.example", "app.example"],
    ["https://app.example@evil.example", "app.example"],
    ["https://app.example:8443", "app.example"],
    ["https://app.example", "app.example:8443"],
    ["http://app.example", "app.example:443"],
    ["http://[::1]:3000", "[::1]:3001"],
    ["http://localhost:3000", "127.0.0.1:3000"],
    ["null", "null"],
    ["", "app.example"],
    ["app.example", "app.example"],
    ["https://", "app.example"],
    ["http://[", "app.example"],
    ["file:///index.html", "app.example"],
    ["data:text/html,x", "app.example"],
    ["https://app.example https://evil.example", "app.example"],
    ["https://app.example", ""]
  ] as const
  it.each(other)("origin %s is rejected with 403 for host %s", (origin, host) => {
    expect(open().knock({ origin, host })?.status).toBe(403)
  })

  it("an origin without a host header is rejected with 403", () => {
    const { knock } = open()
    expect(knock({ origin: "https://app.example", host: undefined })?.status).toBe(403)
  })

  it("only a listed origin passes, in any spelling, and the server's own host does not if it is not listed", () => {
    const { knock } = open({ origins: ["https://app.example", "capacitor://localhost"] })
    expect(knock({ origin: "https://app.example" })).toBeUndefined()
    expect(knock({ origin: "HTTPS://App.Example:443" })).toBeUndefined()
    expect(knock({ origin: "capacitor://localhost" })).toBeUndefined()
    expect(knock({ origin: "http://app.example" })?.status).toBe(403)
    expect(knock({ origin: "https://sub.app.example" })?.status).toBe(403)
    expect(knock({ origin: "https://here.example", host: "here.example" })?.status).toBe(403)
    expect(knock({ origin: "null" })?.status).toBe(403)
    expect(knock()).toBeUndefined()
  })

  it("every origin passes, null included, when origins is any", () => {
    const { knock } = open({ origins: "any" })
    expect(knock({ origin: "https://evil.example" })).toBeUndefined()
    expect(knock({ origin: "null" })).toBeUndefined()
  })

  it("an origin is compared with x-forwarded-host only behind a trusted proxy", () => {
    const headers = { origin: "https://app.example", host: "10.0.0.5:8080" }
    const forwarded = { ...headers, "x-forwarded-host": "app.example" }
    expect(open().knock(forwarded)?.status).toBe(403)
    expect(open({ trustProxy: 1 }).knock(forwarded)).toBeUndefined()
    expect(open({ trustProxy: 1 }).knock(headers)?.status).toBe(403)
    const made = { ...headers, "x-forwarded-host": "evil.example, app.example" }
    expect(open({ trustProxy: 1 }).knock(made)).toBeUndefined()
    expect(open({ trustProxy: 1 }).knock({ ...made, origin: "https://evil.example" })?.status).toBe(
      403
    )
  })
})

describe("The address of a client", () => {
  const addresses = [
    [0, "1.1.1.1", client],
    [1, undefined, client],
    [1, "1.1.1.1", "1.1.1.1"],
    [1, "6.6.6.6, 1.1.1.1", "1.1.1.1"],
    [2, "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"],
    [2, "1.1.1.1", "1.1.1.1"],
    [1, "unknown", client],
    [1, "1.1.1.1:4711", "1.1.1.1"],
    [1, "2001:db8::1", "2001:db8::1"],
    [1, "[2001:db8::1]:4711", "2001:db8::1"],
    [1, "::ffff:1.1.1.1", "1.1.1.1"],
    [1, "::ffff:101:101", "1.1.1.1"],
    [1, "", client],
    [1, ",", client],
    [1, "<script>", client]
  ] as const
  it.each(addresses)("behind %i proxies, %s is the client %s", (trustProxy, said, address) => {
    const { admission } = open({ trustProxy })
    const headers = said === undefined ? {} : { "x-forwarded-for": said }
    expect(admission.addressOf(request(headers))).toBe(address)
  })

  it("the IPv4 address of a client on a dual-stack socket is read as IPv4", () => {
    expect(open().admission.addressOf(request({}, "::ffff:203.0.113.7"))).toBe(client)
  })

  const near = ["127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "172.16.0.1", "172.31.255.255"]
  const nearToo = ["192.168.1.1", "169.254.0.1", "fd00::1", "fe80::1", "", "not an address"]
  it.each([...near, ...nearToo])("the address %s is local and identifies no client", (address) => {
    expect(isNear(address)).toBe(true)
  })

  it.each(["203.0.113.7", "172.32.0.1", "172.15.0.1", "11.0.0.1", "2001:db8::1", "fec0::1"])(
    "the address %s identifies a client",
    (address) => expect(isNear(address)).toBe(false)
  )

  it("a local address is not limited unless a trusted proxy forwards it", () => {
    const limits = { upgradeRatePerAddress: { perSecond: 1, burst: 1 }, maxSessionsPerAddress: 1 }
    const bare = open({ limits })
    bare.admission.enter("10.0.0.1")
    for (let n = 0; n < 5; n++) expect(bare.knock({}, "10.0.0.1")).toBeUndefined()
    const behind = open({ limits, trustProxy: 1 })
    expect(behind.knock({ "x-forwarded-for": "10.0.0.1" }, "10.0.0.2")).toBeUndefined()
    expect(behind.knock({ "x-forwarded-for": "10.0.0.1" }, "10.0.0.2")?.status).toBe(429)
  })

  it("rates count IPv6 clients by their /64 network and IPv4 clients by their address", () => {
    expect(networkOf("2001:db8:1:2:3:4:5:6")).toBe("2001:db8:1:2::/64")
    expect(networkOf("2001:db8:1:2::")).toBe("2001:db8:1:2::/64")
    expect(networkOf("2001:db8::9")).toBe("2001:db8:0:0::/64")
    expect(networkOf("::1.2.3.4")).toBe("0:0:0:0::/64")
    expect(networkOf("203.0.113.7")).toBe(client)
    const limits = { upgradeRatePerAddress: { perSecond: 1, burst: 1 } }
    const { knock } = open({ limits })
    expect(knock({}, "2001:db8:1:2::1")).toBeUndefined()
    expect(knock({}, "2001:db8:1:2:ffff::2")?.status).toBe(429)
    expect(knock({}, "2001:db8:1:3::1")).toBeUndefined()
  })

  it("text that is no address reads as an empty address", () => {
    const written = ["", "x", "1.2.3", "1.2.3.4.5", "[1.2.3.4", "1.2.3.4:x", "[::1]x", "::g"]
    expect(written.map(readAddress)).toEqual(written.map(() => ""))
  })
})

describe("Admission under a flood of addresses", () => {
  it("100,000 addresses take less than 64 MiB, and an address rejected a moment ago stays rejected", () => {
    const plenty = { perSecond: 1e9, burst: 1e9 }
    const limits = { upgradeRate: plenty, upgradeRatePerAddress: { perSecond: 1, burst: 1 } }
    const { knock, state } = open({ limits })
    const before = process.memoryUsage().heapUsed
    for (let n = 0; n < 100_000; n++) {
      state.now += 0.01
      knock({}, `2001:db8:${(n >> 16).toString(16)}:${(n & 0xffff).toString(16)}::1`)
    }
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(64 * 1024 * 1024)
    knock({}, "198.51.100.1")
    expect(knock({}, "198.51.100.1")?.status).toBe(429)
  })
})
