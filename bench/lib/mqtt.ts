/**
 * MQTT 3.1.1 as far as a publisher and a subscriber of the benchmark need it.
 */

/** A packet: its first byte, its length in groups of 7 bits, its body. */
const packet = (first: number, body: Buffer): Buffer => {
  const size: Array<number> = []
  let left = body.length
  do {
    size.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0))
    left >>>= 7
  } while (left > 0)
  return Buffer.concat([Buffer.from([first, ...size]), body])
}

const string = (text: string): Buffer => {
  const bytes = Buffer.from(text)
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes])
}

/** A clean session without a keep-alive. */
export const connect = (client: string): Buffer =>
  packet(0x10, Buffer.concat([string("MQTT"), Buffer.from([4, 2, 0, 0]), string(client)]))

/** At most once, as all live messages of the benchmark. */
export const publish = (topic: string, text: string): Buffer =>
  packet(0x30, Buffer.concat([string(topic), Buffer.from(text)]))

export const subscribe = (topic: string): Buffer =>
  packet(0x82, Buffer.concat([Buffer.from([0, 1]), string(topic), Buffer.from([0])]))

export const isConnack = (bytes: string): boolean => bytes === "\x20\x02\x00\x00"
export const isSuback = (bytes: string): boolean => bytes === "\x90\x03\x00\x01\x00"

/** The end of the packet that begins at `at`; `undefined` while it is not complete. */
export const packetEnd = (bytes: Buffer, at: number): number | undefined => {
  let size = 0
  for (let index = 0; index < 4; index++) {
    const byte = bytes[at + 1 + index]
    if (byte === undefined) return undefined
    size += (byte & 0x7f) << (7 * index)
    if (byte < 0x80) {
      const end = at + 2 + index + size
      return end <= bytes.length ? end : undefined
    }
  }
  throw new Error("a packet of MQTT has no length")
}
