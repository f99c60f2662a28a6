/** A piece of network between a client and a server of a test. */
import { Effect } from "effect"
import * as Net from "node:net"

/** A TCP hop that can be cut, or swallow everything in silence, until it is healed. */
export const hop = (target: Net.NetConnectOpts) =>
  Effect.acquireRelease(
    Effect.callback<{
      readonly port: number
      readonly cut: () => void
      readonly silence: () => void
      readonly heal: () => void
      readonly close: () => void
    }>((resume) => {
      const pairs = new Set<readonly [Net.Socket, Net.Socket]>()
      let silent = false
      const server = Net.createServer((near) => {
        const far = Net.connect(target)
        const pair = [near, far] as const
        const end = () => {
          pairs.delete(pair)
          near.destroy()
          far.destroy()
        }
        for (const [from, to] of [pair, [far, near] as const]) {
          from.on("error", end)
          from.on("close", end)
          from.on("data", (data) => {
            if (!silent && !dead.has(pair)) to.write(data)
            // What was swallowed is gone: the pair must never speak again.
            else dead.add(pair)
          })
        }
        pairs.add(pair)
      })
      const dead = new WeakSet<readonly [Net.Socket, Net.Socket]>()
      const cut = () => {
        for (const [near, far] of pairs) {
          near.destroy()
          far.destroy()
        }
      }
      server.listen(0, "127.0.0.1", () =>
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
