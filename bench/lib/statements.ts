/** Counts the statements that clients send to PostgreSQL, in the bytes of their connections. */

/** Execute and Query, the types of the messages of a client that run a statement. */
const running = new Set(["E".charCodeAt(0), "Q".charCodeAt(0)])

/** Calls `told` for each statement of a connection without TLS. */
export const statementsOf = (told: () => void) => () => {
  let held = Buffer.alloc(0)
  // The first message of a connection has no type.
  let header = 0
  return (data: Buffer): void => {
    held = Buffer.concat([held, data])
    while (held.length >= header + 4) {
      const size = header + held.readUInt32BE(header)
      if (held.length < size) return
      if (header === 1 && running.has(held[0]!)) told()
      held = held.subarray(size)
      header = 1
    }
  }
}
