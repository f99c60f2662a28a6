/**
 * How a hook publishes: the promise tells its component, and ignoring it is no unhandled rejection.
 */
import type { Channel } from "../../Channel.ts"
import { report } from "../../client/internal/platform.ts"
import type { PlainClient } from "../../client/PlainClient.ts"
import type { PublishOptions } from "../../client/RealtimeClient.ts"

/** `failed` is called with why a publish failed. */
export const sending =
  <A>(client: PlainClient, channel: Channel<A> | string, failed: (error: unknown) => void) =>
  (payload: A, options?: PublishOptions): Promise<void> => {
    const sent = client.publish<A>(channel as Channel<A, true>, payload as NoInfer<A>, options)
    // Marks the rejection as handled; whoever awaits `sent` still gets it.
    sent.catch(failed).catch(report)
    return sent
  }
