/** The variables of the environment that begin as those of the gateway, and that it does not know. */
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import { settings } from "./settings.ts"

const first = "REALTIME"

/** How many letters are to be added, removed or replaced to make one text the other. */
const distance = (one: string, other: string): number => {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index)
  for (const [at, letter] of [...one].entries()) {
    const next = [at + 1]
    for (const [to, wanted] of [...other].entries()) {
      next.push(Math.min(next[to]! + 1, row[to + 1]! + 1, row[to]! + (letter === wanted ? 0 : 1)))
    }
    row = next
  }
  return row[other.length]!
}

/** The known name that is nearest. */
const nearest = (name: string, known: ReadonlyArray<string>): string =>
  known.toSorted((one, other) => distance(name, one) - distance(name, other))[0]!

/** The variables with values below a path. */
const below = (
  provider: ConfigProvider.ConfigProvider,
  path: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<string>> =>
  provider.load(path).pipe(
    Effect.flatMap((node) => {
      if (node === undefined) return Effect.succeed([])
      const own = node.value === undefined || path.length === 1 ? [] : [path.join("_")]
      if (node._tag !== "Record") return Effect.succeed(own)
      return Effect.map(
        Effect.forEach(node.keys, (key) => below(provider, [...path, key])),
        (names) => [...own, ...names.flat()]
      )
    }),
    Effect.orElseSucceed((): ReadonlyArray<string> => [])
  )

/** Warns of them in one line, each with the known name that is nearest. */
export const warnOfUnknown = Effect.gen(function* () {
  const known = settings.map(({ variable }) => variable)
  const there = yield* below(yield* ConfigProvider.ConfigProvider, [first])
  const unknown = there.filter((name) => !known.includes(name))
  if (unknown.length === 0) return
  const each = unknown.map((name) => `${name} (did you mean ${nearest(name, known)}?)`)
  yield* Effect.logWarning(
    `The gateway does not know these variables, and ignores them: ${each.join(", ")}.`
  )
})
