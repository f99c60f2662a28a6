/** The options of the class, apart for each part of the server. */
import * as Channel from "../../Channel.ts"
import type { Options } from "../Options.ts"

/** Which part receives which option. Every option without a part is one of the door. */
export const splitOptions = <I>({
  listenUrl,
  maxChannels,
  maxConnections,
  maxFilters,
  maxMembers,
  maxMemoryAge,
  maxMemoryBytes,
  maxMemoryEvents,
  maxReplayMemory,
  maxReplayQueue,
  maxReplays,
  maxStateBytes,
  maxStateRows,
  memberRate,
  nodes,
  presenceGrace,
  schema,
  startPatience,
  wake,
  ...door
}: Options<I>) => {
  const memory = { maxMemoryAge, maxMemoryBytes, maxMemoryEvents }
  const replays = { maxReplayMemory, maxReplayQueue, maxReplays }
  const presence = { maxMembers, memberRate, presenceGrace }
  return {
    door: { ...door, channels: door.channels ?? Channel.known() },
    database: { listenUrl, maxConnections, nodes, startPatience, wake, ...memory, ...replays },
    hub: { maxChannels, maxFilters, maxStateBytes, maxStateRows, ...presence, ...memory },
    schema
  }
}
