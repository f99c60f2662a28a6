/**
 * The bus between the servers of the system in memory, with its faults.
 *
 * Each generation of a server is another node on the bus, as each process is: `node 1`, and after its first
 * restart `node 1.2`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as MemoryBus from "../../server/MemoryBus.ts"
import type { BusLink } from "./server.ts"

/** The bus of one server. */
export interface BusEnd {
  readonly link: NonNullable<BusLink>
  /** Whether the server neither sends to the others nor hears them. */
  readonly silence: (yes: boolean) => void
}

export const make = (fault: MemoryBus.Fault | undefined): ((index: number) => BusEnd) => {
  const silent = new Set<number>()
  /** By name. */
  const serverOf = new Map<string, number>()
  /** Generations that ended without a goodbye. */
  const dead = new Set<string>()
  const isCut = (name: string) => dead.has(name) || silent.has(serverOf.get(name)!)
  const network = MemoryBus.network((path, deliver) => {
    if (path.from !== path.to && (isCut(path.from) || isCut(path.to))) return
    if (fault === undefined) deliver()
    else fault(path, deliver)
  })
  return (index) => {
    const names: Array<string> = []
    return {
      link: {
        bus: Effect.suspend(() => {
          const generation = names.length + 1
          const name = `node ${index + 1}${generation === 1 ? "" : `.${generation}`}`
          names.push(name)
          serverOf.set(name, index)
          // The name is valid.
          return Effect.orDie(MemoryBus.make(network, { name }))
        }),
        mute: () => names.forEach((name) => dead.add(name))
      },
      silence: (yes) => void (yes ? silent.add(index) : silent.delete(index))
    }
  }
}
