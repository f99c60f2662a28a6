/**
 * The measured process of K: one client library, and a handler that reads every field of every
 * payload.
 */
import { serve } from "../lib/ipc.ts"
import type { ListenerApi } from "../lib/types.ts"
import { WindowProfiler } from "../server/profiler.ts"
import { Check } from "./Check.ts"
import { libraries } from "./libraries.ts"

let check: Check | undefined
let before = process.cpuUsage()
let profile: { readonly path: string; readonly profiler: WindowProfiler } | undefined

const open = (): Check => {
  if (check === undefined) throw new Error("not open")
  return check
}

serve<ListenerApi>({
  open: async ({ bytes, library, port }) => {
    const events = (check = new Check(bytes))
    await libraries[library](port, {
      onEvent: (payload) => events.take(payload),
      onTrouble: (error) => events.fail(error)
    })
  },
  start: async ({ profile: path }) => {
    globalThis.gc?.()
    globalThis.gc?.()
    if (path !== undefined) profile = { path, profiler: await WindowProfiler.start() }
    before = process.cpuUsage()
  },
  arrive: ({ events }) => open().arrive(events),
  stop: async () => {
    const { system, user } = process.cpuUsage(before)
    await profile?.profiler.stop(profile.path)
    profile = undefined
    return { user, system }
  }
})
