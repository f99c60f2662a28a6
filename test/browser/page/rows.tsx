/**
 * All rows of a table and a part of them, in one component, with a stopwatch around the code of the library.
 *
 * It runs while it handles a message of the socket, in its callback of an animation frame and in its hook.
 */
import { createRealtimeClient, type Rows } from "effect-realtime/client"
import { RealtimeProvider, useRows } from "effect-realtime/react"
import { StrictMode, useLayoutEffect } from "react"
import { createRoot } from "react-dom/client"
import { Entries, type Entry } from "./entries.ts"

type Part = "all" | "done"

/** What the page has rendered. */
interface Rendered {
  /** The time of its animation frame, the same for all that happens in it. */
  readonly frame: number
  readonly at: number
}

export interface RowsPage {
  /** As JSON: all, and those that the filter includes, sorted by their ids. */
  readonly rows: () => string
  /** Begins to measure, and keeps the rows of now. */
  readonly begin: () => void
  /** How many of these rows are the same objects as at the beginning. */
  readonly kept: (ids: ReadonlyArray<number>) => number
  /** Each commit of React since then, and the milliseconds of our own code in each frame that had one. */
  readonly measured: () => {
    readonly rendered: ReadonlyArray<Rendered>
    readonly costs: ReadonlyArray<number>
  }
}

let depth = 0
let cost = 0
let since = 0
/** A part of the library begins; within another part it is counted once. */
const start = () => {
  if (depth++ === 0) since = performance.now()
}
const end = () => {
  if (--depth === 0) cost += performance.now() - since
}
const timed = (run: () => void): void => {
  start()
  try {
    run()
  } finally {
    end()
  }
}

class TimedSocket extends WebSocket {
  // The client reads it back.
  override get onmessage() {
    return super.onmessage
  }
  override set onmessage(handle: WebSocket["onmessage"]) {
    super.onmessage =
      handle &&
      function (this: WebSocket, event) {
        timed(() => handle.call(this, event))
      }
  }
}

// React asks for no animation frames.
const nextFrame = requestAnimationFrame
globalThis.requestAnimationFrame = (run) => nextFrame((time) => timed(() => run(time)))

let rendered: Array<Rendered> = []
let costs: Array<number> = []
/** How many of `rendered` were there at the last look. */
let counted = 0
const now = new Map<Part, Rows.Loaded<Entry>>()
const begun = new Map<number, Entry>()

const committed = () => {
  rendered.push({ frame: Number(document.timeline.currentTime), at: performance.now() })
}

/** From here to the same place in the next frame. */
const look = () => {
  if (rendered.length > counted) costs.push(cost)
  counted = rendered.length
  cost = 0
  nextFrame(look)
}

const Both = () => {
  start()
  const all = useRows(Entries)
  const done = useRows(Entries, { where: { status: "done" } })
  end()
  useLayoutEffect(() => {
    now.set("all", all)
    now.set("done", done)
    committed()
  })
  return (
    <>
      <p id="all" data-status={all.status}>
        {all.rows.length}
      </p>
      <p id="done" data-status={done.status}>
        {done.rows.length}
      </p>
    </>
  )
}

const rowsOf = (part: Part) => now.get(part)?.rows ?? []

const page: RowsPage = {
  rows: () => {
    const sorted = (part: Part) => rowsOf(part).toSorted((one, other) => one.id - other.id)
    return JSON.stringify({ all: sorted("all"), done: sorted("done") })
  },
  begin: () => {
    rendered = []
    costs = []
    counted = 0
    begun.clear()
    for (const row of rowsOf("all")) begun.set(row.id, row)
  },
  kept: (ids) => {
    const rows = new Map(rowsOf("all").map((row) => [row.id, row]))
    return ids.filter((id) => rows.has(id) && rows.get(id) === begun.get(id)).length
  },
  measured: () => ({ rendered, costs })
}
Object.assign(window, { rowsPage: page })

const client = createRealtimeClient({ url: "/realtime", webSocket: TimedSocket as never })
nextFrame(look)
createRoot(document.querySelector("#root")!).render(
  <StrictMode>
    <RealtimeProvider client={client}>
      <Both />
    </RealtimeProvider>
  </StrictMode>
)
