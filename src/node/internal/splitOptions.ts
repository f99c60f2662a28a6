/** The options of the class, apart for each part of the server. */
import * as Channel from "../../Channel.ts"
import type { Options } from "../Options.ts"

/** Which part receives which option. Every option without a part is one of the door. */
export const splitOptions = <I>({
  listenUrl,
  maxChannels,
  maxConnections,
  maxFilters,
  maxMemoryAge,
  maxMemoryBytes,
  maxMemoryEvents,
  maxReplayMemory,
  maxReplayQueue,
  maxReplays,
  maxStateBytes,
  maxStateRows,
  schema,
  startPatience,
  wake,
  ...door
}: Options<I>) => {
  const memory = { maxMemoryAge, maxMemoryBytes, maxMemoryEvents }
  const replays = { maxReplayMemory, maxReplayQueue, maxReplays }
  return {
    door: { ...door, channels: door.channels ?? Channel.known() },
    database: { listenUrl, maxConnections, startPatience, wake, ...memory, ...replays },
    hub: { maxChannels, maxFilters, maxStateBytes, maxStateRows, ...memory },
    schema
  }
}
