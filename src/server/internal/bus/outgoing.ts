/**
 * What a node is about to send: texts of messages, packed into as few envelopes as they fit into. A message
 * that fits into none is cut.
 */
import type { EnvelopeDraft, MessagePiece, Sort } from "./envelope.ts"

/** An envelope without its sender, counter and time. */
export interface Parcel extends Pick<EnvelopeDraft, "entries" | "piece"> {
  readonly sort: Sort
}

/** The bytes of messages that wait while the carrier is busy, at most. */
const maxWaitingBytes = 8 * 1_048_576

/** Packs entries in their order. `sort` is that of the envelopes, of which a beat has at least one. */
export const packed = (
  entries: Iterable<string>,
  room: number,
  sort: "batch" | "beat",
  nextId: () => number
): ReadonlyArray<Parcel> => {
  const parcels: Array<Parcel> = []
  let held: Array<string> = []
  let bytes = 0
  // One envelope is the probe, so that a heartbeat counts once.
  let kind: Sort = sort
  const close = () => {
    if (held.length === 0 && kind !== "beat") return
    parcels.push({ sort: kind, entries: held })
    held = []
    bytes = 0
    kind = "batch"
  }
  for (const entry of entries) {
    const size = Buffer.byteLength(entry) + 1
    if (size > room) {
      close()
      parcels.push(...cut(entry, room, nextId()))
      continue
    }
    if (bytes + size > room) close()
    held.push(entry)
    bytes += size
  }
  close()
  return parcels
}

const cut = (entry: string, room: number, id: number): ReadonlyArray<Parcel> => {
  const all = Buffer.from(entry)
  const count = Math.ceil(all.length / room)
  return Array.from({ length: count }, (_, index) => {
    const piece: MessagePiece = {
      id,
      index,
      count,
      bytes: all.subarray(index * room, (index + 1) * room)
    }
    return { sort: "piece", piece }
  })
}

/** The messages that wait for the next batch. */
export class Waiting {
  #texts: Array<string> = []
  #bytes = 0

  get isEmpty(): boolean {
    return this.#texts.length === 0
  }

  /** Adds a message, unless too much waits already. */
  add(text: string): boolean {
    if (this.#bytes + text.length > maxWaitingBytes) return false
    this.#texts.push(text)
    this.#bytes += text.length
    return true
  }

  take(): ReadonlyArray<string> {
    const texts = this.#texts
    this.#texts = []
    this.#bytes = 0
    return texts
  }
}
