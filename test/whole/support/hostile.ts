/**
 * The messages of a hostile client: whole messages that an honest client never sends, and invalid
 * WebSocket bytes. The seed decides all of them.
 */
import type { Random } from "../../server/support/random.ts"

type Message = string | Buffer

const nasty: ReadonlyArray<unknown> = [
  null,
  true,
  -1,
  -0,
  0.5,
  1e308,
  2 ** 53,
  2 ** 53 - 1,
  "",
  " ",
  "\u0000",
  "\ud800",
  "__proto__",
  "constructor",
  "'; drop table users; --",
  `"`,
  "${7*7}",
  "../../etc/passwd",
  "x".repeat(64),
  "é".repeat(63),
  "\u202e",
  [],
  {},
  [[]],
  { toString: 1 },
  { length: -1 },
  { valueOf: 1 }
]

const types = [
  "hello",
  "subscribe",
  "unsubscribe",
  "publish",
  "authenticate",
  "pong",
  "welcome",
  "events",
  "ping",
  "bye",
  "error",
  "dance",
  "toString",
  "hasOwnProperty"
] as const

const keys = ["type", "id", "channel", "cursor", "key", "data", "token", "version", "client", "x"]

const texts = (random: Random, length: number): string =>
  Array.from({ length }, () => String.fromCharCode(random.int(0x300))).join("")

const bytes = (random: Random, length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => random.int(256)))

/** A random JSON value of limited depth. */
const value = (random: Random, depth: number): unknown => {
  const kind = random.int(depth > 0 ? 8 : 5)
  if (kind < 2) return random.pick(nasty)
  if (kind === 2) return random.int(1_000_000)
  if (kind === 3) return texts(random, random.int(20))
  if (kind === 4) return random.pick(channelNames)
  if (kind < 6) return Array.from({ length: random.int(5) }, () => value(random, depth - 1))
  return Object.fromEntries(
    Array.from({ length: random.int(6) }, () => [random.pick(keys), value(random, depth - 1)])
  )
}

const channelNames = [
  "witness",
  "moves",
  "pointers",
  "secret",
  "flood",
  "realtime",
  "nowhere",
  "room_",
  `room_${"x".repeat(58)}`,
  `room_${"x".repeat(59)}`,
  'room_"; listen evil; --',
  "ROOM_1",
  "stored",
  "ledger_",
  ...Array.from({ length: 10 }, (_, index) => `ledger_${index}`),
  ...Array.from({ length: 30 }, (_, index) => `room_${index}`)
]

/** A cursor of a server, unchanged or changed in one place. */
const forge = (random: Random, real: string): string => {
  const at = random.int(real.length + 1)
  return random.pick([
    () => real,
    () => real,
    () => real,
    () => real.slice(0, at),
    () => real.slice(0, at) + real.slice(at + 1),
    () => real.slice(0, at) + random.pick([..."AZaz09-_:. \u0000"]) + real.slice(at + 1),
    () => real.slice(0, at) + real.slice(random.int(real.length)),
    () => real + real,
    () => real + "A".repeat(random.int(9000)),
    () => real.replace(/:\d+$/, `:${random.int(100)}`),
    () => real.replace(/:\d+$/, ":9007199254740991"),
    // A position of this database with many open transactions.
    () => `${real.slice(0, 11)}${bytes(random, 3 * random.int(2000)).toString("base64url")}`
  ])()
}

/** The last cursor of a server on each channel. */
type Cursors = ReadonlyMap<string, string>

const cursors = (random: Random, real: Cursors, channel: string): string => {
  const given = random.chance(0.8) ? real.get(channel) : random.pick([...real.values()])
  return given !== undefined && random.chance(0.6) ? forge(random, given) : invented(random)
}

const invented = (random: Random): string =>
  random.pick([
    "",
    ":",
    "e:1",
    `${texts(random, 8)}:${random.int(100)}`,
    `AAAAAAAA:${random.int(1000)}`,
    "AAAAAAAA:9007199254740991",
    "AAAAAAAA:99999999999999999",
    `2.AAAAAAAA.${bytes(random, random.int(60)).toString("base64url")}`,
    `2.AAAAAAAA.${"A".repeat(random.int(9000))}`,
    "x".repeat(random.int(20_000))
  ])

/** A frame that is valid, or invalid in one field. */
const nearly = (random: Random, real: Cursors): object => {
  // Some while another request with the same id is unanswered.
  const id = random.int(random.chance(0.3) ? 200 : 1_000_000)
  const channel = random.pick(channelNames)
  const frame: Record<string, unknown> = random.pick([
    () => ({ type: "subscribe", id, channel, cursor: cursors(random, real, channel) }),
    () => ({ type: "subscribe", id, channel, cursor: cursors(random, real, channel) }),
    () => ({ type: "subscribe", id, channel }),
    // Often enough that some subscribes are below the limit.
    () => ({ type: "unsubscribe", id, channel }),
    () => ({ type: "unsubscribe", id, channel }),
    () => ({ type: "unsubscribe", id, channel }),
    () => ({ type: "publish", id, channel, key: `${random.int(50)}`, data: value(random, 3) }),
    () => ({ type: "publish", id, channel: "pointers", data: { x: value(random, 3) } }),
    () => ({ type: "authenticate", id, token: texts(random, random.int(100)) }),
    () => ({ type: random.pick(types), id, channel })
  ])()
  if (random.chance(0.6)) frame[random.pick(keys)] = value(random, 2)
  if (random.chance(0.1)) delete frame[random.pick(keys)]
  // A second hello closes the session, so it is rare.
  if (frame["type"] === "hello" && random.chance(0.9)) frame["type"] = "hell"
  return frame
}

const deep = (random: Random): string => {
  const levels = random.pick([60, 63, 64, 65, 100, 1000, 15_000, 30_000])
  const [open, close] = random.pick([
    ["[", "]"],
    ['{"a":', "}"]
  ] as const)
  // 30,000 nested objects already exceed the frame limit.
  const count = Math.min(levels, Math.floor(64_000 / (open.length + close.length)))
  const data = `${open.repeat(count)}1${close.repeat(count)}`
  return random.chance(0.5)
    ? data
    : `{"type":"publish","id":1,"channel":"room_1","key":"k","data":${data}}`
}

const numbers = (random: Random): string => {
  const written = random.pick([
    "1e999",
    "-1e999",
    "9".repeat(400),
    "9007199254740993",
    "-0",
    "1.0000000000000001",
    "1e-400",
    "0x10",
    "NaN",
    "Infinity",
    "01"
  ])
  return random.pick([
    `{"type":"subscribe","id":${written},"channel":"room_1"}`,
    `{"type":"publish","id":7,"channel":"moves","key":"k","data":{"x":${written}}}`,
    `{"type":"hell","version":${written}}`
  ])
}

const twice = (random: Random): string =>
  random.pick([
    `{"type":"pong","type":"subscribe","id":1,"id":2,"channel":"a","channel":"room_2"}`,
    `{"type":"subscribe","id":3,"channel":"room_3"}\n{"type":"subscribe","id":4,"channel":"room_4"}`,
    `{"type":"pong"}{"type":"pong"}`,
    `[{"type":"pong"},{"type":"pong"}]`,
    `{"type":"pong"`,
    `"pong"`,
    "null",
    ""
  ])

const prototypes = (random: Random): string => {
  const key = random.pick(["__proto__", "constructor", "prototype", "\\u005f_proto__"])
  return random.pick([
    `{"type":"publish","id":5,"channel":"room_1","key":"k","data":{"${key}":{"admin":true}}}`,
    `{"${key}":{"type":"hello"},"id":6}`,
    `{"type":"publish","id":5,"channel":"room_1","key":"k","data":[[[{"a":{"${key}":1}}]]]}`,
    `{"type":"${key}","id":8}`
  ])
}

/** Many small values that are expensive to parse. */
const bulky = (random: Random): string =>
  random.pick([
    () => `[${"{},".repeat(15_000)}{}]`,
    () => `{${Array.from({ length: 4000 }, (_, index) => `"k${index}":${index}`).join(",")}}`,
    () =>
      JSON.stringify({
        type: "publish",
        id: 9,
        channel: "room_1",
        key: `bulk${random.int(1e6)}`,
        data: "x".repeat(60_000)
      }),
    () => `"${"\\u0000".repeat(10_000)}"`
  ])()

type Make = (random: Random, real: Cursors) => Message

const kinds: ReadonlyArray<readonly [number, Make]> = [
  [40, (random, real) => JSON.stringify(nearly(random, real))],
  [15, (random) => JSON.stringify(value(random, 4)) ?? "undefined"],
  [8, (random) => texts(random, random.int(200))],
  [8, (random) => bytes(random, random.int(200))],
  [8, prototypes],
  [6, numbers],
  [6, twice],
  [2, deep],
  [1, bulky],
  [0.02, () => `{"type":"hello","version":1}`],
  [0.02, () => "x".repeat(70_000)]
]
const total = kinds.reduce((sum, [weight]) => sum + weight, 0)

/** One whole message. A Buffer is a binary message. `real` holds the server's cursors. */
export const message: Make = (random, real) => {
  let at = random.next() * total
  for (const [weight, make] of kinds) {
    if ((at -= weight) < 0) return make(random, real)
  }
  return ""
}

/** The first bytes of a socket. */
export const handshake = (path: string): string =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`

interface Shape {
  readonly opcode?: number
  readonly final?: boolean
  readonly masked?: boolean
  readonly reserved?: number
  /** The length field, if it differs from the payload's length. */
  readonly says?: number | bigint
}

/** A WebSocket frame with the given faults. */
export const wireFrame = (
  payload: Buffer,
  { final = true, masked = true, opcode = 1, reserved = 0, says }: Shape = {}
): Buffer => {
  const size = BigInt(says ?? payload.length)
  const head = [(final ? 0x80 : 0) | reserved | opcode]
  const mask = masked ? 0x80 : 0
  const long = Buffer.alloc(8)
  long.writeBigUInt64BE(size)
  if (size < 126n) head.push(mask | Number(size))
  else if (size < 65_536n) head.push(mask | 126, ...long.subarray(6))
  else head.push(mask | 127, ...long)
  return Buffer.concat([Buffer.from(head), masked ? Buffer.alloc(4) : Buffer.alloc(0), payload])
}

const hello = wireFrame(Buffer.from('{"type":"hello","version":1}'))

/** Valid frames in the wrong order, without a hello. */
const disorder = (random: Random): Buffer =>
  wireFrame(
    Buffer.from(
      JSON.stringify(
        random.pick<object>([
          { type: "pong" },
          { type: "subscribe", id: 1, channel: "room_1" },
          { type: "publish", id: 1, channel: "room_1", key: "k", data: 1 },
          { type: "authenticate", id: 1, token: "t" },
          { type: "welcome", version: 1 },
          { type: "hello" }
        ])
      )
    )
  )

interface Garbage {
  readonly bytes: Buffer
  /** The number of messages. */
  readonly messages: number
}

/** Every kind of invalid WebSocket data, after a valid beginning or without one. */
export const garbage = (random: Random): ReadonlyArray<() => Garbage> => {
  const text = (size: number) => Buffer.from("x".repeat(size))
  const many = (count: number, frame: Buffer) => ({
    bytes: Buffer.concat([hello, ...Array.from({ length: count }, () => frame)]),
    messages: count + 1
  })
  const one = (frame: Buffer) => many(1, frame)
  return [
    () => ({ bytes: bytes(random, 1 + random.int(300)), messages: 1 }),
    () => one(bytes(random, 1 + random.int(300))),
    // Invalid UTF-8, whole and in pieces.
    () => one(wireFrame(Buffer.from([0xc3, 0x28, 0xff, 0xfe]))),
    () =>
      one(
        Buffer.concat([
          wireFrame(Buffer.from([0xe2]), { final: false }),
          wireFrame(Buffer.from([0x28]), { opcode: 0 })
        ])
      ),
    // Fragments: valid, without a beginning, without an end, empty, too many.
    () =>
      one(
        Buffer.concat([
          wireFrame(Buffer.from('{"type":'), { final: false }),
          wireFrame(Buffer.from('"pong"}'), { opcode: 0 })
        ])
      ),
    () => one(wireFrame(text(5), { opcode: 0 })),
    () => one(Buffer.concat([wireFrame(text(5), { final: false }), wireFrame(text(5))])),
    () => many(300, wireFrame(Buffer.alloc(0), { opcode: 0, final: false })),
    () => ({
      bytes: Buffer.concat([
        hello,
        wireFrame(text(1), { final: false }),
        ...Array.from({ length: 1100 }, () => wireFrame(text(1), { opcode: 0, final: false }))
      ]),
      messages: 1100
    }),
    // Wrong lengths.
    () => one(wireFrame(text(10), { says: 65_537 })),
    () => one(wireFrame(text(10), { says: 2n ** 63n - 1n })),
    () => one(wireFrame(text(10), { says: 2n ** 53n })),
    () => one(wireFrame(text(10), { says: 11 })),
    () => one(wireFrame(text(65_537))),
    // Forbidden by the protocol.
    () => one(wireFrame(text(5), { masked: false })),
    () => one(wireFrame(text(5), { reserved: random.pick([0x40, 0x20, 0x10]) })),
    () => one(wireFrame(text(5), { opcode: random.pick([3, 7, 11, 15]) })),
    () => one(wireFrame(text(200), { opcode: 9 })),
    () => one(wireFrame(text(5), { opcode: 9, final: false })),
    // Close frames of all kinds.
    () => one(wireFrame(Buffer.alloc(0), { opcode: 8 })),
    () => one(wireFrame(Buffer.from([3]), { opcode: 8 })),
    () => one(wireFrame(Buffer.from([0, 1, 2]), { opcode: 8 })),
    () => one(wireFrame(Buffer.from([0x0f, 0xa0, 0xff]), { opcode: 8 })),
    // Unsolicited pings and pongs.
    () => many(200, wireFrame(text(random.int(125)), { opcode: 9 })),
    () => many(200, wireFrame(text(random.int(125)), { opcode: 10 })),
    // No data, a late hello, and a second hello.
    () => ({ bytes: Buffer.alloc(0), messages: 1 }),
    () => ({ bytes: Buffer.concat([disorder(random), hello]), messages: 2 }),
    () => ({ bytes: wireFrame(Buffer.from('{"type":"hello","version":2}')), messages: 1 }),
    () => one(hello)
  ]
}

/** The server's answer after its handshake: its texts, and the code of its close frame. */
export const readBack = (
  received: Buffer
): { readonly texts: ReadonlyArray<string>; readonly code: number | undefined } => {
  const texts: Array<string> = []
  let at = received.indexOf("\r\n\r\n") + 4
  if (at < 4 || !received.toString("latin1", 0, 12).startsWith("HTTP/1.1 101")) {
    return { texts, code: undefined }
  }
  while (at + 2 <= received.length) {
    const opcode = received[at]! & 0x0f
    const short = received[at + 1]!
    const [size, start] =
      short === 127
        ? [Number(received.readBigUInt64BE(at + 2)), at + 10]
        : short === 126
          ? [received.readUInt16BE(at + 2), at + 4]
          : [short, at + 2]
    // The rest is missing.
    if (start + size > received.length) break
    if (opcode === 8) return { texts, code: size < 2 ? 1005 : received.readUInt16BE(start) }
    if (opcode === 1) texts.push(received.toString("utf8", start, start + size))
    at = start + size
  }
  return { texts, code: undefined }
}
