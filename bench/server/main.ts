/**
 * The measured process: one subject, its publisher and a clock.
 */
import { serve } from "../lib/ipc.ts"
import type { ServerApi } from "../lib/types.ts"
import { WindowProfiler } from "./profiler.ts"
import { Publisher } from "./publisher.ts"
import type { Subject } from "./subject.ts"
import { openers } from "./subjects/index.ts"

let subject: Subject | undefined
let publisher: Publisher | undefined
let before = { user: 0, system: 0 }
let profile: { readonly path: string; readonly profiler: WindowProfiler } | undefined

const collect = (): void => {
  // Twice: the second collection frees what the first one finalized.
  globalThis.gc?.()
  globalThis.gc?.()
}

const used = () => subject?.usage?.cpu() ?? process.cpuUsage()

/** The last turn of the loop, and the CPU time of this thread by then. */
let turned = performance.now()
let worked = process.threadCpuUsage()
/** The longest time between two turns, and the most CPU time that the thread used in one. */
let longest = 0
let hardest = 0
let peak = 0
let looked = 0

const turn = (): void => {
  const now = performance.now()
  longest = Math.max(longest, now - turned)
  turned = now
  const { system, user } = process.threadCpuUsage(worked)
  hardest = Math.max(hardest, (system + user) / 1000)
  worked = process.threadCpuUsage()
  if (now - looked >= 20) {
    looked = now
    peak = Math.max(peak, process.memoryUsage.rss())
  }
}

/** From the first question on, so that a run without questions pays for no timer. */
let watching = false

const watch = (): void => {
  turned = performance.now()
  worked = process.threadCpuUsage()
  longest = hardest = peak = 0
  if (watching) return
  watching = true
  setInterval(turn, 1).unref()
}

serve<ServerApi>(
  {
    open: async (setup) => {
      const open = await openers[setup.subject]()
      subject = await open(setup)
      publisher = new Publisher(setup.audience, subject.publish)
      return { port: subject.port }
    },
    prepare: ({ count, from }) => {
      publisher?.prepare(from, count)
      collect()
    },
    start: async ({ profile: path }) => {
      if (path !== undefined) profile = { path, profiler: await WindowProfiler.start() }
      before = used()
    },
    publish: async ({ millis, pace }) => ({ messages: (await publisher?.run(pace, millis)) ?? 0 }),
    stop: async () => {
      const { system, user } = used()
      await profile?.profiler.stop(profile.path)
      profile = undefined
      return { user: user - before.user, system: system - before.system }
    },
    memory: () => {
      collect()
      const { external, heapUsed, rss } = process.memoryUsage()
      if (subject?.usage !== undefined) return { heap: 0, rss: subject.usage.rss() }
      return { heap: heapUsed + external, rss }
    },
    loop: () => {
      if (watching) turn()
      const seen = { longest, hardest, peak }
      watch()
      return seen
    },
    close: async () => {
      await subject?.[Symbol.asyncDispose]()
      subject = undefined
      publisher = undefined
    }
  },
  (arrived) => publisher?.arrived(arrived)
)
