/**
 * The rules of the house: which file may import which, and what every file documents.
 *
 * Each file stands on a floor and imports go down only, so you can read a file without the files above
 * it. The rules apply to types too. A failure names the file and the cure.
 */
import { describe, expect, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { faultsOf, proseOf } from "./support/prose.ts"

const root = Path.resolve(import.meta.dirname, "..")
const read = (path: string) => Fs.readFileSync(Path.join(root, path), "utf8")

// -----------------------------------------------------------------------------------------------
// the tables

/** The wings and packages that each wing may import. */
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
  nats: {
    wings: ["nats", "server", "shared"],
    packages: ["effect module", "node", "driver", "nats"]
  },
  bin: {
    wings: ["bin", "nats", "node", "server", "shared"],
    packages: ["effect module", "node", "driver"]
  },
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
type Package =
  | "effect module"
  | "effect barrel"
  | "driver"
  | "react"
  | "node"
  | "ws"
  | "jose"
  | "nats"

/**
 * The floor of each file within its wing: an import goes to the same floor or to a lower one. A name
 * that ends with a slash is a folder: its files share a floor. Barrels (`index.ts`) have no floor,
 * because no file of src imports them.
 */
const floors: Readonly<Record<string, number>> = {
  "src/client/Readable.ts": 0,
  "src/client/internal/platform.ts": 0,
  "src/client/internal/time.ts": 0,
  "src/client/ClientError.ts": 1,
  "src/client/Connection.ts": 1,
  "src/client/PublishQueue.ts": 1,
  "src/client/internal/": 2,
  "src/client/Members.ts": 3,
  "src/client/Rows.ts": 3,
  "src/client/RealtimeClient.ts": 3,
  "src/client/PlainClient.ts": 4,
  "src/client/Collector.ts": 5,
  "src/client/History.ts": 5,
  "src/client/QueryStream.ts": 6,

  "src/server/internal/": 1,
  "src/server/internal/sql/": 1,
  "src/server/internal/link/": 1,
  "src/server/internal/reading/": 1,
  "src/server/FeedCarrier.ts": 1,
  "src/server/NodeBus.ts": 1,
  "src/server/Nodes.ts": 1,
  "src/server/NotificationSource.ts": 1,
  "src/server/MemorySource.ts": 1,
  "src/server/PgTls.ts": 1,
  "src/server/FrameSchema.ts": 1,
  "src/server/PgInstaller.ts": 1,
  "src/server/PgNotificationSource.ts": 2,
  "src/server/internal/bus/": 2,
  "src/server/internal/outbox/": 2,
  "src/server/ServerError.ts": 2,
  "src/server/internal/feed/": 2,
  "src/server/OutboxReader.ts": 3,
  "src/server/MemoryBus.ts": 3,
  "src/server/PgNodeBus.ts": 3,
  // These two are built on the public reader.
  "src/server/internal/outbox/consumers.ts": 4,
  "src/server/internal/outbox/memoryReader.ts": 4,
  "src/server/MemoryOutbox.ts": 4,
  "src/server/internal/hub/": 4,
  "src/server/internal/presence/": 4,
  "src/server/Realtime.ts": 5,
  "src/server/Rule.ts": 5,
  "src/server/ServerOptions.ts": 5,
  "src/server/QueryResults.ts": 6,
  "src/server/internal/limits/": 6,
  "src/server/internal/auth/": 7,
  "src/server/Jwt.ts": 8,
  "src/server/internal/session/": 8,
  "src/server/internal/door/": 9,
  "src/server/internal/control/": 10,
  "src/server/RealtimeServer.ts": 11
}

const floorOf = (path: string): number | undefined =>
  floors[path] ?? floors[`${Path.posix.dirname(path)}/`]

const wingsWithFloors: ReadonlySet<Wing> = new Set(["client", "server"])

/**
 * What a barrel exports beside one module per noun: the few names that its users write bare.
 */
const bare: Readonly<Record<string, ReadonlyArray<string>>> = {
  "src/index.ts": [],
  "src/client/index.ts": ["createRealtimeClient"],
  "src/nats/index.ts": [],
  "src/node/index.ts": [
    "AuthRefused",
    "ConsumerConflict",
    "DatabaseRefused",
    "InvalidOption",
    "NoOutbox",
    "NotDurable",
    "RealtimeServer",
    "RefusedToStart",
    "RowMismatch",
    "RuleRefused",
    "ServerClosed",
    "TransactionError"
  ],
  "src/react/index.ts": [
    "Collected",
    "Load",
    "RealtimeProvider",
    "RealtimeProviderProps",
    'export * from "./history.ts"',
    'export * from "./hooks.ts"',
    'export * from "./presence.ts"',
    'export * from "./publishing.ts"',
    'export * from "./queryStream.ts"',
    'export * from "./rows.ts"'
  ],
  "src/server/index.ts": [],
  "src/testing/index.ts": []
}

/** Modules with a subpath of their own, so an app loads them only when it imports them. */
const modules: Readonly<Record<string, string>> = {
  "./Channel": "Channel",
  "./pg-type": "PgType"
}

const maxLines = 500

/**
 * Folders whose comments and titles name the actor: `test/support/prose.ts` has the words. Without the
 * folders inside it where the name ends with a star.
 */
const plainProse = [
  "bench",
  "src/*",
  "src/bin",
  "src/client",
  "src/internal",
  "src/nats",
  "src/node",
  "src/react",
  "src/server",
  "src/testing",
  "test"
]

/** The files and folders at the top of the repository, beside the dot-files. */
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
  if (name === "@nats-io/transport-node") return "nats"
  return name === "ws" ? "ws" : undefined
}

/** Users run the files of `bin` and import none of them. */
const isPublic = (path: string) => !path.includes("/internal/") && wingOf(path) !== "bin"
const isBarrel = (path: string) => isPublic(path) && /\/index\.tsx?$/.test(path)

/** The first cycle along the edges, or `undefined`. */
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

/** The exported declarations of a file, each with the doc comment above it. */
const exported = (text: string) =>
  [...text.matchAll(declaration)].map((match) => {
    const above = text.slice(0, match.index).trimEnd()
    return {
      name: match[1]!,
      doc: above.endsWith("*/") ? above.slice(above.lastIndexOf("/**")) : ""
    }
  })

/** Whether a doc comment says something, with a full stop or a colon, before its first tag or example. */
const hasSentence = (doc: string): boolean => {
  const prose = doc.replaceAll(/^\s*(?:\/\*\*|\*(?!\/))/gm, "").split(/^\s*(?:@|\*\*Example)/m)[0]!
  return /[\w`)][.:](?=\s)/.test(prose)
}

// -----------------------------------------------------------------------------------------------

describe("the wings", () => {
  it("import only the wings of their list", () => {
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

  it("import only the packages of their list, and single modules of Effect", () => {
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

  it("import no barrel, because barrels are for users", () => {
    expect(
      files.flatMap(({ imports, path }) =>
        imports
          .filter(isBarrel)
          .map((target) => `${path} imports ${target}: import the module that has it`)
      )
    ).toEqual([])
  })

  it("import files that exist, with their extension", () => {
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

  it("have a number for every file of the client and the server", () => {
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

  it("have imports to the same floor or a lower one only", () => {
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

  it("have no internal file that imports a public file of its own floor or above", () => {
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

  it("have a session that imports no door and that no file of its folder imports", () => {
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

  it("have no import cycle", () => {
    expect(cycleIn(new Map(files.map(({ imports, path }) => [path, imports])))).toBeUndefined()
  })
})

describe("every file", () => {
  it(`has at most ${maxLines} lines`, () => {
    expect(
      files
        .map(({ path, text }) => ({ path, lines: text.trimEnd().split("\n").length }))
        .filter(({ lines }) => lines > maxLines)
    ).toEqual([])
  })

  it("has @since and @category on every public export", () => {
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

  it("says in a sentence what each public export is, before its tags", () => {
    expect(
      files
        .filter(({ path }) => !isBarrel(path))
        .flatMap(({ path, text }) =>
          exported(text)
            // An internal declaration with a category is exported by a public file.
            .filter(({ doc }) => isPublic(path) || doc.includes("@category"))
            .filter(({ doc }) => !hasSentence(doc))
            .map(
              ({ name }) => `${path}: the doc comment of ${name} needs a sentence before its tags`
            )
        )
    ).toEqual([])
  })

  it("has @since when it is a barrel", () => {
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

  it("exports barrels and single modules, each with source, types and build", () => {
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

  it("exports every barrel of src", () => {
    expect(entries.map(({ target }) => target["@effect-realtime/source"]).toSorted()).toEqual(
      files
        .filter(({ path }) => isBarrel(path))
        .map(({ path }) => `./${path}`)
        .concat(Object.values(modules).map((path) => `./src/${path}.ts`))
        .toSorted()
    )
  })
})

describe("the prose", () => {
  const sources = plainProse.flatMap((folder) =>
    Fs.readdirSync(Path.join(root, folder.replace("/*", "")), {
      recursive: !folder.endsWith("/*"),
      encoding: "utf8"
    })
      .filter((path) => /\.tsx?$/.test(path) && !path.includes("node_modules"))
      .map((path) => `${folder.replace("/*", "")}/${path.replaceAll("\\", "/")}`)
  )

  it("of every comment and test title names the actor, in the folders of the table", () => {
    expect(sources.flatMap((path) => faultsOf(path, read(path)))).toEqual([])
    expect(sources.length).toBeGreaterThan(100)
  })
})

describe("the repository", () => {
  it("has only the files and folders of the list at its top", () => {
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
  it("find every kind of import", () => {
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

  it("find a cycle of two files and a longer one", () => {
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

  it("distinguish a module from a barrel", () => {
    expect(
      ["effect/Effect", "effect/sql/SqlError", "effect", "effect/sql", "lodash"].map(packageOf)
    ).toEqual(["effect module", "effect module", "effect barrel", "effect barrel", undefined])
  })

  it("see a word of the prose that hides its actor, in comments and in titles", () => {
    // In parts, so that this file obeys the rule too.
    const hidden = ["some", "every"].map((which) => `${which}body`)
    const [told, label] = [["is", "told"].join(" "), ["B", 12].join("")]
    const text = `
it("${hidden[0]} leaves", () => {
  // ${hidden[1]} stays
  it.live.each([1])("${label}: a client %s leaves", () => "${hidden[0]}")
})
/** A client whose \`url\` ${told}. */
`
    expect(proseOf(text).map(({ kind, line }) => [kind, line])).toEqual([
      ["comment", 3],
      ["comment", 6],
      ["title", 2],
      ["title", 4]
    ])
    expect(faultsOf("a.ts", text)).toEqual([
      `a.ts:3: the comment says "${hidden[1]}": name the actor instead`,
      `a.ts:6: the comment says "${told}": name the actor instead`,
      `a.ts:2: the title says "${hidden[0]}": name the actor instead`,
      `a.ts:4: the title says "${label}:": name the actor instead`
    ])
  })

  it("see a doc comment without a sentence", () => {
    expect(
      [
        "/** A client. */",
        "/**\n * A client.\n *\n * @since 0.1.0\n */",
        "/**\n * @category models\n * @since 0.1.0\n */",
        "/**\n * **Example** (A client.)\n *\n * @since 0.1.0\n */",
        ""
      ].map(hasSentence)
    ).toEqual([true, true, false, false, false])
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
