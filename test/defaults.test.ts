/**
 * Each default stands in `src/internal/defaults.ts`, and the docs of its option and the guides say the same.
 */
import { describe, expect, it } from "@effect/vitest"
import { Duration } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Backoff from "../src/Backoff.ts"
import * as Defaults from "../src/internal/defaults.ts"

const read = (path: string) =>
  Fs.readFileSync(Path.resolve(import.meta.dirname, "..", path), "utf8")

interface Rate {
  readonly perSecond: number
  readonly burst: number
}
type Group = Readonly<Record<string, number | boolean | string | Rate>>

interface Noun {
  /** Where its options are declared. */
  readonly file: string
  readonly group: Group
  /** Its rows in the guide begin with this; none for `limits`, whose rows are names alone. */
  readonly guide: string | undefined
  /** Options whose documented default is a word, or depends on another. */
  readonly words?: Readonly<Record<string, string>>
}

const layer = (name: string) => `${name}.layer({ `

const nouns: Readonly<Record<string, Noun>> = {
  limits: {
    file: "src/server/ServerOptions.ts",
    group: { ...Defaults.limits, ...Defaults.server },
    guide: undefined,
    words: { maxTokenAge: "as long as it says" }
  },
  "the class of ./node": {
    file: "src/node/Options.ts",
    group: Defaults.nodeServer,
    guide: "new RealtimeServer(http, url, { "
  },
  Realtime: {
    file: "src/server/internal/hub/realtimeOptions.ts",
    group: Defaults.realtime,
    guide: layer("Realtime")
  },
  PgNotificationSource: {
    file: "src/server/PgNotificationSource.ts",
    group: Defaults.pgNotificationSource,
    guide: layer("PgNotificationSource")
  },
  PgNodeBus: {
    file: "src/server/internal/bus/busOptions.ts",
    group: Defaults.nodeBus,
    guide: layer("PgNodeBus")
  },
  NatsConnection: {
    file: "src/nats/internal/connectionOptions.ts",
    group: Defaults.natsConnection,
    guide: layer("NatsConnection")
  },
  OutboxReader: {
    file: "src/server/internal/outbox/readerOptions.ts",
    group: Defaults.outboxReader,
    guide: layer("OutboxReader")
  },
  PgInstaller: {
    file: "src/server/PgInstaller.ts",
    group: Defaults.pgInstaller,
    guide: layer("PgInstaller"),
    words: { retention: "as it is, and 24 hours in a new install" }
  },
  MemoryOutbox: {
    file: "src/server/internal/outbox/memoryReader.ts",
    group: { retention: Defaults.pgInstaller.retention },
    guide: layer("MemoryOutbox")
  },
  Jwt: { file: "src/server/Jwt.ts", group: Defaults.jwt, guide: "jwt({ " },
  RealtimeTest: {
    file: "src/testing/RealtimeTest.ts",
    group: Defaults.realtimeTest,
    guide: layer("RealtimeTest")
  },
  Connection: {
    file: "src/client/Connection.ts",
    group: { linger: Defaults.clientLinger },
    guide: layer("RealtimeClient")
  },
  RealtimeClient: {
    file: "src/client/RealtimeClient.ts",
    group: { ackTimeout: Defaults.ackTimeout, maxStreamBuffer: Defaults.maxStreamBuffer },
    guide: layer("RealtimeClient")
  },
  PublishQueue: {
    file: "src/client/PublishQueue.ts",
    group: {
      maxMessages: Defaults.queueMaxMessages,
      maxBytes: Defaults.queueMaxBytes,
      maxAge: Defaults.queueMaxAge
    },
    guide: "the queue of RealtimeClient"
  }
}

interface Option {
  readonly name: string
  readonly type: string
  readonly doc: string
}

/** The optional fields of the interfaces of a file that are indented once, each with its doc as one line. */
const optionsOf = (text: string): ReadonlyArray<Option> =>
  [...text.matchAll(/\n {2}\/\*\*((?:(?!\*\/)[\s\S])*?)\*\/\n {2}readonly (\w+)\?:([^\n]*)/g)].map(
    ([, doc, name, type]) => ({
      name: name!,
      type: type!,
      doc: doc!
        .replaceAll(/\n\s*\*/g, " ")
        .replaceAll(/\s+/g, " ")
        .trim()
    })
  )

const units = [
  [3_600_000, "hour"],
  [60_000, "minute"],
  [1000, "s"],
  [1, "ms"]
] as const

/** In which words a time may be said: 60 s are 1 minute too. */
const timesOf = (millis: number): ReadonlyArray<string> =>
  millis === 0
    ? ["0"]
    : units.flatMap(([size, unit]) => {
        const amount = millis / size
        if (!Number.isInteger(amount) || amount > 999) return []
        return [`${amount} ${unit}${unit.length > 2 && amount > 1 ? "s" : ""}`]
      })

const grouped = (value: number) => value.toLocaleString("en-US")

const sizesOf = (bytes: number): ReadonlyArray<string> => {
  const [size, unit] = bytes % 1_048_576 === 0 ? [1_048_576, "MiB"] : [1024, "KiB"]
  return [`${bytes / size} ${unit}`]
}

/** In which words the default of an option may be said, by the type and the name of that. */
const wordsOf = ({ name, type }: Option, value: Group[string]): ReadonlyArray<string> => {
  if (typeof value === "object") {
    return [`${grouped(value.perSecond)}/s and ${grouped(value.burst)} at once`]
  }
  if (typeof value === "string") return [`\`${value}\``]
  if (typeof value === "boolean") return [`\`${value}\``]
  if (type.includes("Duration.Input")) return timesOf(value)
  return /Bytes$|Memory$/.test(name) ? sizesOf(value) : [grouped(value)]
}

/** Whether a text goes on with one of some words, and no number or word of its own is longer. */
const begins = (text: string, words: ReadonlyArray<string>): boolean =>
  words.some((word) => text.startsWith(word) && !/^(?:\w|[.,]\d)/.test(text.slice(word.length)))

const defaultIn = (doc: string): string | undefined => /\bdefault:? (.*)/i.exec(doc)?.[1]

describe.each(Object.entries(nouns))("the options of %s", (_, { file, group, words = {} }) => {
  const options = optionsOf(read(file))
  const find = (name: string) => options.find((option) => option.name === name)

  it.each(Object.entries(group))("say the default of %s", (name, value) => {
    const option = find(name)
    expect(option, `${file} has no option ${name} with a doc comment`).toBeDefined()
    const said = defaultIn(option!.doc)
    const wanted = words[name] === undefined ? wordsOf(option!, value) : [words[name]]
    expect(said, `${file}: ${name} does not say its default`).toBeDefined()
    expect(
      begins(said!, wanted),
      `${file}: ${name} says "default ${said}", and the default is ${wanted.join(" or ")}`
    ).toBe(true)
  })

  it("say a size in bytes too", () => {
    const missing = options.filter(({ doc, name }) => {
      const value = /Bytes$|Memory$/.test(name) ? group[name] : undefined
      return typeof value === "number" && !doc.includes(`(${grouped(value)}`)
    })
    expect(missing.map(({ name }) => name)).toEqual([])
  })

  it("say no number as a default that does not stand in the one file", () => {
    const numbers = options.filter(
      ({ doc, name }) => !Object.hasOwn(group, name) && /^\d/.test(defaultIn(doc) ?? "")
    )
    expect(numbers.map(({ name }) => name)).toEqual([])
  })
})

/** The times of a policy; what it has not is no time. */
const inMillis = (policy: Backoff.Policy) => {
  const millis = (time: Duration.Input | undefined) => Duration.toMillis(time ?? 0)
  return {
    initial: millis(policy.initial),
    cap: millis(policy.cap),
    first: millis(policy.first),
    resetAfter: millis(policy.resetAfter),
    atOnceAfter: millis(policy.atOnceAfter)
  }
}

describe("the backoff", () => {
  const { client, link } = { client: inMillis(Backoff.client), link: inMillis(Backoff.link) }
  const short = (millis: number) => timesOf(millis).find((text) => / m?s$/.test(text)) ?? "no time"

  it.each([
    "src/server/PgNotificationSource.ts",
    "src/server/internal/outbox/readerOptions.ts",
    "src/nats/internal/connectionOptions.ts"
  ])("of the link is said as it is in %s", (file) => {
    const { doc } = optionsOf(read(file)).find(({ name }) => name === "backoff")!
    expect(doc).toContain(
      `default \`Backoff.link\`: at once after ${short(link.atOnceAfter)} up, then full jitter, ${short(link.initial)} doubling to ${short(link.cap)}, for ever.`
    )
  })

  it("of the client is said as it is", () => {
    const { doc } = optionsOf(read("src/client/Connection.ts")).find(
      ({ name }) => name === "backoff"
    )!
    expect(doc).toContain(
      `default \`Backoff.client\`: full jitter, first retry within ${short(client.first)}, then ${short(client.initial)} doubling to ${short(client.cap)}, forgiven after ${short(client.resetAfter)} open, for ever.`
    )
  })

  it.each([
    [
      "client",
      `first retry within ${short(client.first)}, then ${short(client.initial)} doubling to ${short(client.cap)}, forgiven after ${short(client.resetAfter)} open.`
    ],
    [
      "link",
      `${short(link.initial)} doubling to ${short(link.cap)}, forgiven after ${short(link.resetAfter)} of health`
    ]
  ])("of the %s is said at its policy", (name, sentence) => {
    const text = read("src/Backoff.ts")
      .replaceAll(/\n\s*\*/g, " ")
      .replaceAll(/\s+/g, " ")
    const doc = text.slice(0, text.indexOf(`export const ${name}: Policy`))
    expect(doc.slice(doc.lastIndexOf("/**"))).toContain(sentence)
  })
})

describe("the tables of examples/operations/README.md", () => {
  interface Row {
    readonly what: string
    readonly names: ReadonlyArray<string>
    readonly defaults: string
  }
  const rows: ReadonlyArray<Row> = read("examples/operations/README.md")
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) => {
      const [, what = "", defaults = ""] = line.split("|").map((cell) => cell.trim())
      return { what, names: what.match(/\w+/g) ?? [], defaults }
    })

  it.each(
    Object.entries(nouns).flatMap(([noun, { file, group, guide }]) =>
      optionsOf(read(file))
        .filter(({ name }) => Object.hasOwn(group, name))
        .map(
          (option) => [noun, option.name, { option, guide, value: group[option.name]! }] as const
        )
    )
  )("say the default of %s, %s, where they have it", (noun, name, { guide, option, value }) => {
    const found = rows.filter(({ names, what }) =>
      guide === undefined
        ? !what.includes("(") && names.includes(name)
        : what.startsWith(`\`${guide}`) && names.includes(name)
    )
    // Every limit has a row, and no option has two.
    const least = noun === "limits" && name !== "trustProxy" ? 1 : 0
    expect(found.length, name).toBeGreaterThanOrEqual(least)
    expect(found.length, name).toBeLessThanOrEqual(1)
    const row = found[0]
    if (row === undefined || value === Infinity) return
    const wanted = wordsOf(option, value)
    const places = [...row.defaults.matchAll(/[`\d]/g)].map(({ index }) => index)
    expect(
      places.some(
        (at) => !/[\w.,]$/.test(row.defaults.slice(0, at)) && begins(row.defaults.slice(at), wanted)
      ),
      `the row of ${name} says "${row.defaults}", and the default is ${wanted.join(" or ")}`
    ).toBe(true)
  })
})

describe("the limits that are no options, in examples/operations/README.md", () => {
  const guide = read("examples/operations/README.md").split("## Limits that are no options")[1]!
  it.each([
    ["a publish on a live channel", "src/server/PgNotificationSource.ts", "notifyTimeout", "5 s"],
    ["a Stream of", "src/server/internal/hub/view.ts", "streamBacklog", "256 batches"],
    [
      "payload of a live channel",
      "src/server/internal/hub/live.ts",
      "maxNotifyBytes",
      "7,999 bytes"
    ],
    ["payload of a durable", "src/server/internal/sql/schema.ts", "maxPayloadBytes", "8 MiB"],
    ["addresses", "src/server/internal/door/admission.ts", "maxBuckets", "10,000"],
    ["unfinished queries", "src/server/QueryResults.ts", "lastWords", "2 s"],
    ["a token callback", "src/client/internal/connectionMachine.ts", "patience", "10 s"],
    ["a request of a client", "src/client/internal/requests.ts", "patience", "2 s"],
    ["a request of a client", "src/client/internal/connectionMachine.ts", "shortPatience", "2 s"],
    ["an attempt to connect", "src/client/internal/connectionMachine.ts", "offlineDelay", "30 s"],
    ["failures in a row", "src/client/internal/connectionMachine.ts", "maxStrikes", "2"],
    ["closes of a client", "src/client/internal/connectionMachine.ts", "maxRefusals", "3"]
  ])("say what the code says of %s", (row, file, name, words) => {
    const [, source = ""] = new RegExp(`const ${name}\\b.* = ([^\\n]+)`).exec(read(file)) ?? []
    const factors = source.replaceAll(/["_]/g, "").split(" * ")
    const number = factors.map((factor) => Number.parseInt(factor, 10)).reduce((a, b) => a * b)
    const unit = words.replace(/^[\d,]+ ?/, "")
    const millis = source.includes("second") ? number * 1000 : number
    const said =
      unit === "s" ? timesOf(millis) : unit === "MiB" ? sizesOf(number) : [grouped(number)]
    expect(begins(words, said), `${file}: ${name} is ${source}`).toBe(true)
    expect(guide).toMatch(new RegExp(`\\| ${row}[^|]* \\| ${words}`))
  })
})
