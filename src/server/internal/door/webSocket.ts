/**
 * Text messages as bytes of a WebSocket, RFC 6455: one unmasked, final frame each.
 *
 * A message is framed here once, and its bytes are written to the socket of every subscriber. `ws`
 * would frame it again for each.
 */
import type { FrameCodec } from "../hub/outgoing.ts"

const encode = (text: string): Buffer => {
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
  // All ASCII: the bytes are the same in latin1, which is faster to write.
  frame.write(text, head, size, size === text.length ? "latin1" : "utf8")
  return frame
}

/** The offset of the text, from the byte with the length. */
const headOf = (length: number): number => (length < 126 ? 2 : length === 126 ? 4 : 10)

export const webSocket: FrameCodec = {
  encode,
  textOf: (frame) => frame.toString("utf8", headOf(frame[1]!))
}
