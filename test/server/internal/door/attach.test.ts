import { expect, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { createServer, type IncomingMessage } from "node:http"
import type { AddressInfo } from "node:net"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Channel from "../../../../src/Channel.ts"
import { attach } from "../../../../src/server/internal/door/attach.ts"
import * as Door from "../../../../src/server/internal/door/door.ts"
import * as MemorySource from "../../../../src/server/MemorySource.ts"
import * as Realtime from "../../../../src/server/Realtime.ts"
import { allowAll } from "../../../../src/server/ServerOptions.ts"
import { until } from "../../../support/until.ts"
import { greet } from "../../../support/wire.ts"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

it.live("an open session keeps nothing of its upgrade request", () =>
  Effect.gen(function* () {
    const server = createServer()
    yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))
    const options = {
      channels: [Channel.make("orders", Schema.Struct({ id: Schema.Int }))],
      authorize: allowAll
    }
    const door = yield* Door.make(options)
    yield* attach(door, server)
    const requests: Array<WeakRef<IncomingMessage>> = []
    // A second listener of `upgrade` would make the server guard the socket.
    const emit = server.emit.bind(server)
    server.emit = (name: string, ...args: ReadonlyArray<unknown>) => {
      if (name === "upgrade") requests.push(new WeakRef(args[0] as IncomingMessage))
      return emit(name, ...args)
    }
    yield* Effect.callback<void>((resume) => void server.listen(0, () => resume(Effect.void)))
    const { port } = server.address() as AddressInfo
    const wire = yield* greet(`ws://127.0.0.1:${port}/realtime`)
    wire.send({ type: "subscribe", id: 1, channel: "orders" })
    yield* wire.next("subscribed")
    yield* until(() => {
      collect()
      return requests[0]?.deref() === undefined
    })
    expect(requests.length).toBe(1)
    expect(wire.socket.readyState).toBe(1)
  }).pipe(Effect.scoped, Effect.provide(Realtime.layer().pipe(Layer.provide(MemorySource.layer))))
)
