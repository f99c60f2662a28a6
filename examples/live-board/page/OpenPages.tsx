/** How many pages are open, and on which node this one is. */
import { usePresence } from "effect-realtime/react"
import { Pages } from "../channels.ts"

const here = {}

export const OpenPages = () => {
  const { count, me, status } = usePresence(Pages, here)
  if (status === "loading") return <p className="open-pages">Counting open pages</p>
  const node = me?.state.node
  return (
    <p className="open-pages" data-stale={status === "stale"}>
      {count === 1 ? "Only this page is open" : `${count} pages are open`}
      {node === undefined ? "" : `, this one on ${node}`}
    </p>
  )
}
