/** Runs the adapters for Vue and Svelte against a real server on a real database. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Schema from "effect/Schema"
import { Channel } from "effect-realtime"
import { type Collector, createRealtimeClient, type PlainClient } from "effect-realtime/client"
import { RealtimeServer } from "effect-realtime/node"
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { createRenderer, createSSRApp, defineComponent, h, nextTick, shallowRef } from "vue"
import { renderToString } from "vue/server-renderer"
import { get } from "svelte/store"
import { channelStore } from "../../examples/svelte/channelStore.ts"
import { clientKey, useChannel } from "../../examples/vue/useChannel.ts"
import * as Database from "../support/database.ts"
import { until } from "../support/until.ts"

const Room = Channel.family("room_", Schema.String, Schema.Finite)
const sum = { initial: 0, reduce: (total: number, n: number) => total + n }

/** A server, and a store of it that counts its listeners. */
const page = Effect.gen(function* () {
  const { url } = yield* Database.database
  const http = createServer()
  const server = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const server = new RealtimeServer(http, url, { channels: [Room], authorize: () => true })
      await server.ready
      await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve))
      return server
    }),
    (server) =>
      Effect.promise(async () => {
        await server.close()
        http.close()
      })
  )
  const { port } = http.address() as AddressInfo
  const made = yield* Effect.acquireRelease(
    Effect.sync(() =>
      createRealtimeClient({ url: `ws://127.0.0.1:${port}/realtime`, linger: "20 millis" })
    ),
    (store) => Effect.promise(() => store.close())
  )
  let listeners = 0
  const store: PlainClient.PlainClient = {
    ...made,
    sync: () => {
      listeners++
      return made.sync()
    }
  }
  const status = () => store.connection.getSnapshot().status
  const publish = (id: string, n: number) => Effect.promise(() => server.publish(Room(id), n))
  /** Waits until the channel's subscription is active. */
  const listening = (id: string) =>
    Effect.callback<void>((resume) => {
      const stop = store.listen(Room(id), () => {}, {
        onCursor: () => {
          stop()
          resume(Effect.void)
        }
      })
    })
  return { store, status, publish, listening, listeners: () => listeners }
})

interface Element {
  text: string
}

/** Vue's renderer for text elements. */
const { createApp } = createRenderer<Element, Element>({
  createElement: () => ({ text: "" }),
  createText: (text) => ({ text }),
  createComment: (text) => ({ text }),
  insert: (child, parent) => {
    parent.text = child.text
  },
  remove: () => {},
  patchProp: () => {},
  setText: () => {},
  setElementText: (element, text) => {
    element.text = text
  },
  parentNode: () => null,
  nextSibling: () => null
})

describe("examples/vue", () => {
  const Total = (
    id: () => string,
    taken: (refs: ReturnType<typeof useChannel<number, number>>) => void
  ) =>
    defineComponent(() => {
      const refs = useChannel(() => Room(id()), sum)
      taken(refs)
      return () => h("p", `${refs.value.value}`)
    })

  it.live(
    "useChannel follows its channel while the component is mounted, and then another channel",
    () =>
      Effect.gen(function* () {
        const { listening, publish, status, store } = yield* page
        const id = shallowRef("a")
        let refs: ReturnType<typeof useChannel<number, number>> | undefined
        const app = createApp(
          Total(
            () => id.value,
            (given) => (refs = given)
          )
        )
        app.provide(clientKey, store)
        app.mount({ text: "" })
        const value = () => refs?.value.value
        assert.strictEqual(value(), 0)
        yield* listening("a")
        yield* publish("a", 2)
        yield* publish("a", 3)
        yield* until(() => value() === 5)
        yield* Effect.promise(() => refs!.reload(() => 100))
        yield* until(() => value() === 100)
        id.value = "b"
        yield* Effect.promise(() => nextTick())
        assert.deepStrictEqual(
          [value(), refs?.status.value, refs?.error.value],
          [0, "loading", undefined]
        )
        yield* listening("b")
        yield* publish("a", 7)
        yield* publish("b", 1)
        yield* until(() => value() === 1)
        app.unmount()
        yield* until(() => status() === "idle")
      })
  )

  it.live("useChannel opens no socket during server-side rendering", () =>
    Effect.gen(function* () {
      const { listeners, store } = yield* page
      const app = createSSRApp(
        Total(
          () => "a",
          () => {}
        )
      )
      app.provide(clientKey, store)
      assert.strictEqual(yield* Effect.promise(() => renderToString(app)), "<p>0</p>")
      assert.strictEqual(listeners(), 0)
    })
  )
})

describe("examples/svelte", () => {
  it.live("channelStore follows its channel while it has subscribers", () =>
    Effect.gen(function* () {
      const { listening, publish, status, store } = yield* page
      const totals = channelStore(store, Room("a"), sum)
      let shown: Collector.Collected<number> | undefined
      const stop = totals.subscribe((collected) => (shown = collected))
      assert.strictEqual(shown?.value, 0)
      yield* listening("a")
      yield* publish("a", 2)
      yield* publish("a", 3)
      yield* until(() => shown?.value === 5)
      yield* Effect.promise(() => totals.reload(() => 100))
      yield* until(() => shown?.value === 100)
      stop()
      yield* until(() => status() === "idle")
    })
  )

  it.live("channelStore opens no socket when enabled is false", () =>
    Effect.gen(function* () {
      const { listeners, store } = yield* page
      const totals = channelStore(store, Room("a"), { ...sum, enabled: false })
      assert.strictEqual(get(totals).value, 0)
      assert.strictEqual(listeners(), 0)
      assert.strictEqual(get(channelStore(store, Room("a"), sum)).value, 0)
      assert.strictEqual(listeners(), 1)
    })
  )
})

describe("an adapter", () => {
  it.each(["vue/useChannel.ts", "svelte/channelStore.ts"])(
    "%s has at most 80 lines, and imports public names only",
    (file) => {
      const text = readFileSync(join(import.meta.dirname, "../../examples", file), "utf8")
      assert.isAtMost(text.trimEnd().split("\n").length, 80)
      assert.deepStrictEqual(
        [...text.matchAll(/from "(.+)"/g)].map(([, name]) => name).toSorted(),
        [
          "effect-realtime",
          "effect-realtime/client",
          file.startsWith("vue") ? "vue" : "svelte/store"
        ]
      )
    }
  )
})
