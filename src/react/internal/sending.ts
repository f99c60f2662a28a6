/**
 * How a hook publishes: the promise tells its component, and ignoring it is no unhandled rejection.
 */
import type { Any } from "../../Channel.ts"
import { asChannel } from "../../ChannelBase.ts"
import { report } from "../../client/internal/platform.ts"
import type { PlainClient } from "../../client/PlainClient.ts"
import type { PublishOptions } from "../../client/RealtimeClient.ts"

/** `failed` is called with why a publish failed. */
export const sending =
  <A>(client: PlainClient, channel: Any | string, failed: (error: unknown) => void) =>
  (payload: A, options?: PublishOptions): Promise<void> => {
    const sent = client.publish(asChannel<A>(channel), payload, options)
    // Marks the rejection as handled; a component that awaits `sent` still receives it.
    sent.catch(failed).catch(report)
    return sent
  }
