/**
 * Reads what a session writes to its socket: the texts of unmasked, final WebSocket frames (RFC 6455),
 * of which one write may hold several.
 *
 * @since 0.1.0
 */
const textFrame = 0x81

export const decodeTextFrames = (bytes: Uint8Array): ReadonlyArray<string> => {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const texts: Array<string> = []
  let offset = 0
  while (offset < buffer.length) {
    const [head, length] = [buffer[offset], buffer[offset + 1]]
    if (head !== textFrame || length === undefined || length > 127) {
      throw new Error("A session wrote bytes that are no text frame of a server")
    }
    offset += 2
    let size = length
    if (length === 126) {
      size = buffer.readUInt16BE(offset)
      offset += 2
    } else if (length === 127) {
      size = Number(buffer.readBigUInt64BE(offset))
      offset += 8
    }
    if (offset + size > buffer.length) throw new Error("A session wrote part of a frame")
    texts.push(buffer.toString("utf8", offset, offset + size))
    offset += size
  }
  return texts
}
