import { describe, expect, it } from "@effect/vitest"
import * as Protocol from "../src/Protocol.ts"

/** A sentence: a capital letter first, and its only full stop last. */
const oneSentence = /^[A-Z](?:[^.\n]|\.(?=\w)){15,90}\.$/

describe("Protocol", () => {
  it("is version 1", () => {
    expect([Protocol.version, Protocol.subprotocol, Protocol.maxDepth]).toEqual([
      1,
      "effect-realtime.v1",
      64
    ])
  })

  it.each([
    { code: 1000, policy: "reconnect" },
    { code: 1001, policy: "reconnect" },
    { code: 1005, policy: "reconnect" },
    { code: 1006, policy: "reconnect" },
    { code: 1008, policy: "reconnect" },
    { code: 1009, policy: "stop" },
    { code: 1010, policy: "reconnect" },
    { code: 1011, policy: "reconnect" },
    { code: 1012, policy: "reconnect" },
    { code: 1013, policy: "reconnect" },
    { code: 3999, policy: "reconnect" },
    { code: 4000, policy: "reconnect" },
    { code: 4001, policy: "reconnect" },
    { code: 4002, policy: "reconnect" },
    { code: 4003, policy: "reconnect" },
    { code: 4004, policy: "reconnect" },
    { code: 4005, policy: "reconnect" },
    { code: 4099, policy: "reconnect" },
    { code: 4100, policy: "refresh" },
    { code: 4101, policy: "refresh" },
    { code: 4199, policy: "refresh" },
    { code: 4200, policy: "stop" },
    { code: 4201, policy: "stop" },
    { code: 4202, policy: "stop" },
    { code: 4205, policy: "stop" },
    { code: 4299, policy: "stop" },
    { code: 4300, policy: "reconnect" },
    { code: 4999, policy: "reconnect" }
  ])("after close code $code a client does: $policy", ({ code, policy }) => {
    expect(Protocol.closePolicy(code)).toBe(policy)
  })

  it("names each close code", () => {
    expect(
      Object.fromEntries(
        Object.entries(Protocol.closeCodes).map(([name, { code }]) => [name, code])
      )
    ).toEqual({
      draining: 4000,
      slowConsumer: 4001,
      nothingHeard: 4002,
      flooding: 4003,
      tooManySessions: 4004,
      noHello: 4005,
      tokenExpired: 4100,
      revoked: 4101,
      protocolViolation: 4200,
      versionNotSupported: 4201,
      forbidden: 4202,
      removed: 4205,
      invalidMessage: 1002,
      invalidText: 1007,
      tooManyPieces: 1008,
      messageTooLarge: 1009,
      serverFailed: 1011
    })
  })

  it.each(Object.entries(Protocol.closeCodes))(
    "the close code $0 has the policy of its range, and a sentence that a close frame carries",
    (name, { code, policy, sentence }) => {
      expect(policy).toBe(Protocol.closePolicy(code))
      expect(sentence).toMatch(oneSentence)
      const reason = Protocol.closeReason(
        name as Protocol.CloseName,
        "too many unanswered requests"
      )
      expect(`${reason}.`).toBe(sentence.replace(/\.$/, ": too many unanswered requests."))
      expect(reason.length).toBeLessThanOrEqual(123)
      expect(`${Protocol.closeReason(name as Protocol.CloseName)}.`).toBe(sentence)
    }
  )

  it("lists each error code with its retry policy", () => {
    expect(
      Object.fromEntries(
        Object.entries(Protocol.errorCodes).map(([code, { retry }]) => [code, retry])
      )
    ).toEqual({
      "auth/required": "never",
      "auth/invalid": "never",
      "auth/expired": "refresh",
      "channel/unknown": "never",
      "channel/invalid-name": "never",
      "channel/forbidden": "never",
      "subscribe/duplicate": "never",
      "subscribe/invalid-where": "never",
      "state/too-large": "never",
      "state/none": "never",
      "subscribe/limit": "later",
      "rate/limited": "later",
      "server/overloaded": "later",
      "server/internal": "later",
      "source/down": "later",
      "publish/forbidden": "never",
      "publish/invalid": "never",
      "publish/too-large": "never",
      "publish/expired": "never",
      "frame/malformed": "never",
      "frame/unknown": "never"
    })
  })

  it.each(Object.entries(Protocol.errorCodes))(
    "the error code $0 has one sentence",
    (_, { sentence }) => {
      expect(sentence).toMatch(oneSentence)
    }
  )

  it.each([
    { name: "a", fault: undefined },
    { name: "A-Z_a.z:0-9", fault: undefined },
    { name: "a".repeat(63), fault: undefined },
    { name: "", fault: "is empty" },
    { name: "a".repeat(64), fault: "is 64 bytes long" },
    { name: "a b", fault: "contains a character that is not allowed" },
    { name: "ä".repeat(64), fault: "contains a character that is not allowed" },
    { name: "realtime", fault: "is reserved" },
    { name: "realtime2", fault: undefined }
  ])("the channel name $name: $fault", ({ fault, name }) => {
    expect(Protocol.channelNameFault(name)).toBe(fault)
  })
})
