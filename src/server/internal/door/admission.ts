/**
 * Decides from the upgrade request alone whether a client may connect, before any allocation.
 *
 * The order of the checks is the protocol's: 503, 429, 404, 403, 400. The 404 for a path that no door
 * owns is sent before anything is counted (`attach`, `route`). Loopback and private addresses do not
 * count, because clients behind a proxy or in one network share them, unless `trustProxy` says that the
 * forwarded address is the client's.
 */
import { server as Defaults } from "../../../internal/defaults.ts"
import type { IncomingMessage } from "node:http"
import { subprotocol } from "../../../Protocol.ts"
import type { DoorOptions } from "../../ServerOptions.ts"
import { isNear, networkOf, readAddress } from "./address.ts"
import { Bucket } from "../limits/tokenBucket.ts"
import { originOf, type ResolvedLimits } from "../limits/limits.ts"
import { type OriginWords, quoted } from "../limits/boundedLog.ts"

export interface UpgradeRefusal {
  readonly status: 400 | 403 | 404 | 429 | 503
  readonly reason: string
  readonly retryAfterSeconds?: number
  /** The limit that was exceeded. */
  readonly limit?: keyof ResolvedLimits
}

/** The most buckets of addresses. Beyond it, buckets that are full again are removed. */
const maxBuckets = 10_000

/** Milliseconds between two searches for full buckets, so that a flood of addresses costs few. */
const sweepEveryMillis = 1000

export class Admission {
  readonly #limits: ResolvedLimits
  readonly #origins: ReadonlySet<string> | "any" | undefined
  readonly #proxies: number
  readonly #all: Bucket
  /** By network, not by address; so is `#sessions`. */
  readonly #upgrades = new Map<string, Bucket>()
  readonly #sessions = new Map<string, number>()
  #sweptAt = -Infinity

  constructor({ origins, trustProxy }: DoorOptions, limits: ResolvedLimits, now: number) {
    this.#limits = limits
    this.#origins = typeof origins === "object" ? new Set(origins) : origins
    this.#proxies = trustProxy ?? Defaults.trustProxy
    this.#all = new Bucket(limits.upgradeRate, now)
  }

  /** The client's address: the forwarded one where `trustProxy` is set, else the peer's. */
  addressOf(request: IncomingMessage): string {
    const peer = readAddress(request.socket.remoteAddress ?? "")
    const client = this.#forwarded(request.headers["x-forwarded-for"])
    return (client === undefined ? "" : readAddress(client)) || peer
  }

  /** The refusal of a request at a door with so many sessions; `undefined` if it may enter. */
  refusal(
    request: IncomingMessage,
    address: string,
    sessions: number,
    draining: boolean,
    now: number
  ): UpgradeRefusal | undefined {
    const { headers } = request
    if (draining) {
      return { status: 503, reason: "The server is closing.", retryAfterSeconds: 1 }
    }
    if (sessions >= this.#limits.maxSessions) {
      return busy(503, "The server is full.", 1000, "maxSessions")
    }
    const wait = this.#all.wait(this.#limits.upgradeRate, now)
    if (wait > 0) return busy(503, "Too many connections at once.", wait, "upgradeRate")
    const tooMany = this.#addressRefusal(address, now)
    if (tooMany !== undefined) return tooMany
    // Taken last: a client over its own limit must not use up the rate of all clients.
    this.#all.take(this.#limits.upgradeRate, now)
    if (!this.#allowsOrigin(headers.origin, this.#hostOf(request))) {
      return { status: 403, reason: "This origin may not connect." }
    }
    if (headers["sec-websocket-version"] !== "13") {
      return { status: 400, reason: "Supported WebSocket version: 13" }
    }
    const offered = headers["sec-websocket-protocol"]?.split(",").map((name) => name.trim())
    if (offered !== undefined && !offered.includes(subprotocol)) {
      return { status: 400, reason: `Supported subprotocol: ${subprotocol}` }
    }
    return undefined
  }

  /** The sentence for the operator about a rejected origin. */
  originFault(request: IncomingMessage, { origins, trustProxy }: OriginWords): string {
    const { origin } = request.headers
    const page = `A page of origin ${quoted(origin)} was refused with 403`
    if (this.#origins instanceof Set) {
      return `${page}: it is not in ${origins} (${[...this.#origins].join(", ")}). Name it there if it is yours`
    }
    const forwarded = this.#proxies > 0 && request.headers["x-forwarded-host"] !== undefined
    const host = `${forwarded ? "X-Forwarded-Host" : "Host"} of the request is ${quoted(this.#hostOf(request))}`
    const cure =
      this.#proxies > 0
        ? "Let the outermost proxy of yours send X-Forwarded-Host"
        : `If a proxy of yours rewrites Host, let it send X-Forwarded-Host and set ${trustProxy} to the number of your proxies`
    return `${page}: it is not this server's origin, because the ${host}. ${cure}; if the page is served from elsewhere, name its origin in ${origins}`
  }

  /** Counts a session of an address. */
  enter(address: string): void {
    if (!this.#counts(address)) return
    const network = networkOf(address)
    this.#sessions.set(network, (this.#sessions.get(network) ?? 0) + 1)
  }

  /** Ends the count of a session. */
  leave(address: string): void {
    if (!this.#counts(address)) return
    const network = networkOf(address)
    const left = (this.#sessions.get(network) ?? 0) - 1
    if (left > 0) this.#sessions.set(network, left)
    else this.#sessions.delete(network)
  }

  #addressRefusal(address: string, now: number): UpgradeRefusal | undefined {
    if (!this.#counts(address)) return undefined
    const { maxSessionsPerAddress, upgradeRatePerAddress } = this.#limits
    const network = networkOf(address)
    let bucket = this.#upgrades.get(network)
    if (bucket === undefined) {
      if (this.#upgrades.size >= maxBuckets) this.#sweep(now)
      bucket = new Bucket(upgradeRatePerAddress, now)
      this.#upgrades.set(network, bucket)
    }
    const wait = bucket.take(upgradeRatePerAddress, now)
    if (wait > 0) {
      const reason = "Too many connections from this address at once."
      return busy(429, reason, wait, "upgradeRatePerAddress")
    }
    return (this.#sessions.get(network) ?? 0) >= maxSessionsPerAddress
      ? busy(429, "Too many connections from this address.", 1000, "maxSessionsPerAddress")
      : undefined
  }

  #counts(address: string): boolean {
    return this.#proxies > 0 ? address !== "" : !isNear(address)
  }

  #sweep(now: number): void {
    if (now - this.#sweptAt >= sweepEveryMillis) {
      this.#sweptAt = now
      for (const [network, bucket] of this.#upgrades) {
        if (bucket.isFull(this.#limits.upgradeRatePerAddress, now)) this.#upgrades.delete(network)
      }
    }
    // If all are in use, the oldest is removed, so that a flood of addresses takes bounded memory.
    if (this.#upgrades.size >= maxBuckets) {
      this.#upgrades.delete(this.#upgrades.keys().next().value!)
    }
  }

  /**
   * The entry of the outermost trusted proxy. Each proxy appends one entry; the client may have forged
   * those to the left.
   */
  #forwarded(header: string | ReadonlyArray<string> | undefined): string | undefined {
    if (this.#proxies === 0 || header === undefined) return undefined
    const entries = String(header).split(",")
    return (entries.at(-this.#proxies) ?? entries[0])?.trim()
  }

  #hostOf({ headers }: IncomingMessage): string | undefined {
    return this.#forwarded(headers["x-forwarded-host"]) ?? headers.host
  }

  /** Whether the origin may connect. A request without `Origin` is not from a browser page, and may. */
  #allowsOrigin(written: string | undefined, host: string | undefined): boolean {
    if (written === undefined || this.#origins === "any") return true
    // `null` and invalid URLs never match.
    const origin = originOf(written)
    if (origin === undefined) return false
    if (this.#origins !== undefined) return this.#origins.has(origin)
    // Writes the request's host as a URL does: in lower case, without the default port of the origin's
    // scheme.
    return host !== undefined && originOf(`${new URL(origin).protocol}//${host}`) === origin
  }
}

const busy = (
  status: 429 | 503,
  reason: string,
  waitMillis: number,
  limit: keyof ResolvedLimits
): UpgradeRefusal => ({
  status,
  reason,
  retryAfterSeconds: Math.max(1, Math.ceil(waitMillis / 1000)),
  limit
})
