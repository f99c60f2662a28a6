/**
 * RFC 6455 as far as a client of the benchmark needs it.
 */

export interface Frame {
  readonly opcode: number
  /** Where the payload begins and ends; `end` is also where the next frame begins. */
  readonly payload: number
  readonly end: number
}

export const opcodes = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

/** The frame that begins at `at`, or `undefined` while it is not complete. */
export const readFrame = (bytes: Buffer, at: number): Frame | undefined => {
  if (bytes.length < at + 2) return undefined
  const first = bytes[at]!
  const short = bytes[at + 1]! & 0x7f
  const head = short < 126 ? 2 : short === 126 ? 4 : 10
  if (bytes.length < at + head) return undefined
  const size =
    head === 2
      ? short
      : head === 4
        ? bytes.readUInt16BE(at + 2)
        : Number(bytes.readBigUInt64BE(at + 2))
  const payload = at + head
  const end = payload + size
  if ((first & 0xf0) !== 0x80) throw new Error(`a frame begins with byte ${first}`)
  return end > bytes.length ? undefined : { opcode: first & 0x0f, payload, end }
}

/**
 * A frame of a client. It must be masked; a mask of zeros leaves the payload as it is, and the server
 * unmasks it like any other.
 */
export const clientFrame = (payload: string | Buffer, opcode: number = opcodes.text): Buffer => {
  const body = Buffer.from(payload)
  const head = body.length < 126 ? 2 : 4
  const frame = Buffer.alloc(head + 4 + body.length)
  frame[0] = 0x80 | opcode
  if (head === 2) frame[1] = 0x80 | body.length
  else {
    frame[1] = 0x80 | 126
    frame.writeUInt16BE(body.length, 2)
  }
  body.copy(frame, head + 4)
  return frame
}
