/**
 * Packages of `bench/package.json`. They are there only after `npm run bench` installed them, so
 * they are found at run time, and only the used parts of them are described here.
 */
import type { Server } from "node:http"

const load = async <Module>(name: string): Promise<Module> => (await import(name)) as Module

export interface SocketIoServer {
  readonly on: (
    event: "connection",
    listener: (socket: {
      readonly handshake: { readonly auth: { readonly channels?: ReadonlyArray<string> } }
      readonly join: (rooms: ReadonlyArray<string>) => void
    }) => void
  ) => void
  readonly to: (room: string) => { readonly emit: (event: string, payload: unknown) => void }
  readonly adapter: (adapter: unknown) => void
  readonly disconnectSockets: (close: boolean) => void
  readonly close: () => Promise<void>
}

export const socketIo = () =>
  load<{
    readonly Server: new (
      server: Server,
      options: { readonly serveClient: boolean; readonly transports: ReadonlyArray<string> }
    ) => SocketIoServer
  }>("socket.io")

export const socketIoPostgres = () =>
  load<{ readonly createAdapter: (pool: PgPool) => unknown }>("@socket.io/postgres-adapter")

export interface PgPool {
  readonly query: (text: string, values?: ReadonlyArray<unknown>) => Promise<unknown>
  readonly end: () => Promise<void>
}

interface PgClient {
  readonly connect: () => Promise<unknown>
  readonly query: (text: string) => Promise<unknown>
  readonly on: (event: "notification", listener: () => void) => unknown
  readonly end: () => Promise<void>
}

export const pg = () =>
  load<{
    readonly default: {
      readonly Client: new (options: { readonly connectionString: string }) => PgClient
      readonly Pool: new (options: {
        readonly connectionString: string
        readonly max: number
      }) => PgPool
    }
  }>("pg")

interface Subscriber {
  readonly notifications: {
    readonly on: (channel: string, listener: (payload: string) => void) => void
  }
  readonly events: { readonly on: (event: "error", listener: (error: Error) => void) => void }
  readonly connect: () => Promise<void>
  readonly listenTo: (channel: string) => Promise<unknown>
  readonly close: () => Promise<void>
}

type CreateSubscriber = (
  connection: { readonly connectionString: string },
  options: { readonly parse: (text: string) => string }
) => Subscriber

/** A CommonJS module that says it is an ES module. */
export const pgListen = async (): Promise<CreateSubscriber> => {
  const module = await load<{
    readonly default: CreateSubscriber | { readonly default: CreateSubscriber }
  }>("pg-listen")
  return typeof module.default === "function" ? module.default : module.default.default
}
