/**
 * Rows of a query in the form that they have in events: PostgreSQL writes them as JSON under the same
 * settings as a trigger does, and the row's Schema decodes them. The driver's own types are not used.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import type { SqlError } from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import * as Channel from "../../../Channel.ts"
import type { Codec } from "../../../ChannelBase.ts"
import * as Reading from "../reading/reading.ts"
import { rowSettings } from "../sql/rowText.ts"

/**
 * A row of a state does not match its Schema.
 *
 * @category errors
 * @since 0.1.0
 */
export class RowMismatch extends Schema.TaggedError<RowMismatch>()("RowMismatch", {
  /** The path, as in `["total"]`; never with a name that is data. */
  path: Schema.String,
  /** What the Schema expects there. */
  expected: Schema.String,
  /** How to fix it, where that is known. */
  cure: Schema.UndefinedOr(Schema.String)
}) {
  override get message(): string {
    const { cure, expected, path } = this
    return `A row does not match its Schema: expected ${expected}${path === "" ? "" : ` at ${path}`}.${cure === undefined ? "" : ` There ${cure}.`}`
  }
}

const settings = Object.entries(rowSettings)

/** Sets the settings for the transaction, and returns their previous values. */
const pin = `with wanted as materialized (
  select n, v, current_setting(n) was from unnest($1::text[], $2::text[]) w(n, v))
select n, was, set_config(n, v, true) from wanted`

const restore = "select set_config(n, was, true) from unnest($1::text[], $2::text[]) w(n, was)"

const list = (texts: ReadonlyArray<string>): string =>
  `{${texts.map((text) => `"${text.replaceAll(/[\\"]/g, String.raw`\$&`)}"`).join(",")}}`

/** Keyed by the schema, for one that is used often, such as by an HTTP API. */
const codecs = new WeakMap<object, Codec<unknown>>()

const codecOf = <A, I>(row: Schema.Codec<A, I>): Codec<A> => {
  let codec = codecs.get(row) as Codec<A> | undefined
  if (codec === undefined) {
    codec = Channel.make("rows", row).codec as Codec<A>
    codecs.set(row, codec as Codec<unknown>)
  }
  return codec
}

/** Whether a decoded row is its own JSON. Then the list stays plain, which React demands of a server component. */
const isJson = <A>({ schema }: Codec<A>): boolean => {
  const ast = schema?.().ast
  return ast !== undefined && SchemaAST.toType(ast) === ast
}

/**
 * Runs a query and decodes its rows in the form that they have in events. The numbers, times and texts of a
 * row are the same in a state as in its event, whatever the settings of the session. For `snapshot`, or by
 * itself.
 *
 * `JSON.stringify` writes the rows as they travel in events: decode that text with the same Schema. The
 * query runs in UTC, so `date_trunc('day', now())` in it is a day of UTC. A row that does not match fails
 * with `RowMismatch`, which names the column and what fits.
 *
 * **Example** (A state with its position)
 *
 * ```ts
 * Realtime.snapshot(Realtime.readRows(Order, sql`select * from orders where status = ${"new"}`))
 * ```
 *
 * @category reading state
 * @since 0.1.0
 */
export const readRows = <A, I>(
  row: Schema.Codec<A, I>,
  query: Fragment
): Effect.Effect<ReadonlyArray<A>, SqlError | RowMismatch, PgClient> =>
  Effect.gen(function* () {
    const sql = yield* PgClient
    const client = sql.withoutTransforms()
    const codec = codecOf(row)
    const texts = yield* sql.withTransaction(
      Effect.gen(function* () {
        const names = settings.map(([name]) => name)
        const values = settings.map(([, value]) => value)
        const before = yield* client.unsafe<{ readonly n: string; readonly was: string }>(pin, [
          list(names),
          list(values)
        ])
        // As text: the driver would read the numbers of JSON as doubles. As "q.*", since a column may be "q".
        // The line break ends a comment at the end of the query.
        const found = yield* client<{
          readonly j: string
        }>`select row_to_json(q.*)::text j from (${query}
) q`
        // Later statements of this transaction run under its own settings.
        yield* client.unsafe(restore, [
          list(before.map(({ n }) => n)),
          list(before.map(({ was }) => was))
        ])
        return found
      })
    )
    const decoded: Array<A> = []
    for (const { j } of texts) {
      const read = Reading.read(codec, "rows", j, Reading.rowText)
      if (Result.isFailure(read)) return yield* new RowMismatch(read.failure)
      decoded.push(read.success)
    }
    if (isJson(codec)) return decoded
    const toJSON = () => decoded.map((value) => Result.getOrThrow(codec.encode(value, "rows")))
    return Object.defineProperty(decoded, "toJSON", { value: toJSON })
  })
