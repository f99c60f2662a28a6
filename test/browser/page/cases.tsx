/** Components in each state that a channel of a page can have. A test mounts the one that it is about. */
import { QueryClient, QueryClientProvider } from "@tanstack/react-query"
import { useChannel, useLatest } from "effect-realtime/react"
import { type ReactNode, StrictMode } from "react"
import { createRoot } from "react-dom/client"
import { NewOrders } from "../../../examples/react/Queries.tsx"
import { Item as item } from "./items.ts"

/** What the test does with the page, and what it reads besides the text. */
export interface Cases {
  readonly show: (name: keyof typeof views, param?: string) => void
  /** The text of each error that a hook reported. */
  readonly errors: Array<string>
}

const errors: Array<string> = []
const onError = (error: unknown) => void errors.push(String((error as Error).message))
const none: ReadonlyArray<number> = []
const add = (all: ReadonlyArray<number>, { n }: { readonly n: number }) => [...all, n]

const Followed = ({ name }: { readonly name: string }) => {
  const { error, status } = useChannel(item(name), { initial: none, reduce: add, onError })
  return (
    <p id={name} data-status={status}>
      {error instanceof Error ? error.message : ""}
    </p>
  )
}

/** The state of `/state`, read again for each filter. */
const Loaded = ({ filter }: { readonly filter: string }) => {
  const { error, status, value } = useChannel(item("loaded"), {
    initial: none,
    key: filter,
    load: async (): Promise<ReadonlyArray<number>> => {
      const response = await fetch(`/state?filter=${filter}`)
      if (!response.ok) throw new Error(`answered ${response.status}`)
      return response.json()
    },
    reduce: add,
    onError
  })
  return (
    <p id="loaded" data-status={status} data-error={error instanceof Error ? error.message : ""}>
      {`${filter}: ${value.join(" ")}`}
    </p>
  )
}

const Last = ({ id }: { readonly id: string }) => {
  const { value } = useLatest(item("last"))
  shown.push([id, value?.n])
  return <p id={id}>{value?.n}</p>
}

/** What each render of `Last` had. */
const shown: Array<readonly [id: string, n: number | undefined]> = []
const queries = new QueryClient()

const views = {
  follow: (range: string) => {
    const [from = 0, to = 0] = range.split(" to ").map(Number)
    return Array.from({ length: to - from + 1 }, (_, index) => (
      <Followed key={from + index} name={`${from + index}`} />
    ))
  },
  guarded: () => <Followed name="guarded" />,
  loaded: (filter: string) => <Loaded filter={filter} />,
  last: (ids: string) => ids.split(" ").map((id) => <Last key={id} id={id} />),
  firstOf: (id: string) => <p id="first">{shown.find(([one]) => one === id)?.[1]}</p>,
  queries: () => (
    <QueryClientProvider client={queries}>
      <NewOrders />
    </QueryClientProvider>
  )
} satisfies Readonly<Record<string, (param: string) => ReactNode>>

const root = createRoot(document.querySelector("#root")!)
const cases: Cases = {
  show: (name, param = "") => root.render(<StrictMode>{views[name](param)}</StrictMode>),
  errors
}
Object.assign(window, { cases })
