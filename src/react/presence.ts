"use client"
/**
 * The members of a presence channel as a React hook.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import { useCallback, useEffect, useMemo, useSyncExternalStore } from "react"
import type { Presence } from "../Channel.ts"
import { toJson } from "../ChannelBase.ts"
import type { Shown } from "../client/Members.ts"
import { useLatestRef, useMade } from "./internal/client.ts"

/**
 * The members of a presence channel, kept current, and with `state` the component is one of them.
 *
 * All changes between two frames make one render, and a member is the same object until it changes itself.
 * `state` is compared by its content; another one changes the own member, and `undefined` makes it leave.
 * `update` shows a state until `state` is another one. All components of a page are one member: the state that
 * was given last counts, and the member leaves with the last component that shows one. Rendering on a server
 * gives `loading`. While the link is away the members stay, `stale`, and the state is shown again afterwards.
 *
 * **Example** (The members in a room)
 *
 * ```tsx
 * const { members, update } = usePresence(inRoom(room), { name, typing: false })
 * ```
 *
 * @category hooks
 * @since 0.1.0
 */
export const usePresence = <A>(channel: Presence<A>, state?: NoInfer<A>): Shown<A> => {
  const made = useMade(channel, undefined, (client) => client.presence(channel))
  const shown = useSyncExternalStore(made.subscribe, made.getSnapshot, made.getServerSnapshot)
  const given = useLatestRef(state)
  // Of a state that does not match, why: a literal is another object with each render.
  const json = state === undefined ? undefined : String(Result.merge(toJson(channel, state)))
  useEffect(() => void made.update(json === undefined ? json : given.current), [made, given, json])
  const latest = useLatestRef(made)
  // A handler of an earlier render changes what is shown now, also on another channel.
  const update = useCallback<Shown<A>["update"]>((next) => latest.current.update(next), [latest])
  return useMemo(() => ({ ...shown, update }), [shown, update])
}
