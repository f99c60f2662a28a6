/** Which clients of the gateway may do something: by their token, and by what its claims equal. */
import type * as Channel from "../../Channel.ts"
import type { Claims } from "../../server/Jwt.ts"
import type { Limited } from "../../server/Rule.ts"
import type { Action, Request } from "../../server/ServerOptions.ts"
import type { Access } from "./config.ts"

/** A client: its claims where it has a valid token, and a text that no other user has. */
export interface Client {
  readonly key: string
  readonly claims: Claims | undefined
}

/** What clients see, and which of them may use it. Without `read` or `publish` no client may. */
export interface Served {
  readonly definition: Channel.Definition
  readonly read: Access | undefined
  readonly publish: Access | undefined
  /** Of a table: whether a column can have a value. */
  readonly fits?: ((column: string, value: unknown) => boolean) | undefined
}

type Value = string | number | boolean

const isValue = (value: unknown): value is Value =>
  typeof value === "string" || typeof value === "boolean" || Number.isFinite(value)

/** The values of a claim: of a list, each of its values. An object, or a list in a list, equals nothing. */
const valuesOf = (claims: Claims, claim: string): ReadonlyArray<Value> => {
  const given = Object.hasOwn(claims, claim) ? claims[claim] : undefined
  return (Array.isArray(given) ? given : [given]).filter(isValue)
}

const allows = (
  access: Access | undefined,
  { claims }: Client,
  params: unknown,
  fits: Served["fits"]
): boolean | Limited => {
  if (access === undefined) return false
  if (access === "any") return true
  if (claims === undefined) return false
  if (access === "signed-in") return true
  const values = valuesOf(claims, access.claim)
  const { column } = access
  return column !== undefined
    ? { where: { [column]: values.filter((value) => fits?.(column, value) !== false) } }
    : values.some((value) => String(value) === params)
}

/** Whether a client may do what it requests, and which rows of a table it may see. */
export const authorizer = (served: ReadonlyArray<Served>) => {
  const accesses = new Map(served.map((one) => [one.definition, one]))
  const of: Record<Action, "read" | "publish"> = {
    subscribe: "read",
    publish: "publish",
    present: "publish"
  }
  return ({ action, definition, identity, params }: Request<Client>): boolean | Limited => {
    const one = accesses.get(definition)
    return allows(one?.[of[action]], identity, params, one?.fits)
  }
}
