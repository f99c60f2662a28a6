/**
 * Compares `src/PROTOCOL.md` with the code: its tables equal `Protocol`, `RealtimeEvent` and
 * `FrameSchema`, and a real server over a real socket answers its transcript word for word.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted, Schema } from "effect"
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { WebSocket } from "ws"
import * as Channel from "../src/Channel.ts"
import { RealtimeServer } from "../src/node/RealtimeServer.ts"
import { closeCodes, errorCodes, joinStates, sourceStates, subprotocol } from "../src/Protocol.ts"
import { gapReasons } from "../src/RealtimeEvent.ts"
import * as PgInstaller from "../src/server/PgInstaller.ts"
import { AuthRefused } from "../src/server/ServerOptions.ts"
import { execute, installedDatabase } from "./support/database.ts"
import { clientFrameFields, type FrameFields, serverFrameFields } from "./support/frameFields.ts"
import * as Transcript from "./support/transcript.ts"

const document = readFileSync(new URL("../src/PROTOCOL.md", import.meta.url), "utf8")

/** The rows of the table whose first column has this title, under a heading. */
const table = (heading: string, title: string): ReadonlyArray<ReadonlyArray<string>> => {
  const section = document.split(`\n## ${heading}\n`)[1]?.split("\n## ")[0] ?? ""
  const lines = section.split(`| ${title} |`)[1]?.split("\n").slice(2) ?? []
  return lines.slice(0, lines.indexOf("")).map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim())
  )
}

const quoted = (name: string) => `\`${name}\``

describe("the tables of PROTOCOL.md", () => {
  it("list every error code with its policy and its sentence", () => {
    expect(table("Errors", "code")).toEqual(
      Object.entries(errorCodes).map(([code, { retry, sentence }]) => [
        quoted(code),
        retry,
        sentence
      ])
    )
  })

  it("list every close code with its name, its policy and its sentence", () => {
    expect(table("Close codes", "code")).toEqual(
      Object.entries(closeCodes).map(([name, { code, policy, sentence }]) => [
        String(code),
        quoted(name),
        policy,
        sentence
      ])
    )
  })

  it.each([
    { heading: "A client sends", frames: clientFrameFields },
    { heading: "A server sends", frames: serverFrameFields }
  ])("$heading: have every frame with its fields", ({ frames, heading }) => {
    const cell = ({ optional, required }: FrameFields) =>
      [...required, ...optional.map((name) => `${name}?`)].map(quoted).toSorted().join(", ")
    expect(
      table(heading, "frame").map(([type, fields = ""]) => [
        type,
        fields.split(", ").toSorted().join(", ")
      ])
    ).toEqual(frames.map((frame) => [quoted(frame.type), cell(frame)]))
  })

  it.each([
    { title: "state", words: joinStates },
    { title: "reason", words: gapReasons },
    { title: "source", words: sourceStates }
  ])("have every word for $title", ({ title, words }) => {
    expect(table("A server sends", title).map(([word]) => word)).toEqual(words.map(quoted))
  })
})

// -----------------------------------------------------------------------------------------------
// the transcript

const Notices = Channel.make("notices", Schema.Struct({ text: Schema.String }), { publish: true })
const Orders = Channel.make("orders", Schema.Struct({ id: Schema.Int, status: Schema.String }), {
  delivery: "durable"
})

const Items = Channel.table("items", Schema.Struct({ id: Schema.Int, status: Schema.String }), {
  key: "id",
  filter: "status"
})

const Pointers = Channel.make("pointers", Schema.Struct({ user: Schema.String, x: Schema.Int }), {
  delivery: "volatile",
  publish: true,
  latestBy: "user"
})

/** A server for the transcript, and the function that starts its close. */
const server = Effect.gen(function* () {
  const { url } = yield* installedDatabase
  yield* execute(url, "create table items (id int primary key, status text not null)")
  yield* Effect.provide(
    PgInstaller.install({ watch: [Items] }),
    PgClient.layer({ url: Redacted.make(url) })
  )
  const http = createServer()
  const realtime = yield* Effect.acquireRelease(
    Effect.sync(
      () =>
        new RealtimeServer(http, url, {
          channels: [Notices, Orders, Items, Pointers],
          authenticate: ({ token }) => {
            if (token === undefined) throw new AuthRefused({ code: "auth/required" })
            return { identity: token, expires: new Date(Date.now() + 3_600_000) }
          },
          authorize: () => true
        })
    ),
    (realtime) =>
      Effect.promise(async () => {
        await realtime.close()
        http.close()
      })
  )
  yield* Effect.promise(() => realtime.ready)
  yield* Effect.promise(
    () => new Promise<void>((listening) => http.listen(0, "127.0.0.1", listening))
  )
  const { port } = http.address() as AddressInfo
  return {
    address: `ws://127.0.0.1:${port}/realtime`,
    query: (statement: string) => execute(url, statement),
    close: () => void realtime.close()
  }
})

/** A client that only records what it receives. */
class Line {
  readonly #socket: WebSocket
  /** What it received and the transcript has not named yet. */
  readonly frames: Array<unknown> = []
  closed: string | undefined
  #wake = () => {}

  constructor(address: string) {
    this.#socket = new WebSocket(address, [subprotocol])
    this.#socket.on("open", () => this.#wake())
    this.#socket.on("message", (data: Buffer) => {
      for (const line of data.toString("utf8").split("\n")) this.frames.push(JSON.parse(line))
      this.#wake()
    })
    this.#socket.on("close", (code, reason) => {
      this.closed = `closes ${code} ${reason.toString("utf8")}`
      this.#wake()
    })
  }

  get isOpen(): boolean {
    return this.#socket.readyState === WebSocket.OPEN
  }

  send(text: string): void {
    this.#socket.send(text)
  }

  close(code: number): void {
    this.#socket.close(code)
  }

  cut(): void {
    this.#socket.terminate()
  }

  /** Waits until the condition holds, or fails with what the client received instead. */
  until(holds: () => boolean, what: string): Effect.Effect<void, Error> {
    return Effect.callback<void>((resume) => {
      this.#wake = () => {
        if (holds()) resume(Effect.void)
      }
      this.#wake()
    }).pipe(
      Effect.timeoutOrElse({
        duration: "10 seconds",
        orElse: () =>
          Effect.fail(
            new Error(
              `${what} did not come, but ${JSON.stringify(this.frames)} ${this.closed ?? ""}`
            )
          )
      })
    )
  }
}

describe("the transcript of PROTOCOL.md", () => {
  it.live("equals what a server sends", () =>
    Effect.gen(function* () {
      const { address, close, query } = yield* server
      const text = document.split("```transcript\n")[1]!.split("```")[0]!
      const steps = Transcript.read(text)
      let bound: Transcript.Bound = new Map()
      const connected = Effect.gen(function* () {
        const opened = yield* Effect.acquireRelease(
          Effect.sync(() => new Line(address)),
          (line) => Effect.sync(() => line.cut())
        )
        yield* opened.until(() => opened.isOpen, "an open socket")
        return opened
      })
      expect(steps[0]).toEqual({ actor: "C", lines: ["connects"] })
      let line = yield* connected

      /** Takes the frames of the lines, in any order. */
      const take = (lines: ReadonlyArray<string>) =>
        Effect.gen(function* () {
          yield* line.until(() => line.frames.length >= lines.length, lines.join(" and "))
          for (const said of lines) {
            const found = line.frames.findIndex((frame) => {
              const known = Transcript.match(JSON.parse(said), frame, bound)
              if (known === undefined) return false
              bound = known
              return true
            })
            if (found === -1) expect(line.frames).toContainEqual(JSON.parse(said))
            line.frames.splice(found, 1)
          }
        })

      for (const { actor, lines } of steps.slice(1)) {
        const [said] = lines as [string]
        if (actor === "DB") yield* query(said)
        else if (said === "begins to close") close()
        else if (said.startsWith("{")) {
          if (actor === "S") yield* take(lines)
          else line.send(Transcript.fill(said, bound))
        } else if (said === "connects") line = yield* connected
        else if (actor === "S") {
          yield* line.until(() => line.closed !== undefined, said)
          expect(line.closed).toBe(said)
        } else line.close(Number(/^closes (\d+)$/.exec(said)![1]))
        // A frame without a line in the transcript is left here.
        if (actor === "S") expect(line.frames).toEqual([])
      }
      expect(steps.filter(({ actor }) => actor === "S").length).toBeGreaterThan(20)
    })
  )

  it("does not match when a value, a field or the order differs", () => {
    const said = { type: "gap", cursor: "<c>", list: [{ id: "<c>" }] }
    const bound = Transcript.match(
      said,
      { type: "gap", cursor: "7", list: [{ id: "7" }] },
      new Map()
    )
    expect(bound).toEqual(new Map([["<c>", "7"]]))
    const others = [
      { type: "gap", cursor: "7", list: [{ id: "8" }] },
      { type: "gap", cursor: "7", list: [{ id: "7" }], more: 1 },
      { type: "gap", cursor: "7", list: [] },
      { type: "gap", list: [{ id: "7" }], cursor: "7" },
      { type: "pap", cursor: "7", list: [{ id: "7" }] }
    ]
    for (const other of others) expect(Transcript.match(said, other, new Map())).toBeUndefined()
    expect(Transcript.match("<c>", "8", bound!)).toBeUndefined()
    expect(Transcript.fill(`{"cursor":"<c>"}`, bound!)).toBe(`{"cursor":"7"}`)
    expect(() => Transcript.fill(`{"cursor":"<d>"}`, bound!)).toThrow("<d>")
    expect(() => Transcript.read("X: waves")).toThrow("X: waves")
  })
})
