/**
 * A client process: thousands of raw sockets that count and check every byte. What it costs is not
 * measured, but it shares the machine with the server, so it is kept cheap.
 */
import { serve, tell } from "../lib/ipc.ts"
import type { ClientApi } from "../lib/types.ts"
import { Crowd, type CrowdOptions } from "./Crowd.ts"
import { dialects } from "./dialects.ts"
import { Stalled } from "./Stalled.ts"

let crowd: Crowd | undefined
let joined: CrowdOptions | undefined
let stalled: Stalled | undefined
let reporter: NodeJS.Timeout | undefined

const open = (): Crowd => {
  if (crowd === undefined) throw new Error("not connected")
  return crowd
}

/** How often the clients report their progress to a server that publishes as fast as it can. */
const reportEveryMillis = 10

serve<ClientApi>({
  connect: async ({ flow, ...options }) => {
    joined = options
    crowd = new Crowd(options)
    await crowd.open()
    let told = 0
    if (!flow) return
    reporter = setInterval(() => {
      const progress = Math.floor(open().progress)
      if (progress !== told) tell(progress)
      told = progress
    }, reportEveryMillis)
  },
  settle: () => open().settle(),
  watch: () => open().broken,
  arrive: ({ messages }) => open().arrive(messages),
  stall: async ({ count, messages }) => {
    if (joined === undefined) throw new Error("not connected")
    stalled = new Stalled()
    const dialect = dialects[joined.dialect]
    await stalled.open({ port: joined.port, audience: joined.audience, dialect, count, messages })
  },
  recover: async ({ messages }) => {
    if (stalled === undefined) throw new Error("nobody is stalled")
    return stalled.recover(messages)
  },
  times: () => open().times(),
  close: async () => {
    clearInterval(reporter)
    stalled?.close()
    crowd?.close()
    stalled = undefined
    crowd = undefined
  }
})
