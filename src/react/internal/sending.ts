/**
 * How a hook publishes: the promise tells its component, and ignoring it is no unhandled rejection.
 */
import type { Any, Payload } from "../../Channel.ts"
import { asChannel } from "../../ChannelBase.ts"
import { report } from "../../internal/callbacks.ts"
import type { PlainClient, PublishedTo } from "../../client/PlainClient.ts"
import type { PublishOptions } from "../../client/RealtimeClient.ts"

/** `failed` is called with why a publish failed. */
export const sending =
  <C extends Any | string>(client: PlainClient, channel: C, failed: (error: unknown) => void) =>
  (payload: Payload<C>, options?: PublishOptions): Promise<PublishedTo<C>> => {
    const made = asChannel<Payload<C>>(channel)
    const sent = client.publish(made, payload, options) as Promise<never>
    // Marks the rejection as handled; a component that awaits `sent` still receives it.
    sent.catch(failed).catch(report)
    return sent
  }
