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
      "a live publish in a transaction that rolls back is never delivered"
    ],
    ["test/server/durable.test.ts", "a durable publish belongs to the caller's transaction"]
  ],
  "the database restarts": [
    [
      "test/server/PgNotificationSource.test.ts",
      "the source reconnects after a database restart, and sends the loss"
    ],
    [
      "test/server/RealtimeServer.test.ts",
      "a lost source sends status and gap, and later events are delivered"
    ]
  ],
  "the link is cut": [
    [
      "test/server/NotificationSourceSuite.ts",
      "every listener receives one loss once the source is back, then later notifications"
    ]
  ],
  "the link goes silent": [
    [
      "test/server/PgNotificationSource.test.ts",
      "the source notices a silent network, and closes in 2 s without waiting for it"
    ]
  ],
  "the page's network goes silent": [
    [
      "test/testing/RealtimeTest.test.ts",
      "network.silence passes no bytes, and both ends notice in under 38 s"
    ],
    [
      "test/client/offline.test.ts",
      "sees it within 4 s of a publish where the platform says nothing"
    ]
  ],
  "the page is offline": [
    ["test/browser/offline.test.ts", "shows within 3 s that it is offline, and publishes once"],
    ["test/client/offline.test.ts", "sees it within 3 s of `offline`; what it published meanwhile"]
  ],
  "the tab sleeps": [
    ["test/browser/heal.test.ts", "reconnects as soon as it is shown"],
    ["test/client/connection.test.ts", "ends when the page is shown or goes online"],
    ["test/client/connection.test.ts", "probes an open socket after a signal"]
  ],
  "the laptop closes": [
    ["test/client/connection.test.ts", "ends by absolute time after a sleep without timers"],
    ["test/client/connection.test.ts", "detects a sleep within 5 s"]
  ],
  "the server is deployed": [
    ["test/client/connection.test.ts", "lasts for the reconnectAfter of the server's bye"],
    [
      "test/server/RealtimeServer.test.ts",
      "a drain sends bye, closes with 4000, and rejects new clients with 503"
    ]
  ],
  "the server is killed": [
    ["test/client/connection.test.ts", "has full jitter between 0 and a doubling ceiling"],
    [
      "test/testing/RealtimeTest.test.ts",
      "server.kill resets sockets without bye, and live channels get a gap"
    ]
  ],
  "one of several nodes is killed": [
    [
      "test/examples/cluster.test.ts",
      "shows rows and open pages of all nodes on each, and goes on when a node is killed"
    ],
    ["test/server/presence.nodes.test.ts", "that dies takes its members along after 3 s"],
    ["test/server/singletons.test.ts", "one of two processes works, the other takes over"]
  ],
  "NATS is lost": [
    ["test/nats/NatsFeed.test.ts", "nodes are fed, read for themselves while NATS is away"],
    ["test/nats/NatsNotificationSource.test.ts", "a node listens by itself when NATS is gone"]
  ],
  "a page is too slow": [
    [
      "test/server/internal/session/mailbox.test.ts",
      "a mailbox at its limit drops waiting events and sends a gap per channel at its newest cursor"
    ],
    ["test/server/durable.test.ts", "a socket that was too slow catches up without a gap"],
    [
      "test/server/Realtime.test.ts",
      "a slow consumer receives a gap for what it missed, and others miss nothing"
    ]
  ],
  "the server stops a page (rejected or removed)": [
    ["test/client/connection.test.ts", "has the server's error as reason after a refusal"],
    ["test/client/PlainClient.test.ts", "subscribes again after a stop, for each listener"],
    ["test/react/useWebSocket.test.tsx", "stops when the server rejects it, and resumes"]
  ],
  "the publish queue is full": [
    ["test/client/publish.test.ts", "fails with QueueFull when the queue is full"]
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
  it("the README lists exactly the cases that tests show", () => {
    expect(rowsUnder("What happens when ...")).toEqual(Object.keys(shownBy))
  })

  it.each(Object.entries(shownBy))("%s", (_, tests) => {
    for (const [file, title] of tests) {
      expect(read(file), `${file} has no test that begins with "${title}"`).toContain(`"${title}`)
    }
  })
})
