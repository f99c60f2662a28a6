/**
 * Bytes of the WebSocket, RFC 6455: a text message of a server as one unmasked, final frame.
 *
 * Framed here once and written to the socket of every subscriber as it is; `ws` would frame it again
 * for each of them. Never mutate the result: all sockets share it. A small one shares its memory with
 * others: what is kept for longer than a write must be `lasting`.
 */
export const textFrame = (text: string): Buffer => {
  const size = Buffer.byteLength(text)
  const head = size < 126 ? 2 : size < 65_536 ? 4 : 10
  const frame = Buffer.allocUnsafe(head + size)
  frame[0] = 0x81
  if (head === 2) frame[1] = size
  else if (head === 4) {
    frame[1] = 126
    frame[2] = size >>> 8
    frame[3] = size & 0xff
  } else {
    frame[1] = 127
    frame.writeBigUInt64BE(BigInt(size), 2)
  }
  // All ASCII: those bytes are the same, and written faster.
  frame.write(text, head, size, size === text.length ? "latin1" : "utf8")
  return frame
}

/** The frame in memory of its own, so that what is kept holds nothing else. */
export const lasting = (frame: Buffer): Buffer => {
  if (frame.buffer.byteLength === frame.length) return frame
  const copy = Buffer.allocUnsafeSlow(frame.length)
  frame.copy(copy)
  return copy
}
