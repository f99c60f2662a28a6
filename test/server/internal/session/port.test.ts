import { describe, expect, it } from "@effect/vitest"
import { resolveLimits } from "../../../../src/server/internal/limits/limits.ts"
import { Port } from "../../../../src/server/internal/session/port.ts"
import type { SessionContext } from "../../../../src/server/internal/session/sessionContext.ts"
import { Visitor } from "../../../support/sessions.ts"

/** A port with its clock at 1000, over a socket that does not answer a close frame. */
const port = () => {
  const refused: Array<string> = []
  const context = {
    limits: resolveLimits({ maxUnansweredBytes: 10 }),
    clock: () => 1000,
    refused: (reason: string) => void refused.push(reason)
  } as Partial<SessionContext> as SessionContext
  const peer = new Visitor(false)
  return { port: new Port("session", peer, context, 1000), peer, refused }
}

describe("The port of a session", () => {
  it("a port reports that its token expired, and closes only when its caller asks", () => {
    const { peer, port: own } = port()
    own.principal = { identity: "ann", key: "ann", expiresAt: 1000 }
    expect([own.hasExpired(999), own.hasExpired()]).toEqual([false, true])
    expect([peer.closeCode, own.stopped]).toEqual([undefined, false])
  })

  it("a port closes once and counts the first reason", () => {
    const { peer, port: own, refused } = port()
    own.close("tokenExpired")
    own.close("slowConsumer", "blockedTimeout")
    expect([peer.closeCode, refused]).toEqual([4100, ["4100"]])
    expect([own.isClosing, own.stopped, own.ended]).toEqual([true, true, false])
  })

  it("a draining port is closing but not stopped", () => {
    const { port: own, refused } = port()
    own.close("draining")
    expect([own.isClosing, own.stopped, refused]).toEqual([true, false, []])
  })

  it("a port answers a request once, and resumes reading when its unanswered bytes are few", () => {
    const { peer, port: own } = port()
    own.unanswered.begin(1, 11)
    own.readOrPause()
    expect(peer.paused).toBe(true)
    own.answer(1, { type: "published", id: 1 })
    own.answer(1, { type: "published", id: 1 })
    expect([peer.paused, peer.frames]).toEqual([false, [{ type: "published", id: 1 }]])
  })
})
