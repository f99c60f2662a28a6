/**
 * The messages: every process makes the same text from the same numbers, so that only numbers
 * travel between them and every byte that arrives can be checked.
 */

/** Channels of a workload are named by number. */
export const channelName = (index: number): string => `bench_${index}`

const filler = "the quick brown fox jumps over the lazy dog. ".repeat(200)

/**
 * The JSON text of a channel's message, exactly `bytes` long, all ASCII. Its fields stand in the
 * order of the schema in `server/subjects/realtime.ts`.
 */
export const messageText = (channel: number, number: number, bytes: number): string => {
  const start = `{"id":${number},"status":"channel ${channel}","note":"`
  const text = `${start}${filler.slice(0, bytes - start.length - 2)}"}`
  // In one piece, like a text from a socket: a concatenation would be copied when it is first used.
  return Buffer.from(text, "latin1").toString("latin1")
}

/**
 * The channel of the message with a global number: channels take turns, but not in the order of
 * their subscribers, so that reading memory in order favours no subject.
 */
export const channelOf = (message: number, channels: number): number =>
  channels === 1 ? 0 : (message * 7919) % channels
