/** A page with two boundaries, each with a snapshot of its own, for the server and for the browser. */
import type { RealtimeEvent } from "effect-realtime"
import { useChannel } from "effect-realtime/react"
import { Suspense } from "react"
import { type Order, Orders } from "./orders.ts"

export type Rows = RealtimeEvent.Snapshot<ReadonlyArray<Order>>

/** Gives the snapshot of a boundary: on the server by `use`, in the browser from the HTML. */
export type Read = (name: "early" | "late") => Rows

interface Shown {
  readonly rows: ReadonlyArray<Order>
  /** What the page has heard since the server rendered it: not idempotent, as `rows` is. */
  readonly heard: ReadonlyArray<string>
}

const List = ({ name, read }: { readonly name: "early" | "late"; readonly read: Read }) => {
  const snapshot = read(name)
  const { status, value } = useChannel(Orders, {
    initial: { ...snapshot, value: { rows: snapshot.value, heard: [] } as Shown },
    reduce: ({ heard, rows }, { data, operation }) => ({
      rows: [
        ...rows.filter(({ id }) => id !== data.id),
        ...(operation === "DELETE" ? [] : [data])
      ].toSorted((one, other) => one.id - other.id),
      heard: [...heard, `${operation} ${data.id}`]
    })
  })
  return (
    <ul data-snapshot={JSON.stringify(snapshot)} data-heard={value.heard.join(", ")}>
      <li>{status}</li>
      {value.rows.map(({ id, status }) => (
        <li key={id}>{`${id} ${status}`}</li>
      ))}
    </ul>
  )
}

/** The whole document: what React streams later it puts at the end of the body. */
export const Streamed = ({ read }: { readonly read: Read }) => (
  <html lang="en">
    <head>
      <title>Orders</title>
      <link rel="icon" href="data:," />
    </head>
    <body>
      {(["early", "late"] as const).map((name) => (
        <section id={name} key={name}>
          <Suspense fallback="reading">
            <List name={name} read={read} />
          </Suspense>
        </section>
      ))}
    </body>
  </html>
)
