/** Pages that the test of Next.js adds to examples/next, by their paths. Next.js checks their types. */

const dynamic = `export const dynamic = "force-dynamic"`

const list = `
export const List = ({ rows }: { readonly rows: ReadonlyArray<typeof Order.Type> }) => (
  <ul>{rows.map(({ customer, id, status }) => <li key={id}>{customer}: {status}</li>)}</ul>
)`

/** Its value counts what it has heard, so that a lost or doubled event shows. */
const tally = `"use client"
import type { RealtimeEvent } from "effect-realtime"
import { useChannel } from "effect-realtime/react"
import { type Order, Orders } from "../channels.ts"

type Row = typeof Order.Type
interface Shown {
  readonly rows: ReadonlyArray<Row>
  readonly heard: ReadonlyArray<string>
}

export function Tally({ orders }: { readonly orders: RealtimeEvent.Snapshot<ReadonlyArray<Row>> }) {
  const { status, value } = useChannel(Orders, {
    initial: { ...orders, value: { rows: orders.value, heard: [] } as Shown },
    reduce: ({ heard, rows }, { data, operation }) => ({
      rows: [
        ...rows.filter(({ id }) => id !== data.id),
        ...(operation === "DELETE" ? [] : [data])
      ].toSorted((one, other) => one.id - other.id),
      heard: [...heard, operation + " " + data.id]
    })
  })
  return (
    <ul data-status={status} data-heard={value.heard.join(", ")}>
      {value.rows.map(({ customer, id, status }) => <li key={id}>{customer}: {status}</li>)}
    </ul>
  )
}`

const tallyPage = `import { Tally } from "../Tally.tsx"
${dynamic}
export default async function Page() {
  return <section id="rows"><Tally orders={await globalThis.readOrders()} /></section>
}`

/** The late boundary reads at once, and waits for the test before it shows what it has read. */
const streamedPage = `import { Suspense } from "react"
import { Tally } from "../Tally.tsx"
${dynamic}
const Early = async () => <Tally orders={await globalThis.readOrders()} />
const Late = async () => {
  const orders = await globalThis.readOrders()
  await fetch(process.env["GATE"]!)
  return <Tally orders={orders} />
}
export default function Page() {
  return (
    <>
      <section id="early"><Suspense fallback="reading"><Early /></Suspense></section>
      <section id="late"><Suspense fallback="reading"><Late /></Suspense></section>
    </>
  )
}`

const plain = `"use client"
import type { Order } from "../../channels.ts"
${list}`

const plainPage = `import { List } from "./List.tsx"
${dynamic}
export default async function Page() {
  const { value } = await globalThis.readOrders()
  return <List rows={value} />
}`

/** The channel is a string, so the page has no Schema. */
const untyped = `"use client"
import type { RealtimeEvent } from "effect-realtime"
import { useChannel } from "effect-realtime/react"
import type { Order } from "../../channels.ts"
${list}

type Rows = ReadonlyArray<typeof Order.Type>
export function Live({ orders }: { readonly orders: RealtimeEvent.Snapshot<Rows> }) {
  const { status, value } = useChannel("table_updates_orders", {
    initial: orders,
    reduce: (rows, event) => rows
  })
  return <div aria-busy={status !== "live"}><List rows={value} /></div>
}`

const untypedPage = `import { Live } from "./Live.tsx"
${dynamic}
export default async function Page() {
  return <Live orders={await globalThis.readOrders()} />
}`

export const pages: Readonly<Record<string, string>> = {
  "app/Tally.tsx": tally,
  "app/tally/page.tsx": tallyPage,
  "app/streamed/page.tsx": streamedPage,
  "app/plain/List.tsx": plain,
  "app/plain/page.tsx": plainPage,
  "app/untyped/Live.tsx": untyped,
  "app/untyped/page.tsx": untypedPage
}
