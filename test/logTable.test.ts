/** The table of log lines in `examples/observability/README.md` has every line that a node or a gateway logs, and no other. */
import { expect, it } from "vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"

const root = Path.resolve(import.meta.dirname, "..")

const files = ["src/server", "src/nats", "src/node", "src/bin"].flatMap((folder) =>
  Fs.readdirSync(Path.join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => Path.posix.join(folder, file))
)

/** Without comments, and with an ellipsis in the place of each value. */
const plain = (text: string): string =>
  text.replace(/^\s*(\/?\*|\/\/).*$/gm, "").replace(/\$\{(?:[^{}]|\{[^{}]*\})*\}/g, "…")

const sources = new Map(
  files.map((file) => [file, plain(Fs.readFileSync(Path.join(root, file), "utf8"))])
)

const section = Fs.readFileSync(Path.join(root, "examples/observability/README.md"), "utf8")
  .split("\n## ")
  .find((part) => part.startsWith("The log\n"))!

/** The texts in the first column. */
const listed = section
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .flatMap((line) => [...line.split(" | ")[0]!.matchAll(/`([^`]+)`/g)].map(([, text]) => text!))

const literals = (pattern: RegExp): ReadonlyArray<string> =>
  [...sources.values()].flatMap((source) =>
    [...source.matchAll(pattern)].map(([, , text]) => text!)
  )

const isListed = (line: string) => listed.some((text) => line.includes(text))

it("each text of the table is in the source", () => {
  const all = [...sources.values()].join("\n").replaceAll('\\"', '"')
  const missing = listed.filter((text) =>
    text
      // `Defects` adds the word.
      .replace(/ failed$/, "")
      .split("…")
      .some((part) => part.trim() !== '"' && !all.includes(part))
  )
  expect(missing).toEqual([])
})

it("each line of the source is in the table", () => {
  const lines = [
    ...literals(/Effect\.log(?:Info|Warning|Error)\(\s*(["`])([\s\S]*?)\1/g),
    ...literals(/\b(?:lost|back):\s*(["`])([\s\S]*?)\1/g),
    ...literals(/defects\.logged\(\s*(["`])([\s\S]*?)\1/g).map((what) => `${what} failed`),
    ...literals(/\bfailed\((["`])(an? [\s\S]*?)\1,/g),
    ...literals(/\btext:\s*(["`])(A [\s\S]*?)\1/g)
  ]
  expect(lines.length).toBeGreaterThan(50)
  expect(lines.filter((line) => /[a-z]/.test(line) && !isListed(line))).toEqual([])
})

it("each call with a text from elsewhere is counted here: a new one needs a row of the table", () => {
  const calls = Object.fromEntries(
    [...sources].flatMap(([file, source]) => {
      const count = source.match(
        /Effect\.log(?:Info|Warning|Error)\(\s*(?:(?!["`\s])|`[^a-z`]*`)|Effect\.logWithLevel\(|\(passes\(cause\)/g
      )?.length
      return count === undefined ? [] : [[file, count]]
    })
  )
  expect(calls).toEqual({
    "src/bin/gateway/tables.ts": 1,
    "src/nats/internal/bridging.ts": 1,
    "src/nats/internal/connection.ts": 1,
    "src/nats/internal/sealed.ts": 1,
    "src/server/PgInstaller.ts": 1,
    "src/server/PgNotificationSource.ts": 1,
    "src/server/QueryResults.ts": 1,
    "src/server/internal/bus/bus.ts": 1,
    "src/server/internal/door/attach.ts": 1,
    "src/server/internal/door/door.ts": 1,
    "src/server/internal/door/route.ts": 1,
    "src/server/internal/hub/gapCounter.ts": 2,
    "src/server/internal/limits/refusalLog.ts": 6,
    "src/server/internal/link/pgLink.ts": 1,
    "src/server/internal/link/watched.ts": 3,
    "src/server/internal/notices.ts": 1,
    "src/server/internal/outage.ts": 3,
    "src/server/internal/outbox/reader.ts": 1
  })
})
