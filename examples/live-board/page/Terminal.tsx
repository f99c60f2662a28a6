/**
 * Commands that write to the same database from a terminal.
 */
import { useEffect, useState } from "react"
import { fetchPsql } from "./api.ts"

/** Escapes a text for double quotes in a shell. */
const statements = {
  Insert:
    "insert into orders (customer, item, amount_cents) values ('Ada', 'Kiambu AA, 250 g', 1020)",
  Update: "update orders set status = 'shipped' where status = 'packed'",
  Notify: `select pg_notify('system_notifications', '{\\"type\\":\\"info\\",\\"message\\":\\"hello\\"}')`
}

type Name = keyof typeof statements
const names = Object.keys(statements) as ReadonlyArray<Name>

export const Terminal = () => {
  const [argument, setArgument] = useState("")
  const [name, setName] = useState<Name>("Insert")
  const [copied, setCopied] = useState(false)
  useEffect(() => {
    fetchPsql().then(setArgument, () => {})
  }, [])
  const command = `psql ${argument} \\\n  -c "${statements[name]}"`
  const choose = (name: Name) => {
    setName(name)
    setCopied(false)
  }
  return (
    <section className="panel terminal" aria-labelledby="terminal">
      <header className="panel-head">
        <h2 id="terminal">Terminal</h2>
        <div className="choices" role="group" aria-label="Statement">
          {names.map((each) => (
            <button
              type="button"
              key={each}
              aria-pressed={each === name}
              onClick={() => choose(each)}
            >
              {each}
            </button>
          ))}
        </div>
      </header>
      <div className="command">
        <code>{command}</code>
        <button
          type="button"
          onClick={() => void navigator.clipboard.writeText(command).then(() => setCopied(true))}
        >
          {copied ? "Copied" : "Copy"}
        </button>
      </div>
    </section>
  )
}
