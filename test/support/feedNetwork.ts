/** A feed in memory: what every node sends reaches all of them, unless the test drops it. */
import { Effect, Layer } from "effect"
import { FeedCarrier, type Receiver } from "../../src/server/FeedCarrier.ts"

export interface FeedNetwork {
  /** Whether it delivers anything. */
  up: boolean
  /** Whether a text is lost on its way to a node. */
  drops: (node: string, text: string) => boolean
  /** The number of ticks that were sent. */
  ticks: number
  /** The largest text. */
  maxBytes: number
  readonly layer: (node: string) => Layer.Layer<FeedCarrier>
}

export const feedNetwork = (): FeedNetwork => {
  const nodes = new Map<string, { readonly receiver: Receiver; readonly channels: Set<string> }>()
  const network: FeedNetwork = {
    up: true,
    drops: () => false,
    ticks: 0,
    maxBytes: 1024 * 1024,
    layer: (node) =>
      Layer.succeed(
        FeedCarrier,
        FeedCarrier.of({
          join: (identity, receiver) =>
            Effect.acquireRelease(
              Effect.sync(() => {
                const key = `${identity} ${node}`
                const channels = new Set<string>()
                nodes.set(key, { receiver, channels })
                const send = (deliver: (to: Receiver) => void, text: string, channel?: string) => {
                  if (!network.up || text.length > network.maxBytes) return
                  for (const [name, to] of nodes) {
                    if (!name.startsWith(identity) || network.drops(name.slice(9), text)) continue
                    if (channel === undefined || to.channels.has(channel)) deliver(to.receiver)
                  }
                }
                return {
                  key,
                  feed: {
                    isUp: () => network.up,
                    maxBytes: () => network.maxBytes,
                    sendTick: (text: string) => {
                      network.ticks++
                      send(({ tick }) => tick(text), text)
                    },
                    sendPage: (channel: string, text: string) =>
                      send(({ page }) => page(text), text, channel),
                    follow: (channel: string) => void channels.add(channel),
                    leave: (channel: string) => void channels.delete(channel)
                  }
                }
              }),
              ({ key }) => Effect.sync(() => nodes.delete(key))
            ).pipe(Effect.map(({ feed }) => feed))
        })
      )
  }
  return network
}
