/**
 * A Vue composable over `Collector`: the events of a channel as refs. Copy it into your app.
 *
 * It subscribes when the component is mounted, never during server-side rendering, and unsubscribes with
 * the component. You may pass the channel as a ref or getter. Another channel starts from `initial`.
 */
import type { Channel } from "effect-realtime"
import {
  type ChannelStore,
  type Collected,
  Collector,
  type CollectorOptions
} from "effect-realtime/client"
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

/** `app.provide(storeKey, ChannelStore.make({ url: "/realtime" }))` */
export const storeKey: InjectionKey<ChannelStore> = Symbol("effect-realtime")

/** What `useChannel` gives: each part of `Collected` as a ref. */
export interface ChannelRefs<S> {
  readonly value: ComputedRef<S>
  readonly stale: ComputedRef<boolean>
  readonly error: ComputedRef<unknown>
  readonly reload: Collected<S>["reload"]
}

export const useChannel = <A, S>(
  channel: MaybeRefOrGetter<Channel.Channel<A>>,
  options: CollectorOptions<S, A> | (() => CollectorOptions<S, A>),
  store: ChannelStore | undefined = inject(storeKey)
): ChannelRefs<S> => {
  if (store === undefined) throw new Error("useChannel: no store was provided under storeKey")
  // A family makes a new channel with each call: only another name is another channel.
  const current = computed<Channel.Channel<A>>((old) => {
    const next = toValue(channel)
    return old?.name === next.name ? old : next
  })
  const collector = computed(() => Collector.make(store, current.value, options))
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
    stale: computed(() => collected.value.stale),
    error: computed(() => collected.value.error),
    reload: (load) => collected.value.reload(load)
  }
}
