// #region main
import { useRows } from "effect-realtime/react"
import { createRoot } from "react-dom/client"
import { Notice } from "./Notices.tsx"
import { Orders } from "./orders.ts"

export function NewOrders() {
  const { rows, status } = useRows(Orders, { where: { status: "new" } })
  return <p aria-busy={status !== "live"}>{rows.length} new orders</p>
}

createRoot(document.querySelector("#root")!).render([<NewOrders key={1} />, <Notice key={2} />])
// #endregion
