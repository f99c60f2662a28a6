/** A component that collects a channel and handles its events, in StrictMode. A test mounts it. */
import {
  useChannel,
  useConnection,
  usePublish,
  usePublishQueue,
  useWebSocket
} from "effect-realtime/react"
import { StrictMode, useEffect } from "react"
import { createRoot } from "react-dom/client"
import { Numbers } from "./numbers.ts"

/** What the test reads from the page besides its text. */
export interface Board {
  readonly mount: () => void
  readonly unmount: () => void
  /** How often an effect ran: twice per mount in StrictMode. */
  effects: number
  /** The payloads that the handler received. */
  readonly handled: Array<number>
  /** Publishes, and keeps how it ended. */
  publish: (n: number) => void
  readonly published: Array<readonly [n: number, outcome: string]>
  /** The page's lifecycle events, and when it opened a socket. */
  readonly happened: Array<readonly [what: string, at: number]>
}

const root = createRoot(document.querySelector("#root")!)

const board: Board = {
  mount: () =>
    root.render(
      <StrictMode>
        <List />
        <Outbox />
      </StrictMode>
    ),
  unmount: () => root.render(null),
  effects: 0,
  handled: [],
  publish: () => {},
  published: [],
  happened: []
}

const happens = (what: string) => board.happened.push([what, performance.now()])
for (const type of ["freeze", "resume"]) document.addEventListener(type, () => happens(type))
document.addEventListener("visibilitychange", () => happens(document.visibilityState))
window.WebSocket = class extends WebSocket {
  constructor(...address: ConstructorParameters<typeof WebSocket>) {
    super(...address)
    happens("socket")
  }
}

const none: ReadonlyArray<number> = []

const List = () => {
  const { status: freshness, value } = useChannel(Numbers, {
    initial: none,
    reduce: (all, { n }) => [...all, n]
  })
  useWebSocket(Numbers, ({ n }) => board.handled.push(n))
  const { status } = useConnection()
  useEffect(() => {
    board.effects++
  }, [])
  return (
    <output data-connection={status} data-stale={freshness === "stale"} data-last={value.at(-1)}>
      {value.join(" ")}
    </output>
  )
}

const Outbox = () => {
  const send = usePublish(Numbers)
  const { message, reason, status } = useConnection()
  useEffect(() => {
    board.publish = (n) => {
      const ends = (outcome: string) => board.published.push([n, outcome])
      send({ n }).then(
        () => ends("done"),
        (error) => ends(error._tag)
      )
    }
  }, [send])
  return (
    <p data-status={status} data-reason={reason} data-waiting={usePublishQueue().messages}>
      {message}
    </p>
  )
}

Object.assign(window, { board })
