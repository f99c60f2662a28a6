/**
 * The README's table "What happens when ...": each row is shown by a test, which this names.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"

const root = Path.resolve(import.meta.dirname, "..")
const read = (path: string): string => Fs.readFileSync(Path.join(root, path), "utf8")

/** Row by row: files, each with the beginning of a test's title. */
const shownBy: Readonly<Record<string, ReadonlyArray<readonly [file: string, title: string]>>> = {
  "a transaction rolls back": [
    [
      "test/server/Realtime.test.ts",
      "belongs to the caller's transaction: a rollback tells nobody"
    ],
    ["test/server/durable.test.ts", "belongs to the caller's transaction"]
  ],
  "the database restarts": [
    ["test/server/PgNotificationSource.test.ts", "survives a restart of the database"],
    ["test/server/RealtimeServer.test.ts", "tells a lost source as status and gap"]
  ],
  "the link is cut": [
    ["test/server/NotificationSourceSuite.ts", "tells every listener of a loss once it is back"]
  ],
  "the link goes silent": [
    [
      "test/server/PgNotificationSource.test.ts",
      "notices a silent path within heartbeat and timeout"
    ]
  ],
  "the page's network goes silent": [
    ["test/testing/RealtimeTest.test.ts", "silence: nothing passes and nobody is told"]
  ],
  "the tab sleeps": [
    ["test/browser/heal.test.ts", "17: that was hidden and slept past the heartbeat reconnects"],
    ["test/client/connection.test.ts", "is cut short when the page is shown or comes online"],
    ["test/client/connection.test.ts", "asks an open link for a sign of life after a signal"]
  ],
  "the laptop closes": [
    ["test/client/connection.test.ts", "ends by absolute time after a sleep in which no timer ran"],
    ["test/client/connection.test.ts", "notices a sleep by itself within 5 s"]
  ],
  "the server is deployed": [
    ["test/client/connection.test.ts", "honours the delay that the server gave before it drained"],
    ["test/server/RealtimeServer.test.ts", "4000 everybody with a bye when it drains"]
  ],
  "the server is killed": [
    ["test/client/connection.test.ts", "keeps full jitter between 0 and a doubling ceiling"],
    ["test/testing/RealtimeTest.test.ts", "kill: no bye"]
  ],
  "a page is too slow": [
    [
      "test/server/internal/session/mailbox.test.ts",
      "drops waiting events at its bound and tells a gap"
    ],
    ["test/server/durable.test.ts", "a socket that was too slow catches up by itself"],
    ["test/server/Realtime.test.ts", "tells a consumer that is too slow what it missed"]
  ],
  "the server sends a page away (refused, removed)": [
    ["test/client/connection.test.ts", "tells what the server said before it refused"],
    ["test/client/PlainClient.test.ts", "starts again after a stop, with everybody who still"],
    ["test/react/useWebSocket.test.tsx", "stops when the server says so, and goes on where it was"]
  ],
  "the publish queue is full": [
    ["test/client/publish.test.ts", "fails with QueueFull beyond the queue's bounds"]
  ],
  "a message waits too long": [
    ["test/client/publish.test.ts", "fails with Expired after 60 s offline"]
  ]
}

/** The first cells of the rows of the table under a heading. */
const rowsUnder = (heading: string): ReadonlyArray<string> => {
  const section = read("README.md").split(`### ${heading}\n`)[1]?.split("\n#")[0] ?? ""
  return section
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .map((line) => line.split("|")[1]!.trim())
    .slice(1)
}

describe("what happens when ...", () => {
  it("is told for exactly the cases that are shown", () => {
    expect(rowsUnder("What happens when ...")).toEqual(Object.keys(shownBy))
  })

  it.each(Object.entries(shownBy))("%s", (_, tests) => {
    for (const [file, title] of tests) {
      expect(read(file), `${file} has no test that begins with "${title}"`).toContain(`"${title}`)
    }
  })
})
