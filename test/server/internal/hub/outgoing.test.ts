/**
 * A message becomes what a transport carries once, whoever asks; the hub and the mailbox never look.
 */
import { describe, expect, it } from "@effect/vitest"
import { Mailbox } from "../../../../src/server/internal/session/mailbox.ts"
import type { Peer } from "../../../../src/server/internal/session/peer.ts"
import { webSocket } from "../../../../src/server/internal/door/webSocket.ts"
import { Batch } from "../../../../src/server/internal/hub/batch.ts"
import { type FrameCodec, Line } from "../../../../src/server/internal/hub/outgoing.ts"

/** As Server-Sent Events: a line of data for each frame, and an empty one. */
const sse = () => {
  const seen = { encoded: 0 }
  const codec: FrameCodec = {
    encode: (text) => {
      seen.encoded++
      return Buffer.from(`data: ${text.replaceAll("\n", "\ndata: ")}\n\n`)
    },
    textOf: (bytes) =>
      bytes
        .toString("utf8")
        .slice(0, -2)
        .replaceAll(/^data: /gm, "")
  }
  return { codec, seen }
}

/** A peer that takes so many messages, and is full then. */
const peerOf = (codec: FrameCodec, room: number) => {
  const written: Array<string> = []
  const write: Peer["write"] = (message) => {
    written.push(message.bytes(codec).toString("utf8"))
    return written.length < room
  }
  const peer: Pick<Peer, "write" | "writeAll" | "sizeOf" | "keep"> = {
    write,
    writeAll: (messages) => messages.map(write).every(Boolean),
    sizeOf: (message) => message.bytes(codec).length,
    keep: (message) => message.lasting(codec)
  }
  return { mailbox: new Mailbox(peer, 10_000), written }
}

const batch = () =>
  new Batch({ name: "orders", resumes: false }, 1, "e:0", "e:1", [
    { id: "e:1", at: 0, payload: { n: 1 }, json: `{"n":1}`, tx: undefined }
  ])

describe("a message on its way", () => {
  it("is made once for each codec, however many sockets it has", () => {
    const { codec, seen } = sse()
    const one = batch()
    const sockets = [1, 1, 9].map((room) => peerOf(codec, room))
    const webSockets = [peerOf(webSocket, 1), peerOf(webSocket, 9)]
    for (const { mailbox } of [...sockets, ...webSockets]) {
      mailbox.offer(one)
      // On some it waits.
      mailbox.offer(one)
      mailbox.control(new Line(`{"type":"ping"}`))
      mailbox.drained()
    }
    // The batch once, a line for each of the three.
    expect(seen.encoded).toBe(4)
    for (const { written } of sockets) {
      expect(written.map((text) => text.slice(0, 24))).toEqual([
        `data: {"type":"events","`,
        `data: {"type":"events","`,
        `data: {"type":"ping"}\n\n`
      ])
    }
    expect(one.bytes(webSocket)).toBe(one.bytes(webSocket))
    expect(webSocket.textOf(one.bytes(webSocket))).toBe(one.text)
  })

  it("has its text when the events are gone, before and after a codec made its form of it", () => {
    const text = batch().text
    const sealed = batch().seal()
    expect([sealed.events, sealed.text]).toEqual([[], text])
    sealed.bytes(webSocket)
    const { codec } = sse()
    expect(codec.textOf(sealed.bytes(codec))).toBe(text)
    const late = batch()
    late.bytes(webSocket)
    expect(late.seal().text).toBe(text)
  })

  it.each([0, 300, 5000])("keeps %i bytes in memory of their own, one copy for all", (size) => {
    const message = new Line("x".repeat(size))
    const bytes = Buffer.from(message.bytes(webSocket))
    const kept = message.lasting(webSocket)
    const own = kept.bytes(webSocket)
    expect(own.equals(bytes)).toBe(true)
    expect(own.buffer.byteLength).toBe(own.length)
    expect(message.lasting(webSocket)).toBe(kept)
    expect(kept.lasting(webSocket)).toBe(kept)
    expect(message.bytes(webSocket)).toBe(own)
    expect(kept.text).toBe(message.text)
  })

  it("keeps nothing of the events that a batch was made of", () => {
    const kept = batch().lasting(webSocket)
    expect(kept).not.toBeInstanceOf(Batch)
    expect(kept.text).toBe(batch().text)
  })
})
