/**
 * A Svelte store over `Collector`: the events of a channel as `$orders.value`. Copy it into your app.
 *
 * It subscribes to the channel while it has Svelte subscribers: from the mount of a component that reads
 * `$orders` until its destroy. With SvelteKit pass `enabled: browser` of `$app/environment`.
 */
import type { Channel } from "effect-realtime"
import { Collector, type PlainClient } from "effect-realtime/client"
import { type Readable, readable } from "svelte/store"

export interface ChannelStoreOptions<S, A> extends Collector.Options<S, A> {
  /** Whether to subscribe, default `true`. */
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
