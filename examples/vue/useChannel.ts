/**
 * A Vue composable over `Collector`: the events of a channel as refs. Copy it into your app.
 *
 * It subscribes when the component is mounted, never during server-side rendering, and unsubscribes with
 * the component. You may pass the channel as a ref or getter. Another channel starts from `initial`.
 */
import type { Channel } from "effect-realtime"
import { Collector, type PlainClient } from "effect-realtime/client"
import {
  computed,
  type ComputedRef,
  inject,
  type InjectionKey,
  type MaybeRefOrGetter,
  shallowRef,
  toValue,
  watchEffect
} from "vue"

/** `app.provide(clientKey, createRealtimeClient({ url: "/realtime" }))` */
export const clientKey: InjectionKey<PlainClient.PlainClient> = Symbol("effect-realtime")

/** The result of `useChannel`: each part of `Collector.Collected` as a ref. */
export interface ChannelRefs<S> {
  readonly value: ComputedRef<S>
  readonly status: ComputedRef<Collector.Status>
  readonly error: ComputedRef<unknown>
  readonly reload: Collector.Collected<S>["reload"]
}

export const useChannel = <A, S>(
  channel: MaybeRefOrGetter<Channel.Channel<A>>,
  options: Collector.Options<S, A> | (() => Collector.Options<S, A>),
  client: PlainClient.PlainClient | undefined = inject(clientKey)
): ChannelRefs<S> => {
  if (client === undefined) throw new Error("useChannel: no client was provided under clientKey")
  // A family makes a new channel with each call, so compare channels by name.
  const current = computed<Channel.Channel<A>>((old) => {
    const next = toValue(channel)
    return old?.name === next.name ? old : next
  })
  const collector = computed(() => Collector.make(client, current.value, options))
  const collected = shallowRef(collector.value.getSnapshot())
  watchEffect(
    (onCleanup) => {
      const { getSnapshot, subscribe } = collector.value
      const show = () => {
        collected.value = getSnapshot()
      }
      onCleanup(subscribe(show))
      show()
    },
    { flush: "post" }
  )
  return {
    value: computed(() => collected.value.value),
    status: computed(() => collected.value.status),
    error: computed(() => collected.value.error),
    reload: (load) => collected.value.reload(load)
  }
}
