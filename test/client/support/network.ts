/** What the platform says of the network, as a browser does in `navigator.onLine`; put back at the end. */
import { Effect } from "effect"

export const platform = Effect.acquireRelease(
  Effect.sync(() => {
    const { navigator } = globalThis
    const before = Object.getOwnPropertyDescriptor(navigator, "onLine")
    let over = false
    return {
      says: (onLine: boolean) => {
        if (over) return
        Object.defineProperty(navigator, "onLine", { value: onLine, configurable: true })
      },
      putBack: () => {
        over = true
        if (before === undefined) Reflect.deleteProperty(navigator, "onLine")
        else Object.defineProperty(navigator, "onLine", before)
      }
    }
  }),
  ({ putBack }) => Effect.sync(putBack)
)
