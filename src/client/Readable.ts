/**
 * A value that changes, in the shape that React's `useSyncExternalStore` reads. Adapters to other
 * frameworks read it too.
 *
 * @since 0.1.0
 */

/**
 * A value that changes, with a way to hear of each change.
 *
 * @category models
 * @since 0.1.0
 */
export interface Readable<out A> {
  /** The value now; the same object until it changes. */
  readonly getSnapshot: () => A
  /** Calls back after each change; gives back the way to stop. */
  readonly subscribe: (onChange: () => void) => () => void
}
