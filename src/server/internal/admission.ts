/**
 * Who may shake hands: decided from the upgrade request alone, before anything is allocated.
 *
 * The order is the protocol's: 503, 429, 404, 403, 400. An address counts only when it tells people
 * apart: loopback and private peers are proxies or neighbours, unless `trustProxy` says that the
 * forwarded address is the client's.
 */
import type { IncomingMessage } from "node:http"
import { BlockList, isIP } from "node:net"
import { subprotocol } from "../../Protocol.ts"
import type { DoorOptions, ResolvedLimits } from "../ServerOptions.ts"
import { Bucket } from "./bucket.ts"

/** Why an upgrade is refused. */
export interface UpgradeRefusal {
  readonly status: 400 | 403 | 404 | 429 | 503
  readonly reason: string
  readonly retryAfterSeconds?: number
}

const notCounted = new BlockList()
notCounted.addSubnet("127.0.0.0", 8)
notCounted.addSubnet("10.0.0.0", 8)
notCounted.addSubnet("172.16.0.0", 12)
notCounted.addSubnet("192.168.0.0", 16)
notCounted.addSubnet("169.254.0.0", 16)
notCounted.addAddress("::1", "ipv6")
notCounted.addSubnet("fc00::", 7, "ipv6")
notCounted.addSubnet("fe80::", 10, "ipv6")

/** Buckets of addresses that have not come for a while are forgotten beyond this many. */
const maxBuckets = 10_000

export class Admission {
  readonly #limits: ResolvedLimits
  readonly #origins: DoorOptions["origins"]
  readonly #proxies: number
  readonly #all: Bucket
  readonly #upgrades = new Map<string, Bucket>()
  readonly #sessions = new Map<string, number>()

  constructor(options: DoorOptions, limits: ResolvedLimits, now: number) {
    this.#limits = limits
    this.#origins = options.origins
    this.#proxies = options.trustProxy ?? 0
    this.#all = new Bucket(limits.upgrades, now)
  }

  /** The client's address, as far as it can be believed. */
  addressOf(request: IncomingMessage): string {
    const peer = plain(request.socket.remoteAddress ?? "")
    if (this.#proxies === 0) return peer
    const forwarded = request.headers["x-forwarded-for"]
    const hops = (typeof forwarded === "string" ? forwarded : (forwarded ?? []).join(","))
      .split(",")
      .map((hop) => plain(hop.trim()))
    // Each trusted proxy appended the address it saw; what stands left of those was made up.
    const client = hops.at(-this.#proxies) ?? hops[0]
    return client !== undefined && isIP(client) !== 0 ? client : peer
  }

  /** Why this request may not enter a door with so many sessions; `undefined` when it may. */
  refusal(
    request: IncomingMessage,
    address: string,
    sessions: number,
    draining: boolean,
    now: number
  ): UpgradeRefusal | undefined {
    const { headers } = request
    if (draining || sessions >= this.#limits.sessions) {
      return { status: 503, reason: "The server is full or closing.", retryAfterSeconds: 1 }
    }
    const wait = this.#all.take(this.#limits.upgrades, now)
    if (wait > 0) return busy(503, "Too many connections at once.", wait)
    const tooMany = this.#addressRefusal(address, now)
    if (tooMany !== undefined) return tooMany
    if (!this.#allowsOrigin(headers.origin, this.#hostOf(request))) {
      return { status: 403, reason: "This origin may not connect." }
    }
    const offered = headers["sec-websocket-protocol"]?.split(",").map((name) => name.trim())
    if (offered !== undefined && !offered.includes(subprotocol)) {
      return { status: 400, reason: `Supported subprotocol: ${subprotocol}` }
    }
    return undefined
  }

  /** Counts a session in; returns how to count it out. */
  count(address: string): () => void {
    if (!this.#counts(address)) return () => undefined
    this.#sessions.set(address, (this.#sessions.get(address) ?? 0) + 1)
    return () => {
      const left = (this.#sessions.get(address) ?? 0) - 1
      if (left > 0) this.#sessions.set(address, left)
      else this.#sessions.delete(address)
    }
  }

  #addressRefusal(address: string, now: number): UpgradeRefusal | undefined {
    if (!this.#counts(address)) return undefined
    const { sessionsPerAddress, upgradesPerAddress } = this.#limits
    let bucket = this.#upgrades.get(address)
    if (bucket === undefined) {
      if (this.#upgrades.size >= maxBuckets) this.#sweep(now)
      bucket = new Bucket(upgradesPerAddress, now)
      this.#upgrades.set(address, bucket)
    }
    const wait = bucket.take(upgradesPerAddress, now)
    if (wait > 0) return busy(429, "Too many connections from this address at once.", wait)
    return (this.#sessions.get(address) ?? 0) >= sessionsPerAddress
      ? busy(429, "Too many connections from this address.", 1000)
      : undefined
  }

  #counts(address: string): boolean {
    if (this.#proxies > 0) return true
    const family = isIP(address)
    return family !== 0 && !notCounted.check(address, family === 6 ? "ipv6" : "ipv4")
  }

  #sweep(now: number): void {
    for (const [address, bucket] of this.#upgrades) {
      if (bucket.isFull(this.#limits.upgradesPerAddress, now)) this.#upgrades.delete(address)
    }
    // All of them busy at once: the oldest goes, so that a flood of addresses costs no memory.
    if (this.#upgrades.size >= maxBuckets)
      this.#upgrades.delete(this.#upgrades.keys().next().value!)
  }

  #hostOf({ headers }: IncomingMessage): string | undefined {
    const forwarded = this.#proxies > 0 ? headers["x-forwarded-host"] : undefined
    return (
      (typeof forwarded === "string" ? forwarded.split(",")[0]?.trim() : undefined) ?? headers.host
    )
  }

  /** No `Origin` is no browser page, and passes. */
  #allowsOrigin(origin: string | undefined, host: string | undefined): boolean {
    if (origin === undefined || this.#origins === "any") return true
    if (this.#origins !== undefined) return this.#origins.includes(origin)
    // `null`, and what is no URL, has no host to compare. The host of the request is read as a URL
    // would write it: without the default port of the origin's scheme.
    if (!URL.canParse(origin)) return false
    const page = new URL(origin)
    const here = `${page.protocol}//${host ?? ""}`
    return page.host !== "" && URL.canParse(here) && new URL(here).host === page.host
  }
}

/** An IPv4 peer of a dual-stack socket is written as IPv6. */
const plain = (address: string): string =>
  address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address

const busy = (status: 429 | 503, reason: string, waitMillis: number): UpgradeRefusal => ({
  status,
  reason,
  retryAfterSeconds: Math.max(1, Math.ceil(waitMillis / 1000))
})
