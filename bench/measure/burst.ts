/**
 * The cost of receiving a flood: the notifications of one large transaction, beside `pg`'s own
 * listener; and how long listening to many channels takes, as after a reconnect.
 */
import { start } from "../lib/child.ts"
import { inTurn } from "../lib/inTurn.ts"
import { PgWire } from "../lib/PgWire.ts"
import type { Receipt, ReceiverApi } from "../lib/types.ts"
import type { Context } from "./context.ts"
import { absolute, medianOf, type Report, resultsOf } from "./result.ts"
import { type Contestant, takeTurns } from "./rounds.ts"

export interface BurstOptions {
  /** Notifications of the transaction. */
  readonly notifications: number
  /** The channels listened to at the end. */
  readonly channels: number
}

interface BurstSample extends Receipt {
  readonly notifications: number
}

const ours = "effect-realtime"
const baseline = "pg"
const again = `${baseline} (again)`

/** 200 bytes each, all different: PostgreSQL folds equal ones. */
const flood = (notifications: number): string =>
  `select pg_notify('burst', rpad('{"id":' || n || ',"note":"', 198, 'x') || '"}') from generate_series(1, ${notifications}) n`

const receiverOf = async (databaseUrl: string, subject: string) => {
  const receiver = start<ReceiverApi>("receiver.ts", [subject])
  await receiver.call("open", { databaseUrl, subject })
  return receiver
}

export const measureBurst = async (
  context: Context,
  { channels, notifications }: BurstOptions = { channels: 10_000, notifications: 100_000 }
): Promise<Report> => {
  const contestant = (subject: string, label = subject): Contestant<BurstSample> => ({
    label,
    open: async () => {
      const databaseUrl = await context.database()
      const writer = await PgWire.connect(databaseUrl)
      const receiver = await receiverOf(databaseUrl, subject)
      const run = async (): Promise<BurstSample> => {
        const [receipt] = await Promise.all([
          receiver.call("receive", { count: notifications }),
          writer.query(flood(notifications))
        ])
        return { ...receipt, notifications }
      }
      // Brings the code to full speed.
      await run()
      return {
        run,
        [Symbol.asyncDispose]: async () => {
          await receiver[Symbol.asyncDispose]()
          writer.close()
        }
      }
    }
  })
  const trials = await takeTurns(
    contestant(baseline),
    [contestant(ours), contestant(baseline, again)],
    {
      pairs: context.pairs,
      roundsPerProcess: context.roundsPerProcess,
      onTrial: (label) => context.say(`B ${label}`)
    }
  )
  const listening = await inTurn([ours, baseline], async (subject) => {
    context.say(`B ${subject}: ${channels} LISTENs`)
    const databaseUrl = await context.database()
    await using receiver = await receiverOf(databaseUrl, subject)
    const { millis } = await receiver.call("listenToo", { channels })
    return [subject, millis] as const
  })
  const cpuOf = ({ notifications, system, user }: BurstSample) => (user + system) / notifications
  return {
    costs: [...new Set(trials.map(({ label }) => label))].map((subject) => ({
      workload: "B",
      subject,
      columns: {
        "us/notification": medianOf(trials, subject, cpuOf).toFixed(2),
        "waiting at most":
          subject === ours ? medianOf(trials, subject, ({ most }) => most ?? 0).toFixed(0) : "",
        "MB of heap more": (medianOf(trials, subject, ({ heap }) => heap) / 1024 / 1024).toFixed(0)
      }
    })),
    results: [
      ...resultsOf({
        workload: "B",
        trials,
        measure: "cpu-per-notification",
        valueOf: cpuOf,
        goals: { [ours]: { [baseline]: 2 } },
        baselines: [baseline],
        again
      }),
      ...listening.map(([subject, millis]) =>
        absolute(
          {
            workload: "B",
            subject,
            measure: "time-to-listen",
            baseline: "1 s",
            goal: subject === ours ? 3 : null
          },
          millis / 1000
        )
      )
    ]
  }
}
