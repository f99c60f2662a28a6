/** Runs the support desk: its page, as two roles see it, over a real door and a real database. */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { expect, it } from "@effect/vitest"
import { cleanup, fireEvent, render, screen, within } from "@testing-library/react"
import { createRealtimeClient } from "effect-realtime/client"
import { RealtimeProvider } from "effect-realtime/react"
import { Effect, Layer } from "effect"
import { HttpRouter } from "effect/http"
import { QueryResults } from "effect-realtime/server"
import { createServer } from "node:http"
import type { ReactNode } from "react"
import { vi } from "vitest"
import { WebSocket } from "ws"
import { Database, open } from "../../examples/support-desk/database.ts"
import { Desk, ReportText } from "../../examples/support-desk/Desk.tsx"
import type { Person } from "../../examples/support-desk/people.ts"
import { door, report } from "../../examples/support-desk/server.ts"
import { Address, address } from "../support/app.ts"
import { layerDatabase } from "../support/database.ts"
import { settle } from "./support/page.tsx"

// A page's module of this name is empty, and here the server runs beside the page.
vi.mock("ws", async () => {
  const { createRequire } = await import("node:module")
  const ws = createRequire(import.meta.url)("ws")
  return { ...ws, default: ws, WebSocket: ws, WebSocketServer: ws.WebSocketServer }
})

const people: Readonly<Record<string, Person>> = {
  ada: { id: "1", name: "Ada", team: "east", role: "agent" },
  bob: { id: "2", name: "Bob", team: "east", role: "lead" },
  eve: { id: "3", name: "Eve", team: "west", role: "agent" }
}

const quiet = { disableListenLog: true, disableLogger: true }

const App = HttpRouter.serve(
  door((token) => people[token]),
  quiet
).pipe(
  Layer.merge(address),
  Layer.provide(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(QueryResults.layer),
  Layer.provideMerge(Database),
  Layer.provideMerge(layerDatabase)
)

/** Renders a page as a person. */
const pageOf = (token: string) =>
  Effect.gen(function* () {
    const { ws: url } = yield* Address
    const client = yield* Effect.acquireRelease(
      Effect.sync(() =>
        createRealtimeClient({ url, token: () => token, webSocket: WebSocket as never, linger: 20 })
      ),
      (client) => Effect.promise(() => client.close())
    )
    return (children: ReactNode) => {
      const view = <RealtimeProvider client={client}>{children}</RealtimeProvider>
      const { container, unmount } = render(view)
      return { ...within(container), unmount }
    }
  })

const titles = (page: Pick<ReturnType<typeof within>, "queryByText" | "queryAllByRole">) =>
  page.queryAllByRole("listitem").map((item: HTMLElement) => item.textContent)

const sees = (
  page: Pick<ReturnType<typeof within>, "queryByText" | "queryAllByRole">,
  ...expected: ReadonlyArray<string>
) =>
  Effect.promise(() =>
    settle(() => String(titles(page).toSorted()) === String(expected.toSorted()))
  )

const shows = (
  page: Pick<ReturnType<typeof within>, "queryByText" | "queryAllByRole">,
  text: string
) => Effect.promise(() => settle(() => page.queryByText(text) !== null))

const update = (id: number, change: string) =>
  PgClient.PgClient.use((sql) => sql.unsafe(`update tickets set ${change} where id = $1`, [id]))

it.live("shows each role its tickets, while they move between teams and states", () =>
  Effect.gen(function* () {
    const printer = yield* open("east", "Printer")
    const payroll = yield* open("east", "Payroll", true)
    const [ada, bob, eve] = [yield* pageOf("ada"), yield* pageOf("bob"), yield* pageOf("eve")]
    const agent = ada(<Desk team="east" name="Ada" />)
    const lead = bob(<Desk team="east" name="Bob" />)
    const other = eve(<Desk team="west" name="Eve" />)
    yield* sees(agent, "Printer")
    yield* sees(lead, "Payroll (restricted)", "Printer")
    yield* shows(other, "No ticket is open.")

    yield* update(payroll, "restricted = false")
    yield* sees(agent, "Payroll", "Printer")
    yield* update(printer, "team = 'west'")
    yield* sees(agent, "Payroll")
    yield* sees(other, "Printer")
    yield* update(payroll, "status = 'waiting'")
    yield* shows(agent, "No ticket is open.")
    fireEvent.change(agent.getByLabelText("Status"), { target: { value: "waiting" } })
    yield* sees(agent, "Payroll")
    yield* update(payroll, "restricted = true")
    yield* shows(agent, "No ticket is waiting.")
    cleanup()
  }).pipe(Effect.scoped, Effect.provide(App))
)

it.live(
  "stamps the sender of what a page writes, shows a person that types, and keeps the talk",
  () =>
    Effect.gen(function* () {
      yield* open("east", "Printer")
      const [ada, bob] = [yield* pageOf("ada"), yield* pageOf("bob")]
      // The page claims to be another person.
      const liar = ada(<Desk team="east" name="Bob, the lead" />)
      const lead = bob(<Desk team="east" name="Bob" />)
      for (const page of [liar, lead]) {
        yield* sees(page, "Printer")
        fireEvent.click(page.getByText("Printer"))
      }
      const field = liar.getByLabelText<HTMLInputElement>("Message")
      yield* Effect.promise(() =>
        settle(() => {
          fireEvent.change(field, { target: { value: `${field.value}.` } })
          return lead.queryByText("Ada types") !== null
        })
      )
      // Nothing more is typed.
      yield* Effect.promise(() => settle(() => lead.queryByText("Ada types") === null))
      fireEvent.change(field, { target: { value: "It prints again" } })
      fireEvent.submit(field.form!)
      yield* shows(lead, "Ada: It prints again")
      lead.unmount()
      const later = bob(<Desk team="east" name="Bob" />)
      yield* sees(later, "Printer")
      fireEvent.click(later.getByText("Printer"))
      yield* shows(later, "Ada: It prints again")
      cleanup()
    }).pipe(Effect.scoped, Effect.provide(App))
)

it.live("takes the talk from a person that may not read its ticket any more", () =>
  Effect.gen(function* () {
    const printer = yield* open("east", "Printer")
    const [ada, bob, eve] = [yield* pageOf("ada"), yield* pageOf("bob"), yield* pageOf("eve")]
    const agent = ada(<Desk team="east" name="Ada" />)
    const lead = bob(<Desk team="east" name="Bob" />)
    const other = eve(<Desk team="west" name="Eve" />)
    const enter = (page: typeof agent) =>
      Effect.gen(function* () {
        yield* Effect.promise(() => settle(() => page.queryByText("Printer") !== null))
        fireEvent.click(page.getByText("Printer"))
      })
    const says = (page: typeof agent, text: string) => {
      const field = page.getByLabelText<HTMLInputElement>("Message")
      fireEvent.change(field, { target: { value: text } })
      fireEvent.submit(field.form!)
    }
    const refused = "This ticket is not yours to read."
    yield* enter(agent)
    yield* enter(lead)
    says(agent, "Who has it?")
    yield* shows(lead, "Ada: Who has it?")
    yield* update(printer, "restricted = true")
    yield* shows(agent, refused)
    says(lead, "I have.")
    yield* shows(lead, "Bob: I have.")
    yield* update(printer, "restricted = false, team = 'west'")
    yield* shows(lead, refused)
    yield* enter(other)
    yield* shows(other, "Bob: I have.")
    expect(agent.queryByText("Bob: I have.")).toBeNull()
    cleanup()
  }).pipe(Effect.scoped, Effect.provide(App))
)

it.live("shows a report of the own team line by line, and of no other", () =>
  Effect.gen(function* () {
    yield* open("east", "Printer")
    const id = yield* report("east")
    const [ada, eve] = [yield* pageOf("ada"), yield* pageOf("eve")]
    const agent = ada(<ReportText id={id} />)
    const other = eve(<ReportText id={id} />)
    yield* shows(agent, "Printer: open")
    yield* shows(other, "This report is of another team.")
    expect(other.queryByText("Printer: open")).toBeNull()
    expect(screen.queryByText("Stop")).toBeNull()
    cleanup()
  }).pipe(Effect.scoped, Effect.provide(App))
)
