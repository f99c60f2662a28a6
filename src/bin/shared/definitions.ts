/** The definitions that modules export. */
import * as Effect from "effect/Effect"
import * as Flag from "effect/cli/Flag"
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import type * as Channel from "../../Channel.ts"
import { errorText } from "../../internal/errorText.ts"
import { type CommandFailed, wrongUsage } from "./exit.ts"
import { pathFlag } from "./pathFlag.ts"

/** The modules, which are imported. */
export const definitionsFlag = pathFlag("definitions").pipe(
  Flag.withMetavar("<module>"),
  Flag.withDescription(
    "A module that exports definitions of channels, e.g. ./channels.js; may be given several times"
  ),
  Flag.atLeast(0)
)

const exportsOf = (module: string): Effect.Effect<ReadonlyArray<unknown>, CommandFailed> =>
  Effect.tryPromise({
    try: async () =>
      Object.values((await import(pathToFileURL(Path.resolve(module)).href)) as object),
    catch: (error) => wrongUsage(`The module ${module} cannot be imported: ${errorText(error)}`)
  })

/** The tables that the modules export. */
export const tablesOf = (
  modules: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<Channel.AnyTable>, CommandFailed> =>
  Effect.map(
    Effect.forEach(modules, (module) =>
      Effect.gen(function* () {
        const tables = new Set<Channel.AnyTable>()
        for (const one of yield* exportsOf(module)) {
          // A family is a function. An exported route stands for its table.
          const table = Object(one).table as Channel.Table | undefined
          if (table?.channel === undefined) continue
          if (![...tables].some((known) => known.table === table))
            tables.add(one as Channel.AnyTable)
        }
        if (tables.size === 0) {
          return yield* wrongUsage(`The module ${module} exports no Channel.table.`)
        }
        return [...tables]
      })
    ),
    (all) => all.flat()
  )

const isDefinition = (value: unknown): value is Channel.Definition => {
  const { _tag, delivery } = Object(value) as Partial<Channel.Definition>
  return (_tag === "Channel" || _tag === "Family") && delivery !== undefined
}

/** The channels and families that the modules export. */
export const definitionsOf = (
  modules: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<Channel.Definition>, CommandFailed> =>
  Effect.map(
    Effect.forEach(modules, (module) =>
      Effect.gen(function* () {
        const found = (yield* exportsOf(module)).filter(isDefinition)
        if (found.length > 0) return found
        return yield* wrongUsage(`The module ${module} exports no definition of a channel.`)
      })
    ),
    (all) => all.flat()
  )
