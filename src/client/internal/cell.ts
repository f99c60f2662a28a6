/**
 * A value that changes, for readers with and without Effect.
 *
 * A write calls every listener at once; a Stream of it starts with the value that holds when it is run.
 *
 * @since 0.1.0
 */
import type * as Stream from "effect/Stream"
import type { Readable } from "../Readable.ts"
import * as Inbox from "./inbox.ts"
import { attempt, report } from "../../internal/callbacks.ts"

export interface Cell<in out A> extends Readable<A> {
  readonly set: (value: A) => void
  /** Gives the way to stop, which says whether it has not been called before. */
  readonly subscribe: (onChange: () => void) => () => boolean
}

export const make = <A>(initial: A): Cell<A> => {
  let value = initial
  const listeners = new Set<() => void>()
  return {
    getSnapshot: () => value,
    subscribe: (onChange) => {
      // Wrapped, so that one function registered twice is two registrations.
      const listener = () => onChange()
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    set: (next) => {
      if (next === value) return
      value = next
      // A listener that throws must not break what has the value.
      for (const listener of Array.from(listeners)) attempt(listener, report)
    }
  }
}

/** A reader that is this many changes behind loses the oldest of them, never the newest. */
const backlog = 64

/** The value now, then each change. */
export const changes = <A>(cell: Readable<A>): Stream.Stream<A> =>
  Inbox.stream<A>((inbox) => {
    inbox.push([cell.getSnapshot()])
    return cell.subscribe(() => {
      const put = inbox.size() < backlog ? inbox.push : inbox.replace
      put([cell.getSnapshot()])
    })
  })
