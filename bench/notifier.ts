/**
 * Another process that writes to the database: one NOTIFY per transaction, at a rate, one after the
 * other.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { Effect, Exit, Redacted, Scope } from "effect"
import { serve } from "./lib/ipc.ts"
import { channelName, messageText } from "./lib/messages.ts"
import { atRate } from "./lib/pace.ts"
import type { NotifierApi } from "./lib/types.ts"

const scope = Effect.runSync(Scope.make())
let session: PgConnection.PgConnection | undefined

/** What `@socket.io/postgres-emitter` sends: a message of the protocol between socket.io's nodes. */
const socketIoText = (channel: string, text: string): string =>
  `{"uid":"emitter","nsp":"/","type":3,"data":{"packet":{"type":2,"data":["message",${text}],"nsp":"/"},"opts":{"rooms":["${channel}"],"except":[],"flags":{}}}}`

const micros = (): number => Number(process.hrtime.bigint() / 1000n)

serve<NotifierApi>({
  connect: async ({ databaseUrl }) => {
    session = await Effect.runPromise(
      PgConnection.make({ url: Redacted.make(databaseUrl) }).pipe(Scope.provide(scope))
    )
  },
  notify: async ({ bytes, count, format, from, perSecond }) => {
    const channel = channelName(0)
    const times: Array<number> = []
    let last: Promise<unknown> = Promise.resolve()
    await atRate(count, perSecond, (index) => {
      const text = messageText(0, from + index, bytes)
      const [name, payload] =
        format === "socket.io" ? ["socket.io#/", socketIoText(channel, text)] : [channel, text]
      last = last.then(() => {
        times.push(micros())
        return Effect.runPromise(session!.query("select pg_notify($1, $2)", [name, payload]))
      })
    })
    await last
    return { times }
  },
  close: () => Effect.runPromise(Scope.close(scope, Exit.void))
})
