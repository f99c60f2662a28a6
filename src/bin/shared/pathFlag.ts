/** A flag whose value is the path of a file, as it is given: a shell completes it with the names of files. */
import * as Effect from "effect/Effect"
import * as Flag from "effect/cli/Flag"
import * as Param from "effect/cli/Param"
import * as Primitive from "effect/cli/Primitive"

/** `Flag.File` would look whether it is one, and make the path a whole one. */
export const pathFlag = (name: string): Flag.Flag<string> =>
  Flag.filter(
    Param.makeSingle({
      kind: Param.flagKind,
      name,
      primitiveType: Object.assign(Primitive.Path("file"), {
        parse: (value: string) => Effect.succeed(value)
      })
    }),
    (path) => path !== "",
    () => "a path that is not empty"
  )
