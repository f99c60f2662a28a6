/**
 * The statement of a page that leaves out what a filter excludes. It judges by `match` and never by the
 * payload.
 *
 * `match` may hold any text. So it is not parsed: a value is found in it as the JSON of its column and
 * itself, which PostgreSQL and JavaScript write in the same way. That includes a message as soon as each
 * column has a value of the filter before or after the change: all that the filter includes, and a few more
 * for the caller to judge. A message without `match`, or without a column of the filter, is included.
 *
 * One page looks at a bounded number of messages, however few of them the filter includes: its time does not
 * grow with the channel. Then the last of them ends the page, without its payload.
 */
import type { Filter } from "../filter.ts"
import { databaseOf, messagesOf, size, writtenAt } from "./outbox.ts"

/** The most messages that a page looks at. */
export const candidates = 4096

/** The arguments before those of the filter. */
const before = { one: 11, route: 12 } as const

/** Whether a filter with so many columns may include the message "u". Its arguments begin with this parameter. */
export const included = (columns: number, first: number): string => {
  const parameters = Array.from({ length: columns }, (_, index) => first + 2 * index)
  const all = (each: (parameter: number) => string) => parameters.map(each).join(" and ")
  return `(u.match is null or not starts_with(u.match, '{')
    or not (${all((at) => `strpos(u.match, $${at}::text) > 0`)})
    or ${all((at) => `u.match like any($${at + 1}::text[])`)})`
}

const filtered = (scope: keyof typeof before, columns: number): string => {
  const messages = before[scope] + 1
  return `select q.txid::text t, q.id::text i, q.channel c, case when q.included then q.payload end p, q.match x, ${writtenAt} at, q.more, k.snapshot::text h, k.k, k.there
from (select snapshot, ${databaseOf(scope)} from realtime.horizon limit 1) k left join (
 select s.*, lead(s.id) over (order by s.id) is null last from (
  select p.*, lead(id) over w is not null more, row_number() over w r, count(*) filter (where included) over w n,
   coalesce(sum(size) filter (where included) over w, 0) - case when included then size else 0 end before from (
   select u.*, ${included(columns, messages + 1)} included, ${size} size from (
    ${messagesOf(scope)}
   ) u
  ) p window w as (order by p.id rows unbounded preceding)
 ) s where s.r <= $6::int and s.before < $7::bigint and s.n <= $${messages}::int
) q on q.included or q.last
order by q.id`
}

const statements = new Map<string, string>()

export const filteredStatement = (scope: keyof typeof before, { columns }: Filter): string => {
  const key = `${scope} ${columns.size}`
  let statement = statements.get(key)
  if (statement === undefined) statements.set(key, (statement = filtered(scope, columns.size)))
  return statement
}

/** A text that PostgreSQL does not hold is of no row, and cannot be sent to it. */
const isHeld = (text: string | null): boolean => text === null || !/\0|\p{Surrogate}/u.test(text)

const element = (text: string): string => `"${text.replaceAll(/[\\"]/g, String.raw`\$&`)}"`

/** For each column of the filter what it begins with, and the patterns of its values as the text of an array. */
export const filteredArguments = ({ columns }: Filter): ReadonlyArray<string> =>
  [...columns].flatMap(([column, texts]) => {
    const name = `${JSON.stringify(column)}:`
    const patterns = [...texts].filter(isHeld).map((text) => {
      const found = name + JSON.stringify(text)
      return element(`%${found.replaceAll(/[\\%_]/g, String.raw`\$&`)}%`)
    })
    return [name, `{${patterns.join(",")}}`]
  })
