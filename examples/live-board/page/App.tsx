import { useRows } from "effect-realtime/react"
import { useState } from "react"
import { Orders, type Status } from "../channels.ts"
import { Notices } from "./Notices.tsx"
import { OpenPages } from "./OpenPages.tsx"
import { OrderList } from "./OrderList.tsx"
import { Path } from "./Path.tsx"
import { Report } from "./Report.tsx"
import { Terminal } from "./Terminal.tsx"
import { useLink } from "./useLink.ts"

export const App = () => {
  const [shown, setShown] = useState<Status>()
  const link = useLink()
  const orders = useRows(Orders, { where: shown && { status: shown } })
  return (
    <div className="page">
      <header className="masthead">
        <div>
          <h1>Live board</h1>
          <p>
            Orders of a small coffee roastery. Open{" "}
            <a href="/" target="_blank" rel="noreferrer">
              a second tab
            </a>{" "}
            or write with <a href="#terminal">psql</a>, and watch this one follow.
          </p>
          <OpenPages />
        </div>
        <Path link={link} rows={orders.rows} />
      </header>
      <main className="columns">
        <OrderList link={link} orders={orders} shown={shown} onShow={setShown} />
        <div className="side">
          <Report />
          <Notices isConnected={link.connection.status === "open"} />
          <Terminal />
        </div>
      </main>
    </div>
  )
}
