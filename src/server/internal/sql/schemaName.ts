/**
 * The name of the schema that everything is installed in.
 *
 * All SQL of this library is written for a schema named "realtime". For another name, each text is
 * rewritten on its way to the database, here and nowhere else: the schema, the settings of a session and
 * the triggers that have its name, and the channel that wakes readers.
 */
import * as Context from "effect/Context"

/** The name without an option. */
export const usual = "realtime"

/**
 * The schema of the objects, default `realtime`, for everything that is provided with it.
 *
 * @category services
 * @since 0.1.0
 */
export const SchemaName: Context.Reference<string> = Context.Reference(
  "effect-realtime/server/SchemaName",
  { defaultValue: () => usual }
)

/** Plain names only: they need no quotes, also as a part of another name. */
const plain = /^(?!pg_)[a-z_][a-z0-9_]{0,30}$/

/** What is wrong with the name of a schema, or `undefined`. */
export const schemaNameFault = (schema: string): string | undefined =>
  plain.test(schema)
    ? undefined
    : `The schema ${JSON.stringify(schema.slice(0, 80))} has no plain name: 1-31 of a-z 0-9 _, not beginning with a digit or "pg_".`

/**
 * The NOTIFY channel that wakes the readers of an install. Like every name with this prefix, it is
 * reserved.
 */
export const wakeChannel = (schema: string): string =>
  schema === usual ? usual : `${usual}:${schema}`

/**
 * The NOTIFY channel of the bus between the nodes of an install. No schema has a colon in its name, so it
 * never is a channel that wakes readers.
 */
export const busChannel = (schema: string): string => `${usual}:bus:${schema}`

/** Whether a reserved name is one of those, which only a bus uses. */
export const isBusChannel = (name: string): boolean => name.startsWith(busChannel(""))

/** `realtime` as a schema, as the prefix of a setting or a trigger, and as the channel of a wake. */
const places =
  /(?<![-\w."])realtime(?=\.)|(?<=schema (?:if (?:not )?exists )?"?)realtime(?!\w)|(?<=regnamespace\(')realtime(?='\))|realtime(?='::regnamespace)|(?<=nspname (?:= |in \()')realtime(?=')|(?<=!\??)realtime(?=_)|(?<=pg_notify\(')realtime(?=')/g

const known = new Map<string, Map<string, string>>()

/** Rewrites a text of SQL for the schema of this name. */
export const inSchema = (schema: string, text: string): string => {
  if (schema === usual) return text
  let texts = known.get(schema)
  if (texts === undefined) known.set(schema, (texts = new Map()))
  let written = texts.get(text)
  if (written === undefined) {
    written = text.replaceAll(places, (_, at: number) =>
      text.startsWith("pg_notify('", at - 11) ? wakeChannel(schema) : schema
    )
    // Texts that are built anew for each call would fill the cache.
    if (texts.size < 500) texts.set(text, written)
  }
  return written
}
