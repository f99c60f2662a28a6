/**
 * Describes why a payload does not fit, without quoting it: the path, what the Schema expects there, and
 * which Schema would fit.
 *
 * A path names only keys that the Schema names; a key that is data (of a record, inside of jsonb) is `[*]`.
 * Messages from a schema's own functions are left out, because they may quote the value.
 */
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import * as Exact from "../../../internal/exact.ts"

export interface Unfit {
  readonly path: string
  readonly expected: string
  /** How to fix it, where that is known. */
  readonly cure: string | undefined
}

export type Path = ReadonlyArray<PropertyKey>

/** A part of an issue that has no parts itself. */
interface Leaf {
  readonly path: Path
  readonly issue: SchemaIssue.Issue
}

/** All leaves of an issue, in the order of the schema. */
const leavesOf = (issue: SchemaIssue.Issue, path: Path): ReadonlyArray<Leaf> => {
  switch (issue._tag) {
    case "Pointer":
      return leavesOf(issue.issue, [...path, ...issue.path])
    case "Encoding":
      return leavesOf(issue.issue, path)
    case "Composite":
      return issue.issues.flatMap((one) => leavesOf(one, path))
    case "AnyOf":
      return issue.issues.length === 0
        ? [{ path, issue }]
        : issue.issues.flatMap((one) => leavesOf(one, path))
    case "Filter":
      // A filter may point at another path.
      return [
        { path: issue.issue._tag === "Pointer" ? [...path, ...issue.issue.path] : path, issue }
      ]
    default:
      return [{ path, issue }]
  }
}

const unsaid = "what the schema's own check takes"

const annotated = (annotations: { readonly [name: string]: unknown } | undefined) => {
  const text = annotations?.["expected"] ?? annotations?.["title"] ?? annotations?.["identifier"]
  return typeof text === "string" ? text : unsaid
}

const expectedOf = (issue: SchemaIssue.Issue): string => {
  switch (issue._tag) {
    case "Filter":
      return annotated(issue.filter.annotations)
    case "InvalidValue":
      return annotated(issue.annotations)
    case "MissingKey":
      return "the key to be there"
    case "AnyOf":
      return expectedOf(new SchemaIssue.InvalidType(issue.ast))
    case "InvalidType":
    case "OneOf":
    case "UnexpectedKey":
    case "Forbidden":
      return SchemaIssue.defaultLeafHook(issue).replace(/^Expected /, "")
    default:
      return unsaid
  }
}

/** What a schema holds under a key, and whether the schema names that key. */
export const under = (
  asts: ReadonlyArray<SchemaAST.AST>,
  key: PropertyKey
): { readonly named: boolean; readonly asts: ReadonlyArray<SchemaAST.AST> } => {
  let named = false
  const found: Array<SchemaAST.AST> = []
  // A recursive schema appears again only under a deeper key.
  const met = new Set<SchemaAST.AST>()
  const look = (ast: SchemaAST.AST): void => {
    if (met.has(ast)) return
    met.add(ast)
    switch (ast._tag) {
      case "Union":
        return ast.types.forEach(look)
      case "Suspend":
        return look(SchemaAST.toEncoded(ast.thunk()))
      case "Arrays":
        if (typeof key === "number") {
          named = true
          const element = ast.elements[key]
          found.push(...(element === undefined ? ast.rest : [element]))
        }
        return
      case "Objects": {
        const property = ast.propertySignatures.find(({ name }) => name === key)
        if (property !== undefined) {
          named = true
          found.push(property.type)
        } else found.push(...ast.indexSignatures.map(({ type }) => type))
        return
      }
      default:
    }
  }
  asts.forEach(look)
  return { named, asts: found.map((ast) => SchemaAST.toEncoded(ast)) }
}

/** A path as text. Without a schema every key is `[*]`. */
export const pathText = (ast: SchemaAST.AST | undefined, path: Path): string => {
  let asts: ReadonlyArray<SchemaAST.AST> = ast === undefined ? [] : [SchemaAST.toEncoded(ast)]
  let text = ""
  for (const key of path) {
    const next = under(asts, key)
    text += next.named ? `[${typeof key === "number" ? key : JSON.stringify(String(key))}]` : "[*]"
    asts = next.asts
  }
  return text
}

/** The value at a path of parsed JSON; `undefined` where the path does not exist. */
export const valueAt = (value: unknown, path: Path): unknown => {
  let at = value
  for (const key of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return undefined
    at = (at as Readonly<Record<PropertyKey, unknown>>)[key]
  }
  return at
}

const smallest = -(2n ** 63n)

const isInt8 = (digits: string): boolean =>
  /^-?[0-9]{1,19}$/.test(digits) && BigInt(digits) >= smallest && BigInt(digits) < -smallest

/** `made`: the number from which the string at that place was made. */
const cureOf = (expected: string, value: unknown, made: string | undefined): string | undefined => {
  if (made !== undefined) {
    const fits = Exact.isFraction(made)
      ? "PgType.numeric, or with PgType.float, which rounds"
      : isInt8(made)
        ? "PgType.int8"
        : "PgType.numeric"
    return `a number that a double does not hold exactly arrives as a string: read the column with ${fits}`
  }
  if (typeof value !== "number" || !/\bstring\b/.test(expected)) return undefined
  const fits = Number.isInteger(value) ? "PgType.int8String or PgType.numeric" : "PgType.numeric"
  return `a number that a double holds exactly arrives as a number: read the column with ${fits}, which read both forms`
}

/**
 * Describes the first value that does not fit. `made` returns the number from which the string at a path
 * was made. `rounds` says whether that string would be rounded if the rest fitted.
 */
export const unfitOf = (
  ast: SchemaAST.AST,
  issue: SchemaIssue.Issue,
  value: unknown,
  made: (path: Path) => string | undefined,
  rounds: (path: Path) => boolean
): Unfit => {
  const leaves = leavesOf(issue, [])
  const leaf = leaves.find(({ path }) => !rounds(path)) ?? leaves[0]!
  const expected = expectedOf(leaf.issue)
  return {
    path: pathText(ast, leaf.path),
    expected,
    cure: cureOf(expected, valueAt(value, leaf.path), made(leaf.path))
  }
}
