/** The outputs that the guide of the command line shows. */
import * as Fs from "node:fs"
import * as Path from "node:path"

const guide = Path.resolve(import.meta.dirname, "../../../examples/command-line/README.md")

/** The block below the comment `<!-- recorded: name -->`, with a line feed at its end. */
export const recorded = (name: string): string => {
  const [, after = ""] = Fs.readFileSync(guide, "utf8").split(`<!-- recorded: ${name} -->`)
  return /^\s*```\w+\n([^]*?)```/.exec(after)?.[1] ?? ""
}

/** The names of all such blocks. */
export const recordedNames = (): ReadonlyArray<string> =>
  [...Fs.readFileSync(guide, "utf8").matchAll(/<!-- recorded: ([\w-]+) -->/g)].map(
    ([, name]) => name!
  )
