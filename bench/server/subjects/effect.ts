/**
 * The two programs written with Effect alone: a Stream of a PubSub for each socket, and an RPC that
 * streams.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer, ManagedRuntime, PubSub, Schema, Stream } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import { createServer } from "node:http"
import type { Subject } from "../subject.ts"

/** A PubSub per channel. */
class Hub<A> {
  readonly #channels = new Map<string, PubSub.PubSub<A>>()

  of(channel: string): PubSub.PubSub<A> {
    let pubsub = this.#channels.get(channel)
    if (pubsub === undefined) {
      pubsub = Effect.runSync(PubSub.unbounded<A>())
      this.#channels.set(channel, pubsub)
    }
    return pubsub
  }
}

const serve = async (
  routes: Layer.Layer<never, never, HttpRouter.HttpRouter>,
  publish: Subject["publish"]
): Promise<Subject> => {
  const runtime = ManagedRuntime.make(
    HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true }).pipe(
      Layer.provideMerge(
        NodeHttpServer.layer(() => createServer(), {
          port: 0,
          host: "127.0.0.1",
          gracefulShutdownTimeout: 100
        })
      )
    )
  )
  const { address } = await runtime.runPromise(HttpServer.HttpServer)
  return {
    port: (address as { readonly port: number }).port,
    publish,
    [Symbol.asyncDispose]: () => runtime.dispose()
  }
}

export const openStream = (): Promise<Subject> => {
  const hub = new Hub<string>()
  const session = Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    // Subscribed before the handshake ends, so that a client knows that it is.
    const messages = yield* PubSub.subscribe(hub.of(request.url.slice(1)))
    const socket = yield* Effect.orDie(request.upgrade)
    const reader = yield* Effect.orDie(socket.reader)
    const writer = yield* socket.writer
    yield* Effect.raceFirst(
      Effect.forever(reader.pull),
      Stream.runForEach(Stream.fromSubscription(messages), writer.write)
    ).pipe(Effect.ignore)
    return HttpServerResponse.empty()
  })
  return serve(HttpRouter.add("GET", "/:channel", session), (channel, text) => {
    PubSub.publishUnsafe(hub.of(channel), text)
  })
}

const Message = Schema.Struct({ id: Schema.Finite, status: Schema.String, note: Schema.String })

class Messages extends RpcGroup.make(
  Rpc.make("Messages", {
    payload: { channel: Schema.String },
    success: Schema.Union([Schema.Literal("subscribed"), Message]),
    stream: true
  })
) {}

export const openRpc = (): Promise<Subject> => {
  const hub = new Hub<typeof Message.Type>()
  const handlers = Messages.toLayer({
    Messages: ({ channel }) =>
      Stream.unwrap(
        Effect.map(PubSub.subscribe(hub.of(channel)), (messages) =>
          Stream.concat(Stream.make("subscribed" as const), Stream.fromSubscription(messages))
        )
      )
  })
  const rpc = RpcServer.layerHttp({ group: Messages, path: "/rpc" }).pipe(
    Layer.provide(handlers),
    Layer.provide(RpcSerialization.layerJson)
  )
  const decode = Schema.decodeUnknownSync(Message)
  return serve(rpc, (channel, text) => {
    PubSub.publishUnsafe(hub.of(channel), decode(JSON.parse(text)))
  })
}
