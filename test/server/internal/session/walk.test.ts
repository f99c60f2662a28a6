/**
 * The path of a publish and of a live event through the server, read from the stack wherever the
 * server calls out: to the application, the source, the socket.
 *
 * No module is entered twice: each calls the modules below it, and none calls back. A function
 * without a name is a part of an effect that resumes: its module is listed alone, and is not
 * entered by it. A change of a list is no fault by itself; it shows what the hot path costs.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import * as Channel from "../../../../src/Channel.ts"
import { NotificationSource } from "../../../../src/server/NotificationSource.ts"
import * as Realtime from "../../../../src/server/Realtime.ts"
import type { AnonymousOptions } from "../../../../src/server/ServerOptions.ts"
import { layerDoor, settle, visit } from "../../../support/sessions.ts"

/** One entry of a stack: `module` alone for a function without a name. */
interface Place {
  readonly module: string
  readonly name: string
}

const here =
  /^at (?:(?:new )?(\S+) (?:\[as \w+\] )?\()?(?:file:\/\/)?\/.*?\/src\/server\/([^:]+)\.ts:/

/** These start a fiber, which is on the path of everything it runs. */
const isFork = ({ module, name }: Place) =>
  (module === "door" && name.endsWith("run")) || name === "Port.fork"

/** The functions of the server on the stack, the outermost first. */
const places = (): ReadonlyArray<Place> => {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 500
  const lines = new Error("here").stack!.split("\n")
  Error.stackTraceLimit = stackTraceLimit
  const all = lines.flatMap((line): ReadonlyArray<Place> => {
    const found = here.exec(line.trim())
    if (found === null) return []
    const [, called = "", path] = found
    const module = path!.split("/").at(-1)!
    return [{ module, name: called.replace("Object.", "").replace(/^.*<anonymous>$/, "") }]
  })
  return all.filter((place) => !isFork(place)).toReversed()
}

const text = ({ module, name }: Place) => (name === "" ? module : `${module} ${name}`)

/** Modules that are entered again after they were left. */
const enteredTwice = (way: ReadonlyArray<Place>): ReadonlyArray<string> => {
  const entered = way
    .filter(({ name }) => name !== "")
    .map(({ module }) => module)
    .filter((module, index, all) => module !== all[index - 1])
  return entered.filter((module, index) => entered.indexOf(module) < index)
}

/** Records the path to each place where the server calls out, as a span with a name. */
const walk = () => {
  const spans: Array<readonly [span: string, way: ReadonlyArray<Place>]> = []
  return {
    pass: (span: string) => void spans.push([span, places()]),
    begin: () => void spans.splice(0),
    /** The names of all spans. */
    get spans() {
      return spans.map(([span]) => span)
    },
    /** The path to the first span with a name. */
    to: (name: string) => spans.find(([span]) => span === name)?.[1].map(text),
    get twice() {
      return spans.flatMap(([, way]) => enteredTwice(way))
    }
  }
}

/** A door with one channel that records the path, and a subscriber to it. */
const walked = <A, E>(
  body: (
    way: ReturnType<typeof walk>,
    moves: Channel.Channel<number>,
    visitor: Effect.Success<ReturnType<typeof visit>>
  ) => Effect.Effect<A, E, Realtime.Realtime>,
  more?: Partial<AnonymousOptions>
) => {
  const way = walk()
  const Moves = Channel.make(
    "moves",
    Schema.Int.check(
      Schema.makeFilter(() => {
        way.pass("checks the payload")
        return true
      })
    ),
    { publish: true }
  )
  const source = Layer.effect(
    NotificationSource,
    Effect.map(NotificationSource, (source) => ({
      ...source,
      notify: (channel: string, payload: string) =>
        Effect.suspend(() => {
          way.pass("sends it to the source")
          return source.notify(channel, payload)
        })
    }))
  )
  const door = layerDoor(
    {
      channels: [Moves],
      authorize: () =>
        Effect.sync(() => {
          way.pass("asks authorize")
          return true
        }),
      ...more
    },
    undefined,
    source
  )
  return Effect.gen(function* () {
    const visitor = yield* visit()
    const { close, write } = visitor
    visitor.close = (code, reason) => {
      way.pass("closes")
      close.call(visitor, code, reason)
    }
    visitor.write = (message) => {
      way.pass(`writes ${(JSON.parse(message.text) as { type: string }).type}`)
      return write.call(visitor, message)
    }
    visitor.send({ type: "subscribe", id: 1, channel: "moves" })
    yield* settle
    way.begin()
    return yield* body(way, Moves, visitor)
  }).pipe(Effect.scoped, Effect.provide(door))
}

const toTheRequest = [
  "session Session.receive",
  "session Session.#take",
  "session Session.#handle",
  "requests Requests.push",
  "requestOrder Order.enqueue"
]

describe("A client's publish", () => {
  it.effect("a publish is decoded once and encoded once, and enters no module twice", () =>
    walked((way, _, visitor) =>
      Effect.sync(() => {
        visitor.send({ type: "publish", id: 2, channel: "moves", key: "k", data: 7 })
        expect(visitor.answer(2)).toEqual({ type: "published", id: 2 })
        expect(way.spans).toEqual([
          "asks authorize",
          "checks the payload",
          "checks the payload",
          "sends it to the source",
          "writes published"
        ])
        expect(way.to("asks authorize")).toEqual(toTheRequest)
        expect(way.to("checks the payload")).toEqual([
          ...toTheRequest,
          "requestOrder",
          "publishing",
          "publishing readPublish",
          "publishing readSent",
          "publishing payloadOf"
        ])
        expect(way.to("sends it to the source")).toEqual([
          ...toTheRequest,
          "requestOrder",
          "publishing"
        ])
        expect(way.to("writes published")).toEqual([
          ...toTheRequest,
          "requestOrder",
          "requests",
          "port Port.answer",
          "port Port.send",
          "mailbox Mailbox.control"
        ])
        expect(way.twice).toEqual([])
      })
    )
  )
})

describe("A live event", () => {
  it.effect("a live event goes from its turn to the socket and enters no module twice", () =>
    walked((way, moves, visitor) =>
      Effect.gen(function* () {
        yield* Realtime.publish(moves, 7)
        way.begin()
        yield* settle
        expect(visitor.of("events")).toHaveLength(1)
        expect(way.spans).toEqual(["checks the payload", "checks the payload", "writes events"])
        const toTheView = [
          "pump",
          "liveChannel LiveChannel.deliver",
          "liveChannel LiveChannel.#hand",
          "liveChannel LiveChannel.#batches"
        ]
        expect(way.to("checks the payload")).toEqual([
          ...toTheView,
          "view View.decode",
          "reading read"
        ])
        expect(way.to("writes events")).toEqual([
          ...toTheView,
          "view View.hand",
          "subscriber Subscriber.offer",
          "mailbox Mailbox.offer"
        ])
        expect(way.twice).toEqual([])
      })
    )
  )

  it.effect("a batch dropped by a full socket goes to the subscriber, then to the port", () =>
    walked(
      (way, moves, visitor) =>
        Effect.gen(function* () {
          visitor.reading = false
          for (let n = 0; n < 50; n++) yield* Realtime.publish(moves, n)
          yield* settle
          for (let n = 0; n < 50; n++) yield* Realtime.publish(moves, n)
          way.begin()
          yield* settle
          expect(way.spans).toContain("closes")
          expect(way.to("closes")!.slice(-4)).toEqual([
            "subscriber Subscriber.#keeps",
            "port Port.dropped",
            "port Port.close",
            "port Port.closeWith"
          ])
          expect(way.twice).toEqual([])
        }),
      { slowConsumer: "disconnect", limits: { maxMailboxBytes: 1000 } }
    )
  )
})

describe("The walk itself", () => {
  it("the walk finds a module entered again, and ignores functions without a name", () => {
    const way = [
      { module: "session", name: "Session.receive" },
      { module: "requests", name: "Requests.push" },
      { module: "requests", name: "Requests.answer" },
      { module: "requestOrder", name: "" },
      { module: "requests", name: "" },
      { module: "session", name: "Session.send" }
    ]
    expect(enteredTwice(way)).toEqual(["session"])
    expect(enteredTwice(way.slice(0, -1))).toEqual([])
  })
})
