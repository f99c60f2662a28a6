/**
 * Code in the documents is type-checked: every `ts` and `tsx` block follows a comment that names a
 * region of an example, and equals that region.
 *
 *     <!-- examples/streams/worker.ts#worker -->
 *     (the block)
 *
 * In the example the region stands between `// #region worker` and `// #endregion`.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { resolveLimits } from "../src/server/internal/limits/limits.ts"

const root = Path.resolve(import.meta.dirname, "..")
const read = (path: string): string | undefined =>
  Fs.existsSync(Path.join(root, path)) ? Fs.readFileSync(Path.join(root, path), "utf8") : undefined

interface Block {
  /** The line where the fence opens, from 1. */
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

/** Removes the indentation that all lines share, and the empty lines around the code. */
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

/** The fault of a block, or `undefined`. `source` returns the text of an example. */
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

  it("README.md has at most 250 lines", () => {
    expect(read("README.md")!.trimEnd().split("\n").length).toBeLessThanOrEqual(250)
  })

  it("CONTRIBUTING.md shows only code that is checked", () => {
    expect(faults("CONTRIBUTING.md", read("CONTRIBUTING.md") ?? "", read)).toEqual([])
  })
})

const topics = Fs.readdirSync(Path.join(root, "examples"), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)

/** The guides stand beside their examples, the protocol beside its code. */
const guides = ["src/PROTOCOL.md", ...topics.map((name) => `examples/${name}/README.md`)].filter(
  (path) => read(path) !== undefined
)

/** Their code is JSON, Python, and commands. */
const otherwise = new Set([
  "src/PROTOCOL.md",
  "examples/gateway/README.md",
  "examples/python/README.md"
])

describe("the guides", () => {
  it("cover every topic of the list", () => {
    expect(topics).toEqual(
      expect.arrayContaining([
        "columns",
        "database",
        "durable",
        "install",
        "node",
        "operations",
        "python",
        "react",
        "recovery",
        "schema",
        "security",
        "streams",
        "tables",
        "testing"
      ])
    )
  })

  it.each(guides)("%s shows only code that is checked", (path) => {
    expect(faults(path, read(path)!, read)).toEqual([])
  })

  it.each(guides)("the README links to %s", (path) => {
    expect(read("README.md")).toContain(`](${path})`)
  })

  it.each(guides.filter((path) => !otherwise.has(path)))("%s shows code", (path) => {
    const shown = blocksOf(read(path)!).filter(({ language }) => checked.has(language))
    expect(shown.length, `${path} shows no code at all`).toBeGreaterThan(0)
  })

  it("name every limit option of the server", () => {
    const text = read("examples/operations/README.md")!
    expect(Object.keys(resolveLimits()).filter((name) => !text.includes(`\`${name}\``))).toEqual([])
  })

  it("exist at every path that the sources and the changelog name", () => {
    const sources = Fs.readdirSync(Path.join(root, "src"), { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".ts"))
      .map((path) => `src/${path}`)
    const gone = [...sources, "CHANGELOG.md", "CONTRIBUTING.md"].flatMap((document) =>
      [...read(document)!.matchAll(/\b(?:examples|guides)\/[\w./-]*\.md/g)]
        .filter(([path]) => read(path) === undefined)
        .map(([path]) => `${document}: ${path}`)
    )
    expect(gone).toEqual([])
  })
})

/** The anchor that GitHub makes from a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replaceAll(" ", "-")

const withoutCode = (text: string): string =>
  text.replaceAll(/^\s*(`{3,}).*\n[\s\S]*?^\s*\1\s*$/gm, "").replaceAll(/`[^`\n]*`/g, "")

const anchorsOf = (text: string): ReadonlyArray<string> =>
  [...text.replaceAll(/^\s*(`{3,}).*\n[\s\S]*?^\s*\1\s*$/gm, "").matchAll(/^#+ (.+)$/gm)].map(
    ([, heading]) => anchorOf(heading!)
  )

/** Where a document of the package names a file of the repository that the package does not have. */
const repository = "https://github.com/effect-realtime/effect-realtime/blob/main/"

interface Link {
  /** As it is written. */
  readonly target: string
  /** The file of the repository. */
  readonly file: string
  readonly anchor: string | undefined
  /** Whether it leads into the repository on GitHub. */
  readonly onGitHub: boolean
}

/** The links of a document to files of the repository. Other links into the web are not checked. */
const linksOf = (document: string, text: string): ReadonlyArray<Link> =>
  [...withoutCode(text).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target]) => {
    const onGitHub = target!.startsWith(repository)
    if (!onGitHub && /^[a-z]+:/.test(target!)) return []
    const [path, anchor] = target!.split("#") as [string, string?]
    const file = onGitHub
      ? path.slice(repository.length)
      : path === ""
        ? document
        : Path.posix.join(Path.posix.dirname(document), path)
    return [{ target: target!, file, anchor, onGitHub }]
  })

/** The broken links of a document. */
const deadLinks = (document: string, source: (path: string) => string | undefined) =>
  linksOf(document, source(document) ?? "")
    .filter(({ anchor, file }) => {
      const text = source(file)
      return text === undefined || (anchor !== undefined && !anchorsOf(text).includes(anchor))
    })
    .map(({ target }) => target)

describe("the links", () => {
  const documents = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", ...guides]

  it.each(documents)("of %s lead to files and headings that exist", (path) => {
    expect(deadLinks(path, read)).toEqual([])
  })

  it("are reported when they are broken", () => {
    const files: Readonly<Record<string, string>> = {
      "a/A.md": `[x](../b.md) [x](../b.md#what-is-it) [x](c.md) [x](../b.md#no) [x](#no) \`[x](d.md)\`
        [x](${repository}b.md) [x](${repository}c.md) [x](https://example.com/c.md)`,
      "b.md": "## What is `it`?"
    }
    expect(deadLinks("a/A.md", (path) => files[path])).toEqual([
      "c.md",
      "../b.md#no",
      "#no",
      `${repository}c.md`
    ])
  })
})

describe("the package", () => {
  const { exports, files } = JSON.parse(read("package.json")!) as {
    readonly exports: Readonly<
      Record<string, string | { readonly "@effect-realtime/source": string }>
    >
    readonly files: ReadonlyArray<string>
  }

  /** What npm packs of the repository, without what is built. */
  const packed = new Set(["README.md", "LICENSE", "package.json"])
  const filesBelow = (path: string): ReadonlyArray<string> =>
    Fs.statSync(Path.join(root, path)).isDirectory()
      ? Fs.readdirSync(Path.join(root, path)).flatMap((name) => filesBelow(`${path}/${name}`))
      : [path]
  for (const pattern of files.filter((name) => name !== "dist")) {
    const isOut = pattern.startsWith("!")
    for (const path of Fs.globSync(isOut ? pattern.slice(1) : pattern, { cwd: root })) {
      for (const file of filesBelow(path)) {
        if (isOut) packed.delete(file)
        else packed.add(file)
      }
    }
  }
  const documents = [...packed].filter((path) => path.endsWith(".md"))

  it("contains the guides", () => {
    expect(documents).toEqual(expect.arrayContaining(guides))
  })

  it.each(documents)("has each file that %s links to, or the link leads to GitHub", (path) => {
    const missing = linksOf(path, read(path)!)
      .filter(({ file, onGitHub }) => !onGitHub && !packed.has(file))
      .map(({ target }) => target)
    expect(missing).toEqual([])
  })

  it("has a reference page for each of its modules", () => {
    const { entryPoints } = JSON.parse(read(".ci/docs/typedoc.json")!) as {
      readonly entryPoints: ReadonlyArray<string>
    }
    const modules = Object.values(exports).flatMap((target) =>
      typeof target === "string" ? [] : [target["@effect-realtime/source"]]
    )
    expect(entryPoints.map((path) => Path.posix.join(".ci/docs", path)).toSorted()).toEqual(
      modules.map((path) => Path.posix.normalize(path)).toSorted()
    )
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

  it("accepts a block that equals its region, at any indentation, and blocks of other languages", () => {
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

  it("reports a block that differs from its region", () => {
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

  it("reports a block with another name for ts, which no test would check", () => {
    expect(check("```js\nx()\n```\n~~~typescript\ny()\n~~~")).toEqual([
      "A.md:1: the block is js: write it as ts or tsx, so that it is checked",
      "A.md:4: the block is typescript: write it as ts or tsx, so that it is checked"
    ])
  })
})
