/**
 * The app's side of the database: sessions that run the same transaction over and over, each as
 * soon as its last one has committed.
 */
import { serve } from "./lib/ipc.ts"
import { PgWire } from "./lib/PgWire.ts"
import type { WritersApi } from "./lib/types.ts"

let sessions: ReadonlyArray<PgWire> = []
let runs: ReadonlyArray<Awaited<ReturnType<PgWire["prepare"]>>> = []

serve<WritersApi>({
  open: async ({ databaseUrl, statement, writers }) => {
    sessions = await Promise.all(Array.from({ length: writers }, () => PgWire.connect(databaseUrl)))
    runs = await Promise.all(sessions.map((session) => session.prepare(statement)))
  },
  run: async ({ millis, perSecond = Infinity, random = false }) => {
    let commits = 0
    let inTime = 0
    const begun = performance.now()
    const until = begun + millis
    let last = begun
    /** When the next transaction is due. */
    const due = () =>
      random
        ? (last -= (Math.log(1 - Math.random()) * 1000) / perSecond)
        : begun + (commits * 1000) / perSecond
    await Promise.all(
      runs.map(
        (run) =>
          new Promise<void>((resolve, reject) => {
            const next = () =>
              run((error) => {
                if (error !== undefined) return reject(error)
                commits++
                if (performance.now() >= until) return resolve()
                inTime++
                const early = due() - performance.now()
                return early > 0 ? setTimeout(next, early) : next()
              })
            next()
          })
      )
    )
    return { perSecond: (inTime * 1000) / millis, commits }
  },
  close: () => {
    for (const session of sessions) session.close()
    sessions = []
    runs = []
  }
})
