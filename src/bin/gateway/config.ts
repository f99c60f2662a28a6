/**
 * What the gateway serves, as its JSON file says it. Flags and the environment give the same value.
 *
 * An unknown key is refused, because a rule that is misspelled would leave a channel open or closed by
 * accident.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import { jsonFault } from "./json.ts"

/** A claim of the token that equals the parameter of the channel's name, or a column of the row. */
const Claim = Schema.Struct({
  claim: Schema.NonEmptyString,
  param: Schema.optionalKey(Schema.NonEmptyString),
  column: Schema.optionalKey(Schema.NonEmptyString)
}).check(
  Schema.makeFilter(({ column, param }) => (column === undefined) !== (param === undefined), {
    expected: "a claim with either a param or a column"
  })
)

/** Which clients may do something: all, those with a valid token, or those with a claim. */
export const Access = Schema.Union([
  Schema.Literal("any"),
  Schema.Literal("signed-in"),
  Claim
]).annotate({
  message: `Expected "any" | "signed-in", or a claim such as { "claim": "team", "param": "id" } or { "claim": "team", "column": "team" }`
})

/** Which clients may do something. */
export type Access = typeof Access.Type

const Channel = Schema.Struct({
  delivery: Schema.optionalKey(Schema.Literals(["live", "durable", "volatile", "presence"])),
  read: Schema.optionalKey(Access),
  publish: Schema.optionalKey(Access),
  /** Of a volatile channel: the field whose newest value wins. */
  latestBy: Schema.optionalKey(Schema.NonEmptyString),
  /** Of a presence channel: what a member is. */
  counts: Schema.optionalKey(Schema.Literals(["persons", "devices"]))
})

/** A channel, or with a parameter in its name a family. */
export type Channel = typeof Channel.Type

const Columns = Schema.Union([Schema.NonEmptyString, Schema.NonEmptyArray(Schema.NonEmptyString)])

const Table = Schema.Struct({
  schema: Schema.optionalKey(Schema.NonEmptyString),
  /** Default: `table_updates_` and the table's name. */
  channel: Schema.optionalKey(Schema.NonEmptyString),
  by: Schema.optionalKey(Columns),
  filter: Schema.optionalKey(Columns),
  columns: Schema.optionalKey(Columns),
  read: Schema.optionalKey(Access)
})

/** A table whose changes clients see. */
export type Table = typeof Table.Type

/** The channel of a table. */
export const channelOf = (name: string, { channel }: Table): string =>
  channel ?? `table_updates_${name}`

const OneOrMore = Schema.Union([Schema.String, Schema.NonEmptyArray(Schema.String)])

const Jwt = Schema.Struct({
  /** A secret of at least 32 bytes, for HS256. */
  secret: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
  /** The https address of a key set. */
  keys: Schema.optionalKey(Schema.NonEmptyString),
  issuer: Schema.optionalKey(OneOrMore),
  audience: Schema.optionalKey(OneOrMore),
  /** The cookie that holds the token of a client that sends none. */
  cookie: Schema.optionalKey(Schema.NonEmptyString)
})

/** How tokens are checked. */
export type Jwt = typeof Jwt.Type

const Limits = Schema.Struct({
  maxSessions: Schema.optionalKey(Schema.Int),
  maxSessionsPerIdentity: Schema.optionalKey(Schema.Int),
  maxSessionsPerAddress: Schema.optionalKey(Schema.Int),
  maxSubscriptions: Schema.optionalKey(Schema.Int),
  maxFrameBytes: Schema.optionalKey(Schema.Int),
  drainTimeout: Schema.optionalKey(Schema.DurationFromString)
})

const Nats = Schema.Struct({
  /** `host:4222`, as a list or with commas between them. */
  servers: Schema.optionalKey(OneOrMore),
  user: Schema.optionalKey(Schema.NonEmptyString),
  password: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
  token: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
  credentials: Schema.optionalKey(Schema.NonEmptyString),
  root: Schema.optionalKey(Schema.NonEmptyString),
  ca: Schema.optionalKey(Schema.NonEmptyString),
  cert: Schema.optionalKey(Schema.NonEmptyString),
  key: Schema.optionalKey(Schema.NonEmptyString)
})

/** The file. */
export const Config = Schema.Struct({
  database: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
  /** Where the node listens and reads, when `database` leads to a pooler. */
  listen: Schema.optionalKey(Schema.RedactedFromValue(Schema.String)),
  /** The schema of the installed objects. */
  schema: Schema.optionalKey(Schema.NonEmptyString),
  host: Schema.optionalKey(Schema.NonEmptyString),
  port: Schema.optionalKey(Schema.Int),
  /** The path of the WebSocket. */
  path: Schema.optionalKey(Schema.TemplateLiteral(["/", Schema.String])),
  origins: Schema.optionalKey(
    Schema.Union([Schema.Literal("any"), Schema.Array(Schema.NonEmptyString)]).annotate({
      message: 'Expected "any", or a list of origins such as ["https://app.example.com"]'
    })
  ),
  trustProxy: Schema.optionalKey(Schema.Int),
  /** The name of this node, which no other node has. */
  name: Schema.optionalKey(Schema.NonEmptyString),
  /** Whether every client may use what has no rule. */
  allowAll: Schema.optionalKey(Schema.Boolean),
  /** Whether the gateway installs what it needs, default `true`. */
  install: Schema.optionalKey(Schema.Boolean),
  channels: Schema.optionalKey(Schema.Record(Schema.String, Channel)),
  tables: Schema.optionalKey(Schema.Record(Schema.String, Table)),
  jwt: Schema.optionalKey(Jwt),
  /** What joins the nodes in place of PostgreSQL. */
  nats: Schema.optionalKey(Nats),
  limits: Schema.optionalKey(Limits)
})

/** What the gateway serves. */
export type Config = typeof Config.Type

/**
 * The gateway cannot start with what it was given. The message names the place and the cure, and no secret.
 */
export class InvalidGateway extends Schema.TaggedError<InvalidGateway>()("InvalidGateway", {
  /** The file, flag or variable. */
  where: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `${this.where}: ${this.reason}`
  }
}

const issuesOf = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) =>
    issue._tag === "UnexpectedKey"
      ? "is not a known key"
      : issue._tag === "MissingKey"
        ? "is missing"
        : SchemaIssue.defaultLeafHook(issue)
})

/** What a value must be, in our words for those of its Schema. */
const inWords: ReadonlyMap<string, string> = new Map([
  ["number", "a whole number"],
  ["boolean", "true or false"],
  ["string", "a text"],
  ["a value with a length of at least 1", "a text that is not empty"],
  ["a valid Duration string", 'a duration such as "30 seconds"'],
  ["a string that will be decoded as a Duration", 'a duration such as "30 seconds"'],
  ["a string matching template literal parts", 'a path such as "/realtime"']
])

/** Each fault with its place, such as `channels.news.raed is not a known key`. */
const faultsOf = (issue: SchemaIssue.Issue): string =>
  issuesOf(issue)
    .issues.map(({ message, path }) => {
      const [, expected] = /^Expected ([^]*)$/.exec(message) ?? []
      const text =
        expected === undefined ? message : `should be ${inWords.get(expected) ?? expected}`
      return `${(path ?? []).map(String).join(".") || "it"} ${text}`
    })
    .join("; ")

/** Says what is wrong with the text, and where. */
const checkText = (where: string, text: string): void => {
  const fault = jsonFault(text)
  if (fault === undefined) return
  const at = `line ${fault.line}, column ${fault.column}`
  throw new InvalidGateway({
    where,
    reason:
      fault.twice === undefined
        ? `The text is not JSON at ${at}.`
        : `The key ${fault.twice} is there twice, again at ${at}. Give it once.`
  })
}

/** Reads the text of a file. */
export const parse = (where: string, text: string): Effect.Effect<Config, InvalidGateway> =>
  Effect.try({
    try: (): unknown => {
      // Some editors write a mark of the byte order.
      const plain = text.replace(/^\uFEFF/, "")
      checkText(where, plain)
      return JSON.parse(plain)
    },
    catch: (error) => error as InvalidGateway
  }).pipe(
    Effect.flatMap((json) =>
      Schema.decodeUnknownEffect(Config)(json, { onExcessProperty: "error", errors: "all" }).pipe(
        Effect.mapError(({ issue }) => new InvalidGateway({ where, reason: `${faultsOf(issue)}.` }))
      )
    )
  )
