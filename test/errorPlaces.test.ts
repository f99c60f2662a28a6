/**
 * Where the compiler reports a wrong use of the clients and the hooks: at the argument or the option that
 * is wrong. Compiles all uses in one program, with the types that the package has.
 */
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterAll, beforeAll, describe, expect, it } from "vitest"

const root = Path.resolve(fileURLToPath(import.meta.url), "../..")

/** The guillemets stand around what the compiler must report; the text is what it says there. */
type Use = readonly [what: string, use: string, says: RegExp]

const wrong: ReadonlyArray<Use> = [
  // useChannel: a reducer with types of its own decides what the value is
  [
    "a wrong `initial`",
    `useChannel(Orders, { «initial»: "none", reduce: add })`,
    /^Type 'string' is not assignable to type 'List \| Snapshot<List>'/
  ],
  [
    "a wrong `initial` beside a right `load`",
    `useChannel(Orders, { «initial»: {}, load: fetchList, reduce: add })`,
    /^Type '{}' is not assignable to type 'List \| Snapshot<List>'/
  ],
  [
    "a wrong `initial` with a reducer of this place",
    `useChannel(Orders, { «initial»: 0, load: fetchList, reduce: (list, { n }) => [...list, n] })`,
    /^Type 'number' is not assignable to type 'List \| Snapshot<List>'/
  ],
  [
    "a Snapshot of another value as `initial`",
    `useChannel(Orders, { «initial»: textSnapshot, reduce: add })`,
    /^Type 'Snapshot<string>' is not assignable to type 'List \| Snapshot<List>'/
  ],
  [
    "a wrong `load`",
    `useChannel(Orders, { initial: [], «load»: fetchText, reduce: add })`,
    /^Type '\(\) => Promise<string>' is not assignable to type 'Load<List>'/
  ],
  [
    "a `reduce` of another payload",
    `useChannel(Orders, { initial: [] as List, «reduce»: (list: List, text: string) => list })`,
    /^Type '\(list: List, text: string\) => List' is not assignable/
  ],
  [
    "a `reduce` that returns another value",
    `useChannel(Orders, { initial: [] as List, load: fetchList, reduce: (list, { n }) => «n» })`,
    /^Type 'number' is not assignable to type 'List'/
  ],
  [
    "a property that the payload does not have",
    `useChannel(Orders, { initial: [] as List, reduce: (list, { «id» }) => list })`,
    /^Property 'id' does not exist on type/
  ],
  [
    "an option that does not exist",
    `useChannel(Orders, { initial: [] as List, reduce: add, «onGaps»: () => {} })`,
    /'onGaps' does not exist/
  ],
  [
    "a handler of gaps for another value",
    `useChannel(Orders, { initial: [] as List, reduce: add, «onGap»: (gap: string) => gap })`,
    /^Type '\(gap: string\) => string' is not assignable to type '\(gap: Gap\) => void'/
  ],
  [
    "a number as a channel",
    `useChannel(«7», { initial: [] as List, reduce: add })`,
    /^Argument of type 'number' is not assignable to parameter of type 'string \| Any'/
  ],
  [
    "a family that was not called",
    `useChannel(«Rooms», { initial: 0, reduce: (count) => count + 1 })`,
    /^Argument of type 'Family<.*' is not assignable to parameter of type 'string \| Any'/
  ],
  [
    "a payload type for a name",
    `useChannel("orders", { initial: [] as List, «reduce»: add })`,
    /^Type '\(list: List, order: Order\) => List' is not assignable/
  ],

  [
    "a `reduce` with a body that returns another value",
    `useChannel(Orders, { initial: [] as List, «reduce»: (list, { n }) => { return n } })`,
    /^Type '\(list: List, { n }: Order\) => number' is not assignable/
  ],
  [
    "a `reduce` that is async",
    `useChannel(Orders, { initial: [] as List, reduce: async (list, { n }) => «[...list, n]» })`,
    /^Type 'Promise<number\[]>' is not assignable to type 'List'/
  ],
  [
    "an `initial` of undefined",
    `useChannel(Orders, { «initial»: undefined, load: fetchList, reduce: add })`,
    /^Type 'undefined' is not assignable to type 'List \| Snapshot<List>'/
  ],
  [
    "options without `initial`",
    `useChannel(Orders, «{ load: fetchList, reduce: add }»)`,
    /^Property 'initial' is missing/
  ],
  [
    "options without `reduce`",
    `useChannel(Orders, «{ initial: [] as List }»)`,
    /^Property 'reduce' is missing/
  ],

  // useLatest and usePublish
  [
    "an option of useLatest that does not exist",
    `useLatest(Orders, { «initial»: 0 })`,
    /'initial' does not exist in type 'LatestOptions'/
  ],
  ["a family given to useLatest", `useLatest(«Rooms»)`, /^Argument of type 'Family<.*'/],
  [
    "a channel that clients may not publish to",
    `usePublish(«Orders»)`,
    /^Argument of type 'Channel<.*' is not assignable to parameter of type/
  ],
  [
    "a payload of another channel",
    `usePublish(Rooms("a"))({ «txt»: "hello" })`,
    /'txt' does not exist in type '{ readonly text: string; }'/
  ],

  // useWebSocket
  [
    "a handler of another payload",
    `useWebSocket(Orders, «(text: string) => text»)`,
    /^Argument of type '\(text: string\) => string' is not assignable to parameter of type 'Handler</
  ],
  [
    "a handler of single events in the place of one of batches",
    `useWebSocket(Orders, undefined, { «onBatch»: (order: Order) => order.n })`,
    /^Type '\(order: Order\) => number' is not assignable to type 'BatchHandler</
  ],
  [
    "an option of useWebSocket that does not exist",
    `useWebSocket(Orders, () => {}, { «onEvents»: () => {} })`,
    /'onEvents' does not exist in type 'WebSocketOptions</
  ],
  [
    "a wrong option of useWebSocket",
    `useWebSocket(Orders, () => {}, { «enabled»: "yes" })`,
    /^Type 'string' is not assignable to type 'boolean \| undefined'/
  ],
  [
    "a payload of another channel to sendNotification",
    `useWebSocket(Rooms("a"), () => {}).sendNotification({ «text»: 1 })`,
    /^Type 'number' is not assignable to type 'string'/
  ],
  [
    "sendNotification of a channel that clients may not publish to",
    `useWebSocket(Orders, () => {}).«sendNotification»({ n: 1 })`,
    /^This expression is not callable/
  ],
  ["no channel", `useWebSocket(«undefined», () => {})`, /^Argument of type 'undefined'/],

  // the plain client and Collector
  [
    "a handler of another payload to listen",
    `client.listen(Orders, «(text: string) => text»)`,
    /^Argument of type '\(text: string\) => string' is not assignable to parameter of type 'Handler</
  ],
  [
    "a wrong option of listen",
    `client.listen(Orders, () => {}, { «from»: 7 })`,
    /^Type 'number' is not assignable to type 'string'/
  ],
  [
    "a wrong payload to publish",
    `client.publish(Rooms("a"), { «text»: 1 })`,
    /^Type 'number' is not assignable to type 'string'/
  ],
  [
    "publish to a channel that clients may not publish to",
    `client.publish(«Orders», { n: 1 })`,
    /^Argument of type 'Channel<.*' is not assignable to parameter of type/
  ],
  [
    "a key that is a number",
    `client.publish("room", "hello", { «key»: 1 })`,
    /^Type 'number' is not assignable to type 'string'/
  ],
  [
    "a wrong `initial` of a Collector",
    `Collector.make(client, Orders, { «initial»: "none", reduce: add })`,
    /^Type 'string' is not assignable to type 'List \| Snapshot<List>'/
  ],
  [
    "a wrong `load` of a Collector",
    `Collector.make(client, Orders, { initial: [], «load»: fetchText, reduce: add })`,
    /^Type '\(\) => Promise<string>' is not assignable to type 'Load<List>'/
  ],
  [
    "a wrong option of Collector.latest",
    `Collector.latest(client, Orders, { «onGap»: 1 })`,
    /^Type 'number' is not assignable to type '\(gap: Gap\) => void'/
  ],

  [
    "a wrong `initial` in a function that gives the options",
    `Collector.make(client, Orders, «() => ({ initial: "none", reduce: add })»)`,
    /^Argument of type '\(\) => { initial: string;/
  ],

  // the client of an Effect application
  [
    "a wrong `initial` of state",
    `effects.state(Orders, { «initial»: "none", reduce: add })`,
    /^Type 'string' is not assignable to type 'List \| Snapshot<List>'/
  ],
  [
    "a `reduce` of another payload to state",
    `effects.state(Orders, { initial: [] as List, «reduce»: (list: List, text: string) => list })`,
    /^Type '\(list: List, text: string\) => List' is not assignable/
  ],
  [
    "a wrong `load` of state",
    `effects.state(Orders, { initial: [] as List, «load»: Effect.succeed("none"), reduce: add })`,
    /^Type 'Effect<string, never, never>' is not assignable to type 'Effect<List \| Snapshot<List>,/
  ],
  [
    "a `load` of state that is a promise",
    `effects.state(Orders, { initial: [] as List, «load»: fetchList(), reduce: add })`,
    /^Type 'Promise<List>' is missing the following properties from type 'Effect</
  ],
  [
    "a name as the channel of state",
    `effects.state(«"orders"», { initial: [] as List, reduce: add })`,
    /^Argument of type 'string' is not assignable to parameter of type 'Channel</
  ]
]

/** What compiles, with the type that it must have. */
const right: ReadonlyArray<readonly [use: string, type: string]> = [
  [`useChannel(Orders, { initial: [], load: fetchList, reduce: add })`, `Collected<List>`],
  [`useChannel(Orders, { initial: [], reduce: add })`, `Collected<List>`],
  [
    `useChannel(Orders, { initial: [] as List, reduce: (list, { n }) => [...list, n] })`,
    `Collected<List>`
  ],
  [
    `useChannel(Orders, { initial: listSnapshot, reduce: (list, { n }) => [...list, n] })`,
    `Collected<List>`
  ],
  [`useChannel(Orders, { initial: 0, reduce: (sum, { n }) => sum + n })`, `Collected<number>`],
  [
    `useChannel("orders", { initial: 0, reduce: (count, _: unknown) => count + 1 })`,
    `Collected<number>`
  ],
  [
    `useChannel(either, { initial: [] as ReadonlyArray<unknown>, reduce: (all, one) => [...all, one] })`,
    `Collected<ReadonlyArray<unknown>>`
  ],
  [
    `useChannel(Orders, { initial: [], load: fetchList, reduce: (list, { n }) => [...list, n] })`,
    `Collected<List>`
  ],
  [
    `useChannel(Orders, { initial: [], load: async () => [1], reduce: (list, { n }) => [...list, n] })`,
    `Collected<Array<number>>`
  ],
  [
    `useChannel(Orders, { initial: [], load: async () => listSnapshot, reduce: (list, { n }) => [...list, n] })`,
    `Collected<List>`
  ],
  [
    `useChannel(Orders, { initial: undefined as Order | undefined, reduce: (_, order) => order })`,
    `Collected<Order | undefined>`
  ],
  [
    `useChannel(Orders, { initial: null, load: fetchList, reduce: (list: List | null, { n }) => [...list ?? [], n] })`,
    `Collected<List | null>`
  ],
  [`useLatest(Orders)`, `Collected<Order | undefined>`],
  [`useLatest("orders")`, `Collected<unknown>`],
  [
    `useWebSocket(Rooms("a"), ({ text }) => text.length).sendNotification`,
    `Send<{ readonly text: string }>`
  ],
  [`useWebSocket("orders", (payload) => String(payload)).sendNotification`, `Send<unknown>`],
  [
    `useWebSocket(Orders, undefined, { onBatch: (orders) => orders[0].n.toFixed() }).sendNotification`,
    `ReadOnly`
  ],
  [`usePublish(Rooms("a"))`, `Send<{ readonly text: string }>`],
  [`usePublish("rooms")`, `Send<unknown>`],
  [`client.listen(Orders, ({ n }, { at }) => n + at.getTime())`, `() => void`],
  [`client.last(Orders)`, `RealtimeEvent.Event<Order> | undefined`],
  [`client.last("orders")`, `RealtimeEvent.Event<unknown> | undefined`],
  [
    `Collector.make(client, Orders, () => ({ initial: [], reduce: add }))`,
    `Collector.Collector<List>`
  ],
  [`Collector.latest(client, Orders)`, `Collector.Collector<Order | undefined>`],
  [`inGeneral(Orders)`, `Collected<{ readonly last: Order | undefined }>`]
]

const preamble = `
import { Channel, type RealtimeEvent } from "${root}/src/index.ts"
import { Collector, type PlainClient, type RealtimeClient } from "${root}/src/client/index.ts"
import { type ReadOnly, type Send, useChannel, useLatest, usePublish, useWebSocket } from "${root}/src/react/index.ts"
import * as Effect from "${root}/node_modules/effect/dist/Effect.js"
import * as Schema from "${root}/node_modules/effect/dist/Schema.js"

interface Order { readonly n: number }
type List = ReadonlyArray<number>
type Collected<S> = Collector.Collected<S>
type Same<A, B> =
  (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : { readonly is: A; readonly must: B }

const Orders: Channel.Channel<Order, false> = Channel.make("orders", Schema.Struct({ n: Schema.Finite }))
const Rooms = Channel.family("room_", Schema.String, Schema.Struct({ text: Schema.String }), { publish: true })
declare const either: typeof Orders | string
declare const client: PlainClient.PlainClient
declare const effects: RealtimeClient.RealtimeClient["Service"]
declare const listSnapshot: RealtimeEvent.Snapshot<List>
declare const textSnapshot: RealtimeEvent.Snapshot<string>
declare const add: (list: List, order: Order) => List
declare const fetchList: () => Promise<List>
declare const fetchText: () => Promise<string>
const inGeneral = <A,>(channel: Channel.Channel<A>) =>
  useChannel(channel, {
    initial: { last: undefined } as { readonly last: A | undefined },
    reduce: (_, last) => ({ last })
  })
`

interface Reported {
  readonly line: number
  readonly column: number
  readonly message: string
}

const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "error-places-"))
afterAll(() => Fs.rmSync(directory, { recursive: true }))

/** The line of the first use. */
const first = preamble.split("\n").length
const uses = [
  ...wrong.map(
    ([, use], index) => `export const wrong${index} = () => ${use.replace(/[«»]/g, "")}`
  ),
  ...right.map(
    ([use, type], index) =>
      `export const right${index} = () => { const is = ${use}; const same: Same<typeof is, ${type}> = true; return same }`
  )
]

const reported: Array<Reported> = []
/** What the compiler reports of a use. */
const of = (index: number) => reported.filter(({ line }) => line === first + index)

beforeAll(async () => {
  Fs.writeFileSync(Path.join(directory, "uses.mts"), preamble + uses.join("\n"))
  Fs.writeFileSync(
    Path.join(directory, "tsconfig.json"),
    JSON.stringify({
      extends: Path.join(root, "tsconfig.json"),
      include: ["uses.mts"],
      compilerOptions: {
        allowImportingTsExtensions: true,
        rewriteRelativeImportExtensions: false,
        noUnusedParameters: false,
        noErrorTruncation: true,
        types: []
      }
    })
  )
  const text = await promisify(execFile)(
    Path.join(root, "node_modules/.bin/tsc"),
    ["-p", directory, "--pretty", "false"],
    { cwd: directory }
  ).then(
    ({ stdout }) => stdout,
    ({ stdout }: { readonly stdout: string }) => stdout
  )
  for (const found of text.matchAll(/^(\S+)\((\d+),(\d+)\): error TS\d+: (.*)$/gm)) {
    const [, path, line, column, message] = found
    // What is reported elsewhere is at no line of a use.
    reported.push({
      line: path === "uses.mts" ? Number(line) : 0,
      column: Number(column),
      message: message!
    })
  }
})

describe("the compiler", () => {
  it.each(wrong.map(([what, use, says], index) => ({ what, use, says, index })))(
    "reports $what at its place",
    ({ index, says, use }) => {
      const start = `export const wrong${index} = () => `.length
      expect(of(index)).toEqual([
        {
          line: first + index,
          column: start + use.indexOf("«") + 1,
          message: expect.stringMatching(says)
        }
      ])
    }
  )

  it.each(right.map(([use, type], index) => ({ use, type, index })))(
    "finds the type $type of $use",
    ({ index }) => expect(of(wrong.length + index)).toEqual([])
  )

  it("reports nothing beside these uses", () => {
    expect(reported.filter(({ line }) => line < first)).toEqual([])
    expect(reported.length).toBe(wrong.length)
  })
})
