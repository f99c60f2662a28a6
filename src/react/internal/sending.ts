/**
 * How a hook publishes: the promise tells its component, and ignoring it is no unhandled rejection.
 */
import type { Channel, Delivery } from "../../Channel.ts"
import { report } from "../../client/internal/platform.ts"
import type { PlainClient } from "../../client/PlainClient.ts"
import type { Published, PublishOptions } from "../../client/RealtimeClient.ts"

/** `failed` is called with why a publish failed. */
export const sending =
  <A, Kind extends Delivery>(
    client: PlainClient,
    channel: Channel<A, boolean, string, Kind> | string,
    failed: (error: unknown) => void
  ) =>
  (payload: A, options?: PublishOptions): Promise<Published<Kind>> => {
    const sent = client.publish<A, Kind>(
      channel as Channel<A, true, string, Kind>,
      payload as NoInfer<A>,
      options
    )
    // Marks the rejection as handled; whoever awaits `sent` still gets it.
    sent.catch(failed).catch(report)
    return sent
  }
