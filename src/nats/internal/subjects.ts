/**
 * The subjects of a database in NATS: all under one prefix of its identity and of the schema of its objects.
 *
 * `<root>.<identity>.<schema>.<part>...`: the identity as a digest, because it is text of any length.
 */
import { createHash } from "node:crypto"
import { natsConnection as Defaults } from "../../internal/defaults.ts"

/** What begins all subjects of this library, unless an option says otherwise. */
export const usualRoot = Defaults.root

/** One token of a subject or more, without wildcards. */
const root = /^[\w-]+(?:\.[\w-]+)*$/

/** What is wrong with the beginning of all subjects, or `undefined`. */
export const rootFault = (text: unknown): string | undefined =>
  typeof text === "string" && text.length <= 100 && root.test(text)
    ? undefined
    : "1-100 of A-Z a-z 0-9 _ - and single dots between them"

/** 16 hexadecimal digits. */
const identityToken = (identity: string): string =>
  createHash("sha256").update(identity).digest("hex").slice(0, 16)

/** What all subjects of a database begin with, without the dot after it. */
export const prefixOf = (root: string, identity: string, schema: string): string =>
  `${root}.${identityToken(identity)}.${schema}`

/**
 * The name of a channel as one token. A name may begin and end with a dot and have two in a row, which no
 * subject may, and a server limits the number of tokens.
 */
export const channelToken = (channel: string): string => channel.replaceAll(".", "=2E")

/** The channel of a token. */
export const channelOfToken = (token: string): string => token.replaceAll("=2E", ".")

/** What a node may do in NATS, as subjects. */
export interface Permissions {
  readonly publish: ReadonlyArray<string>
  readonly subscribe: ReadonlyArray<string>
}

/**
 * The permissions that a node needs. Every node sends and receives on every subject, because each may
 * become the one that reads or listens for all. Without an identity: those for every database with a
 * schema of that name.
 */
export const permissionsOf = ({
  identity,
  root,
  schema
}: {
  readonly root: string
  readonly schema: string
  readonly identity?: string | undefined
}): Permissions => {
  const database = identity === undefined ? "*" : identityToken(identity)
  const all = [`${root}.${database}.${schema}.>`]
  return { publish: all, subscribe: all }
}

/** One of each kind of subject that live channels use. */
export const liveSubjects = (prefix: string): ReadonlyArray<string> =>
  ["ask", "answer.probe", "beat", "c.probe"].map((last) => `${prefix}.live.${last}`)
