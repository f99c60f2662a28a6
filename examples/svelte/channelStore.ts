/**
 * A Svelte store over `Collector`: the events of a channel as `$orders.value`. Copy it into your app.
 *
 * It listens while it has subscribers, so that a component that reads `$orders` stops it when it is
 * destroyed. Where SvelteKit renders on the server, give `enabled: browser` of `$app/environment`.
 */
import type { Channel } from "effect-realtime"
import { Collector, type PlainClient } from "effect-realtime/client"
import { type Readable, readable } from "svelte/store"

export interface ChannelStoreOptions<S, A> extends Collector.Options<S, A> {
  /** Whether to listen, default `true`. */
  readonly enabled?: boolean
}

export const channelStore = <A, S>(
  client: PlainClient.PlainClient,
  channel: Channel.Channel<A>,
  options: ChannelStoreOptions<S, A>
): Readable<Collector.Collected<S>> & Pick<Collector.Collected<S>, "reload"> => {
  const { getSnapshot, subscribe } = Collector.make(client, channel, options)
  return {
    ...readable(getSnapshot(), (set) => {
      if (options.enabled === false) return undefined
      const stop = subscribe(() => set(getSnapshot()))
      set(getSnapshot())
      return stop
    }),
    reload: (load) => getSnapshot().reload(load)
  }
}
