/**
 * The rules of the house: which file may know which, and what every file owes its reader.
 *
 * Files stand on floors and imports go down only, so that any file can be read with nothing above it
 * in mind. The rules hold for types too. A failure names the file and says what to do.
 */
import { describe, expect, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"

const root = Path.resolve(import.meta.dirname, "..")
const read = (path: string) => Fs.readFileSync(Path.join(root, path), "utf8")

// -----------------------------------------------------------------------------------------------
// the tables

/** What each wing may import: wings, and packages by name. */
const wings = {
  shared: { wings: ["shared"], packages: ["effect module"] },
  client: { wings: ["client", "shared"], packages: ["effect module"] },
  react: { wings: ["react", "client", "shared"], packages: ["effect module", "react"] },
  server: {
    wings: ["server", "shared"],
    packages: ["effect module", "node", "ws", "driver", "jose"]
  },
  node: {
    wings: ["node", "server", "shared"],
    packages: ["effect module", "node", "driver"]
  },
  bin: { wings: ["bin", "server", "shared"], packages: ["effect module", "node"] },
  testing: {
    wings: ["testing", "node", "server", "react", "client", "shared"],
    packages: ["effect module", "effect barrel", "node", "ws", "driver"]
  }
} as const satisfies Record<string, Rule>

interface Rule {
  readonly wings: ReadonlyArray<string>
  readonly packages: ReadonlyArray<Package>
}

type Wing = keyof typeof wings
type Package = "effect module" | "effect barrel" | "driver" | "react" | "node" | "ws" | "jose"

/**
 * The floor of each file within its wing: an import goes to the same floor or to a lower one. A name
 * that ends with a slash is a folder, and its files stand together. Barrels (`index.ts`) stand on none,
 * because nobody imports them.
 */
const floors: Readonly<Record<string, number>> = {
  "src/client/Readable.ts": 0,
  "src/client/internal/platform.ts": 0,
  "src/client/internal/time.ts": 0,
  "src/client/ClientError.ts": 1,
  "src/client/Connection.ts": 1,
  "src/client/PublishQueue.ts": 1,
  "src/client/internal/": 2,
  "src/client/RealtimeClient.ts": 3,
  "src/client/PlainClient.ts": 4,
  "src/client/Collector.ts": 5,

  "src/server/internal/": 1,
  "src/server/internal/sql/": 1,
  "src/server/internal/link/": 1,
  "src/server/internal/reading/": 1,
  "src/server/NotificationSource.ts": 1,
  "src/server/MemorySource.ts": 1,
  "src/server/PgTls.ts": 1,
  "src/server/FrameSchema.ts": 1,
  "src/server/PgInstaller.ts": 1,
  "src/server/PgNotificationSource.ts": 2,
  "src/server/internal/outbox/": 2,
  "src/server/ServerError.ts": 2,
  "src/server/OutboxReader.ts": 3,
  // These two are made of the reader's face, and stand on it.
  "src/server/internal/outbox/consumers.ts": 4,
  "src/server/internal/outbox/memoryReader.ts": 4,
  "src/server/MemoryOutbox.ts": 4,
  "src/server/internal/hub/": 4,
  "src/server/Realtime.ts": 5,
  "src/server/ServerOptions.ts": 5,
  "src/server/QueryResults.ts": 6,
  "src/server/internal/limits/": 6,
  "src/server/internal/auth/": 7,
  "src/server/Jwt.ts": 8,
  "src/server/internal/session/": 8,
  "src/server/internal/door/": 9,
  "src/server/RealtimeServer.ts": 10
}

const floorOf = (path: string): number | undefined =>
  floors[path] ?? floors[`${Path.posix.dirname(path)}/`]

const wingsWithFloors: ReadonlySet<Wing> = new Set(["client", "server"])

/**
 * What a barrel exports beside one module per noun: the few names that its users write bare.
 */
const bare: Readonly<Record<string, ReadonlyArray<string>>> = {
  "src/index.ts": [],
  "src/node/index.ts": [
    "AuthRefused",
    "DatabaseRefused",
    "InvalidOption",
    "RealtimeServer",
    "RefusedToStart",
    "ServerClosed"
  ],
  "src/react/index.ts": [
    "Collected",
    "LatestOptions",
    "Load",
    "RealtimeProvider",
    "RealtimeProviderProps",
    'export * from "./hooks.ts"',
    'export * from "./publishing.ts"'
  ],
  "src/server/index.ts": [],
  "src/testing/index.ts": []
}

/** Modules that are a subpath of the package by themselves: nobody pays for them who does not ask. */
const modules: Readonly<Record<string, string>> = { "./pg-type": "PgType" }

const maxLines = 500

/** What may stand beside the dot-files at the top of the repository. */
const topLevel = new Set([
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  "LICENSE",
  "README.md",
  "bench",
  "docker-compose.yml",
  "examples",
  "knip.json",
  "package-lock.json",
  "package.json",
  "src",
  "test",
  "tsconfig.json",
  "vitest.config.ts"
])

// -----------------------------------------------------------------------------------------------
// reading

const withoutComments = (text: string) =>
  text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/^\s*\/\/.*$/gm, "")

const statement = /^(?:import|export)\s[\w\s{},*$]*?\bfrom\s*"([^"]+)"/gm
const sideEffect = /^import\s*"([^"]+)"/gm
const expression = /\bimport\(\s*"([^"]+)"/g

const specifiers = (text: string): ReadonlyArray<string> => {
  const code = withoutComments(text)
  return [statement, sideEffect, expression].flatMap((pattern) =>
    [...code.matchAll(pattern)].map((match) => match[1]!)
  )
}

const wingOf = (path: string): Wing => {
  const [, folder] = path.split("/")
  if (folder === undefined || folder.includes(".") || folder === "internal") return "shared"
  if (Object.hasOwn(wings, folder)) return folder as Wing
  throw new Error(`${path}: src/${folder} is no wing. Add it to the tables of test/house.test.ts.`)
}

interface File {
  readonly path: string
  readonly wing: Wing
  readonly text: string
  /** Files of src, from the root of the repository. */
  readonly imports: ReadonlyArray<string>
  readonly packages: ReadonlyArray<string>
}

const files: ReadonlyArray<File> = Fs.readdirSync(Path.join(root, "src"), {
  recursive: true,
  encoding: "utf8"
})
  .filter((path) => /\.tsx?$/.test(path))
  .map((path) => `src/${path.replaceAll("\\", "/")}`)
  .toSorted()
  .map((path) => {
    const text = read(path)
    const all = specifiers(text)
    return {
      path,
      wing: wingOf(path),
      text,
      imports: all
        .filter((name) => name.startsWith("."))
        .map((name) => Path.posix.join(Path.posix.dirname(path), name)),
      packages: all.filter((name) => !name.startsWith("."))
    }
  })

const packageOf = (name: string): Package | undefined => {
  if (/^effect\/([a-z-]+\/)?[A-Z]\w*$/.test(name)) return "effect module"
  if (/^effect(\/[a-z-]+)?$/.test(name)) return "effect barrel"
  if (/^@effect\/(sql-pg|platform-node)(\/\w+)?$/.test(name)) return "driver"
  if (/^react(\/jsx-runtime)?$/.test(name)) return "react"
  if (name.startsWith("node:")) return "node"
  if (name === "jose" || name.startsWith("jose/")) return "jose"
  return name === "ws" ? "ws" : undefined
}

const isPublic = (path: string) => !path.includes("/internal/")
const isBarrel = (path: string) => isPublic(path) && /\/index\.tsx?$/.test(path)

/** The first cycle that a walk along the edges meets, or none. */
const cycleIn = (edges: ReadonlyMap<string, ReadonlyArray<string>>) => {
  const done = new Set<string>()
  const walk = (path: string, above: ReadonlyArray<string>): ReadonlyArray<string> | undefined => {
    if (above.includes(path)) return [...above.slice(above.indexOf(path)), path]
    if (done.has(path)) return undefined
    for (const next of edges.get(path) ?? []) {
      const cycle = walk(next, [...above, path])
      if (cycle !== undefined) return cycle
    }
    done.add(path)
    return undefined
  }
  for (const path of edges.keys()) {
    const cycle = walk(path, [])
    if (cycle !== undefined) return cycle
  }
  return undefined
}

/** What a barrel exports that is no module under the name of its file. */
const bareExports = (text: string): ReadonlyArray<string> =>
  withoutComments(text)
    .split(/^(?=export\s)/m)
    .map((one) => one.trim())
    .filter((one) => one !== "")
    .flatMap((one) => {
      const noun = /^export \* as (\w+) from "\.\/(\w+)\.ts"$/.exec(one)
      if (noun !== null && noun[1] === noun[2]) return []
      const names = /^export (?:type )?\{([^}]*)\} from "[^"]+"$/.exec(one)
      return names === null
        ? [one]
        : names[1]!.split(",").flatMap((name) => name.trim().replace(/^type |^\w+ as /g, "") || [])
    })

const declaration =
  /^export (?:declare |abstract |async )*(?:const|let|var|class|interface|type|function\*?|enum|namespace) (\w+)/gm

/** The exported declarations of a file, each with the doc comment right above it. */
const exported = (text: string) =>
  [...text.matchAll(declaration)].map((match) => {
    const above = text.slice(0, match.index).trimEnd()
    return {
      name: match[1]!,
      doc: above.endsWith("*/") ? above.slice(above.lastIndexOf("/**")) : ""
    }
  })

// -----------------------------------------------------------------------------------------------

describe("the wings", () => {
  it("import only wings they may see", () => {
    expect(
      files.flatMap(({ imports, path, wing }) =>
        imports
          .filter(
            (target) => !(wings[wing].wings as ReadonlyArray<string>).includes(wingOf(target))
          )
          .map(
            (target) => `${path} imports ${target}: ${wing} may see ${wings[wing].wings.join(", ")}`
          )
      )
    ).toEqual([])
  })

  it("import only packages they may use, and single modules of Effect", () => {
    expect(
      files.flatMap(({ packages, path, wing }) =>
        packages
          .filter((name) => {
            const kind = packageOf(name)
            return kind === undefined || !(wings[wing] as Rule).packages.includes(kind)
          })
          .map(
            (name) => `${path} imports ${name}: ${wing} may use ${wings[wing].packages.join(", ")}`
          )
      )
    ).toEqual([])
  })

  it("import no barrel: those are for users", () => {
    expect(
      files.flatMap(({ imports, path }) =>
        imports
          .filter(isBarrel)
          .map((target) => `${path} imports ${target}: import the module that has it`)
      )
    ).toEqual([])
  })

  it("import files that exist, with their ending", () => {
    expect(
      files.flatMap(({ imports, path }) =>
        imports
          .filter((target) => !files.some((file) => file.path === target))
          .map((target) => `${path} imports ${target}, which is no file of src`)
      )
    ).toEqual([])
  })
})

describe("the floors", () => {
  const onFloors = files.filter(({ path, wing }) => wingsWithFloors.has(wing) && !isBarrel(path))

  it("hold every file of the client and the server", () => {
    const paths = onFloors.map(({ path }) => path)
    expect([
      ...paths
        .filter((path) => floorOf(path) === undefined)
        .map(
          (path) =>
            `${path} has no floor. Add it to \`floors\` in test/house.test.ts, on the lowest floor that is not below what it imports.`
        ),
      ...Object.keys(floors)
        .filter((place) =>
          paths.every((path) => path !== place && `${Path.posix.dirname(path)}/` !== place)
        )
        .map((path) => `${path} is gone. Remove it from \`floors\` in test/house.test.ts.`)
    ]).toEqual([])
  })

  it("are left downwards only", () => {
    expect(
      onFloors.flatMap(({ imports, path, wing }) =>
        imports
          .filter((target) => wingOf(target) === wing && floorOf(target)! > floorOf(path)!)
          .map(
            (target) =>
              `${path} (F${floorOf(path)}) imports ${target} (F${floorOf(target)}): hand it a Stream or a function from above instead`
          )
      )
    ).toEqual([])
  })

  it("have no internal that imports its own face: what it needs of a public file stands below it", () => {
    expect(
      onFloors.flatMap(({ imports, path, wing }) =>
        isPublic(path)
          ? []
          : imports
              .filter(
                (target) =>
                  wingOf(target) === wing && isPublic(target) && floorOf(target)! >= floorOf(path)!
              )
              .map((target) => `${path} imports ${target}: move what it needs down`)
      )
    ).toEqual([])
  })

  it("have a session that goes one way: it knows no door, and what it calls does not call it", () => {
    const session = onFloors.filter(({ path }) => path.startsWith("src/server/internal/session/"))
    expect(session.length).toBeGreaterThan(10)
    expect(
      session.flatMap(({ imports, path }) =>
        imports
          .filter(
            (target) =>
              target.startsWith("src/server/internal/door/") ||
              target === "src/server/internal/session/session.ts"
          )
          .map((target) => `${path} imports ${target}: use the port`)
      )
    ).toEqual([])
  })

  it("have no cycle", () => {
    expect(cycleIn(new Map(files.map(({ imports, path }) => [path, imports])))).toBeUndefined()
  })
})

describe("every file", () => {
  it(`has at most ${maxLines} lines: a longer one has two jobs`, () => {
    expect(
      files
        .map(({ path, text }) => ({ path, lines: text.trimEnd().split("\n").length }))
        .filter(({ lines }) => lines > maxLines)
    ).toEqual([])
  })

  it("says of every public export since when it exists and where it belongs", () => {
    expect(
      files
        .filter(({ path }) => isPublic(path) && !isBarrel(path))
        .flatMap(({ path, text }) =>
          exported(text)
            .filter(({ doc }) => !/@since \d/.test(doc) || !/@category \S/.test(doc))
            .map(({ name }) => `${path}: ${name} needs @category and @since in its doc comment`)
        )
    ).toEqual([])
  })

  it("that is a barrel says since when it exists", () => {
    expect(
      files
        .filter(
          ({ path, text }) => isBarrel(path) && !/^\/\*\*[\s\S]*?@since \d[\s\S]*?\*\//.test(text)
        )
        .map(({ path }) => `${path} needs a doc comment with @since`)
    ).toEqual([])
  })
})

describe("the words", () => {
  /** What two files of one wing's inside export under one name: for each, the same idea. */
  const sharedNames = new Set(["make", "layer", "none", "publish"])
  const inside = files.filter(({ path }) => !isPublic(path))

  /** Each name that two files of a wing's inside declare, with the files. */
  const twice = (pattern: RegExp, paths = inside) => {
    const places = new Map<string, Set<string>>()
    for (const { path, text, wing } of paths) {
      for (const [, name] of text.matchAll(pattern)) {
        const word = `${wing}: ${name}`
        places.set(word, (places.get(word) ?? new Set()).add(path))
      }
    }
    return [...places]
      .filter(([word, { size }]) => size > 1 && !sharedNames.has(word.split(" ")[1]!))
      .map(([word, found]) => `${word} in ${[...found].join(", ")}: name one by what it is`)
  }

  it("name one thing each: no two files of a wing's inside declare a type of one name", () => {
    expect(
      twice(/^(?:export )?(?:declare |abstract )*(?:class|interface|type|enum) (\w+)/gm)
    ).toEqual([])
  })

  it("name one thing each: no two files of a wing's inside export a value of one name", () => {
    expect(twice(/^export (?:async )?(?:const|let|class|function\*?) (\w+)/gm)).toEqual([])
  })

  it("of CONTRIBUTING.md are declared by one file of src at most", () => {
    const [, section = ""] = read("CONTRIBUTING.md").split("## Words of the inside")
    const words = [...section.split("\n## ")[0]!.matchAll(/^\| ([a-z]+) \|/gm)].map(
      ([, word]) => word!.charAt(0).toUpperCase() + word!.slice(1)
    )
    expect(words).toContain("Mailbox")
    expect(
      words.flatMap((word) => {
        const places = files
          .filter(({ text }) =>
            new RegExp(`^(?:export )?(?:abstract )?(?:class|interface|type) ${word}\\b`, "m").test(
              text
            )
          )
          .map(({ path }) => path)
        return places.length > 1 ? [`${word} is declared in ${places.join(", ")}`] : []
      })
    ).toEqual([])
  })
})

describe("the package", () => {
  interface Target {
    readonly "@effect-realtime/source": string
  }
  const { exports } = JSON.parse(read("package.json")) as {
    readonly exports: Readonly<Record<string, Target | string>>
  }
  const entries = Object.entries(exports).flatMap(([name, target]) =>
    typeof target === "string" ? [] : [{ name, target }]
  )

  it("exports barrels that exist, and single modules, each built from its source", () => {
    expect(entries.map(({ target }) => target)).toEqual(
      entries.map(({ name }) => {
        const path = name === "." ? "index" : (modules[name] ?? `${name.slice(2)}/index`)
        return {
          "@effect-realtime/source": `./src/${path}.ts`,
          types: `./dist/${path}.d.ts`,
          default: `./dist/${path}.js`
        }
      })
    )
    expect(
      entries
        .map(({ target }) => target["@effect-realtime/source"])
        .filter((path) => !Fs.existsSync(Path.join(root, path)))
    ).toEqual([])
  })

  it("exports one module per noun, and few names beside", () => {
    expect(
      Object.keys(bare).map((path) => [
        path,
        [...bareExports(files.find((file) => file.path === path)?.text ?? "gone")].toSorted()
      ])
    ).toEqual(Object.entries(bare))
  })

  it("exports every barrel there is", () => {
    expect(entries.map(({ target }) => target["@effect-realtime/source"]).toSorted()).toEqual(
      files
        .filter(({ path }) => isBarrel(path))
        .map(({ path }) => `./${path}`)
        .concat(Object.values(modules).map((path) => `./src/${path}.ts`))
        .toSorted()
    )
  })
})

describe("the repository", () => {
  it("has nothing at its top that is not on the list", () => {
    const listed = execFileSync(
      "git",
      ["ls-files", "-z", "--others", "--cached", "--exclude-standard"],
      { cwd: root, encoding: "utf8" }
    )
    const top = new Set(listed.split("\0").flatMap((path) => path.split("/")[0] || []))
    expect([...top].filter((name) => !name.startsWith(".") && !topLevel.has(name))).toEqual([])
    expect(top).toContain("package.json")
  })
})

describe("these rules", () => {
  it("see every way to import", () => {
    expect(
      specifiers(`
        /* import "comment" */
        // import "another comment"
import * as A from "a"
import type { B } from "b"
import {
  C,
  type D
} from "c"
import "d"
export * from "e"
export { F } from "f"
export type { G } from "g"
const h = await import("h")
const text = "from somewhere"
`)
    ).toEqual(["a", "b", "c", "e", "f", "g", "d", "h"])
    expect(
      files.filter(({ imports, packages }) => imports.length + packages.length > 0).length
    ).toBe(files.filter(({ text }) => /^(import|export) .*from "|^} from "/m.test(text)).length)
  })

  it("see a cycle, also a long one", () => {
    const edges = new Map([
      ["a", ["b", "c"]],
      ["b", ["c"]],
      ["c", ["d"]]
    ])
    expect(cycleIn(edges)).toBeUndefined()
    expect(cycleIn(new Map([...edges, ["d", ["b"]]]))).toEqual(["b", "c", "d", "b"])
  })

  it("see what a barrel exports beside its modules", () => {
    expect(
      bareExports(`/** A barrel. */
export * as A from "./A.ts"
export * as B from "./internal/b.ts"
export * as C from "./D.ts"
export { make as e } from "./E.ts"
export type {
  /** with a comment */
  F,
  G
} from "./F.ts"
export * from "./H.ts"
`)
    ).toEqual([
      'export * as B from "./internal/b.ts"',
      'export * as C from "./D.ts"',
      "e",
      "F",
      "G",
      'export * from "./H.ts"'
    ])
  })

  it("tell a module from a barrel", () => {
    expect(
      ["effect/Effect", "effect/sql/SqlError", "effect", "effect/sql", "lodash"].map(packageOf)
    ).toEqual(["effect module", "effect module", "effect barrel", "effect barrel", undefined])
  })

  it("see an export without its tags", () => {
    expect(
      exported(`/**
 * @category a
 * @since 0.1.0
 */
export const documented = 1
export interface Bare {}
export type { Again } from "b"
`).map(({ doc, name }) => [name, doc.includes("@since")])
    ).toEqual([
      ["documented", true],
      ["Bare", false]
    ])
  })
})
