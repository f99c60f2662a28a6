/**
 * A message is encoded once per codec, however many peers send it; the hub and the mailbox never
 * encode.
 */
import { describe, expect, it } from "@effect/vitest"
import { Mailbox } from "../../../../src/server/internal/session/mailbox.ts"
import type { Peer } from "../../../../src/server/internal/session/peer.ts"
import { webSocket } from "../../../../src/server/internal/door/webSocket.ts"
import { Batch } from "../../../../src/server/internal/hub/batch.ts"
import { type FrameCodec, Line } from "../../../../src/server/internal/hub/outgoing.ts"

/**
 * A codec for Server-Sent Events: a `data:` line for each line of the frame, then an empty line.
 */
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

/** A peer that accepts `room` messages and is full then. */
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
  return { mailbox: new Mailbox(peer, 10_000, 1000), written }
}

const batch = () =>
  new Batch({ name: "orders", resumes: false }, 1, "e:0", "e:1", [
    { id: "e:1", at: 0, payload: { n: 1 }, json: `{"n":1}`, tx: undefined }
  ])

describe("Outgoing messages", () => {
  it("a message is encoded once for each codec, however many sockets send it", () => {
    const { codec, seen } = sse()
    const one = batch()
    const sockets = [1, 1, 9].map((room) => peerOf(codec, room))
    const webSockets = [peerOf(webSocket, 1), peerOf(webSocket, 9)]
    for (const { mailbox } of [...sockets, ...webSockets]) {
      mailbox.offer(one)
      // The second offer waits in the mailboxes of full peers.
      mailbox.offer(one)
      mailbox.control(new Line(`{"type":"ping"}`))
      mailbox.drained()
    }
    // One encoding of the batch, and one of each ping.
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

  it("a sealed batch keeps its text without its events, before and after a codec encoded it", () => {
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

  it.each([0, 300, 5000])("a kept message of %i bytes is copied once for all sockets", (size) => {
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

  it("a kept batch holds its text and none of its events", () => {
    const kept = batch().lasting(webSocket)
    expect(kept).not.toBeInstanceOf(Batch)
    expect(kept.text).toBe(batch().text)
  })
})
