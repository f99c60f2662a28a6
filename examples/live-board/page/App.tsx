import { Notices } from "./Notices.tsx"
import { Orders } from "./Orders.tsx"
import { Path } from "./Path.tsx"
import { Report } from "./Report.tsx"
import { Terminal } from "./Terminal.tsx"

export const App = () => (
  <div className="page">
    <header className="masthead">
      <div>
        <h1>Live board</h1>
        <p>Orders of a small coffee roastery, as PostgreSQL commits them</p>
      </div>
      <Path />
    </header>
    <main className="columns">
      <Orders />
      <aside className="side">
        <Report />
        <Notices />
        <Terminal />
      </aside>
    </main>
  </div>
)
