/**
 * What the documents show is code that is type-checked: every `ts` and `tsx` block follows a comment
 * that names a region of an example, and is that region, word for word.
 *
 *     <!-- examples/worker.ts#stream -->
 *     (the block)
 *
 * In the example the region stands between `// #region stream` and `// #endregion`.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"

const root = Path.resolve(import.meta.dirname, "..")
const read = (path: string): string | undefined =>
  Fs.existsSync(Path.join(root, path)) ? Fs.readFileSync(Path.join(root, path), "utf8") : undefined

interface Block {
  /** Where the fence opens, from 1. */
  readonly line: number
  readonly language: string
  readonly code: string
  /** The last line before the fence that is not empty. */
  readonly above: string
}

const blocksOf = (text: string): ReadonlyArray<Block> => {
  const blocks: Array<Block> = []
  const lines = text.split("\n")
  for (let index = 0; index < lines.length; index++) {
    const fence = /^\s*(`{3,}|~{3,})\s*(\S*)/.exec(lines[index]!)
    if (fence === null) continue
    const start = index++
    while (index < lines.length && lines[index]!.trim() !== fence[1]) index++
    blocks.push({
      line: start + 1,
      language: fence[2]!,
      code: lines.slice(start + 1, index).join("\n"),
      above: lines.slice(0, start).findLast((line) => line.trim() !== "") ?? ""
    })
  }
  return blocks
}

/** Without the indentation that all lines share, and without empty lines around. */
const dedent = (code: string): string => {
  const lines = code.split("\n").map((line) => line.trimEnd())
  const indents = lines.filter((line) => line !== "").map((line) => line.search(/\S/))
  const indent = Math.min(...indents)
  return lines
    .map((line) => line.slice(indent))
    .join("\n")
    .replaceAll(/^\n+|\n+$/g, "")
}

const regionOf = (text: string, name: string): string | undefined => {
  const lines = text.split("\n")
  const start = lines.findIndex((line) => line.trim() === `// #region ${name}`)
  const size = lines.slice(start + 1).findIndex((line) => line.trim() === "// #endregion")
  return start === -1 || size === -1
    ? undefined
    : dedent(lines.slice(start + 1, start + 1 + size).join("\n"))
}

const reference = /^<!-- (examples\/\S+\.tsx?)#(\S+) -->$/
const checked = new Set(["ts", "tsx"])
const alike = new Set(["typescript", "mts", "cts", "js", "jsx", "mjs", "cjs", "javascript"])

/** What is wrong with a block, or `undefined`. `source` gives the text of an example. */
const faultOf = (
  { above, code, language }: Block,
  source: (path: string) => string | undefined
): string | undefined => {
  if (alike.has(language)) return `is ${language}: write it as ts or tsx, so that it is checked`
  if (!checked.has(language)) return undefined
  const [, path, name] = reference.exec(above.trim()) ?? []
  if (path === undefined || name === undefined) {
    return "names no example: put <!-- examples/file.ts#region --> on the line above"
  }
  const text = source(path)
  if (text === undefined) return `names ${path}, which does not exist`
  const region = regionOf(text, name)
  if (region === undefined) return `names ${path}, which has no region ${name} (or no end of it)`
  return region === dedent(code)
    ? undefined
    : `is not the region ${name} of ${path}, which says now:\n${region}`
}

const faults = (document: string, text: string, source: (path: string) => string | undefined) =>
  blocksOf(text).flatMap((block) => {
    const fault = faultOf(block, source)
    return fault === undefined ? [] : [`${document}:${block.line}: the block ${fault}`]
  })

describe("the documents", () => {
  it("README.md shows only code that is checked", () => {
    const text = read("README.md")
    expect(text, "README.md is missing").toBeDefined()
    expect(faults("README.md", text!, read)).toEqual([])
    const shown = blocksOf(text!).filter(({ language }) => checked.has(language))
    expect(shown.length, "README.md shows no code at all").toBeGreaterThan(0)
  })

  it("CONTRIBUTING.md, where there is one, shows only code that is checked", () => {
    expect(faults("CONTRIBUTING.md", read("CONTRIBUTING.md") ?? "", read)).toEqual([])
  })
})

describe("the guides", () => {
  const guides = [
    "src/PROTOCOL.md",
    ...Fs.readdirSync(Path.join(root, "src/guides")).map((name) => `src/guides/${name}`)
  ]

  it.each(guides)("%s shows only code that is checked", (path) => {
    expect(faults(path, read(path)!, read)).toEqual([])
  })

  it.each(guides)("%s is found from the README", (path) => {
    expect(read("README.md")).toContain(`](${path})`)
  })
})

describe("the check", () => {
  const example = `import { a } from "a"

// #region short
const x = a
// #endregion

export const main = () => {
  // #region inner
  if (x) {
    a()
  }
  // #endregion
}

// #region open
`
  const source = (path: string) => (path === "examples/a.ts" ? example : undefined)
  const check = (text: string) => faults("A.md", text, source)

  it("takes a block that is its region, indented or not, and blocks of other languages", () => {
    expect(
      check(`# A
<!-- examples/a.ts#short -->
\`\`\`ts
const x = a
\`\`\`

<!-- examples/a.ts#inner -->

\`\`\`tsx
if (x) {
  a()
}
\`\`\`

\`\`\`sh
npm ci
\`\`\`

\`\`\`
plain \`\`\` text
\`\`\`
`)
    ).toEqual([])
  })

  it("finds a block that says something else", () => {
    expect(
      check(`<!-- examples/a.ts#short -->
\`\`\`ts
const x = b
\`\`\``)
    ).toEqual([
      "A.md:2: the block is not the region short of examples/a.ts, which says now:\nconst x = a"
    ])
  })

  it.each([
    { title: "nothing", above: "Some words.", fault: "names no example: put" },
    {
      title: "a file that is no example",
      above: "<!-- src/a.ts#short -->",
      fault: "names no example"
    },
    { title: "no region", above: "<!-- examples/a.ts -->", fault: "names no example" },
    {
      title: "an example that does not exist",
      above: "<!-- examples/b.ts#short -->",
      fault: "names examples/b.ts, which does not exist"
    },
    {
      title: "a region that does not exist",
      above: "<!-- examples/a.ts#long -->",
      fault: "names examples/a.ts, which has no region long"
    },
    {
      title: "a region that does not end",
      above: "<!-- examples/a.ts#open -->",
      fault: "names examples/a.ts, which has no region open"
    }
  ])("finds a block that names $title", ({ above, fault }) => {
    const found = check(`${above}\n\`\`\`ts\nconst x = a\n\`\`\``)
    expect(found).toHaveLength(1)
    expect(found[0]).toContain(`A.md:2: the block ${fault}`)
  })

  it("finds a block that calls itself something else to be left alone", () => {
    expect(check("```js\nx()\n```\n~~~typescript\ny()\n~~~")).toEqual([
      "A.md:1: the block is js: write it as ts or tsx, so that it is checked",
      "A.md:4: the block is typescript: write it as ts or tsx, so that it is checked"
    ])
  })
})
