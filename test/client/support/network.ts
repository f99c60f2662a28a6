/** What the platform says of the network, as a browser does in `navigator.onLine`; put back at the end. */
import { Effect } from "effect"

export const platform = Effect.acquireRelease(
  Effect.sync(() => {
    const before = Object.getOwnPropertyDescriptor(globalThis.navigator, "onLine")
    const says = (onLine: boolean) =>
      Object.defineProperty(globalThis.navigator, "onLine", { value: onLine, configurable: true })
    return { before, says }
  }),
  ({ before }) =>
    Effect.sync(() => {
      if (before === undefined) Reflect.deleteProperty(globalThis.navigator, "onLine")
      else Object.defineProperty(globalThis.navigator, "onLine", before)
    })
)
