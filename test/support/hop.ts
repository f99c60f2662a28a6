/**
 * A TCP proxy between two ends that can be cut, or drop all bytes in silence, until it is healed.
 */
import { Effect, Redacted, type Scope } from "effect"
import * as Net from "node:net"
import { address } from "../../src/server/internal/link/pgLink.ts"

export interface Hop {
  /** The port on this machine. */
  readonly port: number
  /** Resets both ends of every connection. */
  readonly cut: () => void
  /** No byte and no end of a connection passes any more. */
  readonly silence: () => void
  /**
   * New connections pass. A silent connection stays silent, because a stream of bytes has no holes.
   */
  readonly heal: () => void
}

export const hop = (
  target: Net.NetConnectOpts,
  /** Sees what the near end of each connection sends. */
  watching?: () => (data: Buffer) => void,
  /** Its port; default: a free one. */
  at = 0
): Effect.Effect<Hop, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Hop & { readonly close: () => void }>((resume) => {
      const pairs = new Set<readonly [Net.Socket, Net.Socket]>()
      const dead = new WeakSet<readonly [Net.Socket, Net.Socket]>()
      let silent = false
      const server = Net.createServer((near) => {
        const far = Net.connect(target)
        const pair = [near, far] as const
        const watch = watching?.()
        if (watch !== undefined) near.on("data", watch)
        const end = () => {
          if (dead.has(pair)) return
          pairs.delete(pair)
          near.destroy()
          far.destroy()
        }
        for (const [from, to] of [pair, [far, near] as const]) {
          from.on("error", end)
          from.on("close", end)
          from.on("data", (data) => {
            if (!silent && !dead.has(pair)) to.write(data)
            else dead.add(pair)
          })
        }
        pairs.add(pair)
      })
      const cut = () => {
        for (const [near, far] of pairs) {
          near.destroy()
          far.destroy()
        }
        pairs.clear()
      }
      server.listen(at, "127.0.0.1", () =>
        resume(
          Effect.succeed({
            port: (server.address() as Net.AddressInfo).port,
            cut,
            silence: () => {
              silent = true
              for (const pair of pairs) dead.add(pair)
            },
            heal: () => {
              silent = false
            },
            close: () => {
              server.close()
              cut()
            }
          })
        )
      )
    }),
    ({ close }) => Effect.sync(close)
  )

/** A hop in front of a database, with the URL through it. */
export const databaseHop = (
  url: string,
  watching?: () => (data: Buffer) => void
): Effect.Effect<Hop & { readonly url: string }, never, Scope.Scope> =>
  Effect.map(hop(address({ url: Redacted.make(url) }), watching), (between) => {
    const through = new URL(url)
    through.searchParams.set("host", "127.0.0.1")
    through.searchParams.set("port", String(between.port))
    return { ...between, url: through.href }
  })
