/**
 * A long query: the page makes up an id, listens on `query_results_${id}`, and only then asks for it.
 */
import type { Channel } from "effect-realtime"
import { type Collected, useChannel } from "effect-realtime/react"
import { useState } from "react"
import { type Report as Data, reportResult, statuses } from "../channels.ts"
import { startReport } from "./api.ts"
import { money } from "./format.ts"

type Result = Channel.Payload<typeof reportResult>

const Bars = ({ data }: { readonly data: Data | undefined }) => (
  <table className="bars">
    <caption className="unseen">Orders by status</caption>
    <tbody>
      {statuses.map((status) => {
        const row = data?.by_status.find((row) => row.status === status)
        const share = data === undefined ? 0 : (row?.amount_cents ?? 0) / (data.amount_cents || 1)
        return (
          <tr key={status} data-status={status}>
            <th scope="row">{status}</th>
            <td className="bar" aria-hidden="true">
              <span style={{ inlineSize: `${share * 100}%` }} />
            </td>
            <td className="amount">{data === undefined ? "" : money(row?.amount_cents ?? 0)}</td>
          </tr>
        )
      })}
    </tbody>
  </table>
)

const Run = ({ id, onAgain }: { readonly id: string; readonly onAgain: () => void }) => {
  const [failure, setFailure] = useState<string>()
  const channel = reportResult(id)
  const { value: result }: Collected<Result | undefined> = useChannel<Result, Result | undefined>(
    channel,
    {
      initial: undefined,
      reduce: (_, result) => result,
      // Called when the channel is active, so the result cannot come before somebody hears it; and
      // after a gap, when the result may have been missed.
      load: async (): Promise<Result | undefined> => {
        if (result === undefined) await startReport(id)
        return result
      },
      onError: (error) => setFailure(error instanceof Error ? error.message : String(error))
    }
  )
  const error = failure ?? (result?.status === "error" ? String(result.error) : undefined)
  const running = result === undefined && error === undefined
  return (
    <View
      data={result?.data}
      running={running}
      onRun={onAgain}
      message={error ?? (running ? `Waiting on ${channel.name}` : `Arrived on ${channel.name}`)}
    />
  )
}

const View = (props: {
  readonly data: Data | undefined
  readonly running: boolean
  readonly message: string
  readonly onRun: () => void
}) => (
  <section className="panel report" aria-labelledby="report" data-running={props.running}>
    <header className="panel-head">
      <div>
        <h2 id="report">Report</h2>
        <p role="status">{props.message}</p>
      </div>
      <button type="button" disabled={props.running} onClick={props.onRun}>
        Run report
      </button>
    </header>
    <Bars data={props.data} />
    <p className="total">
      <span>{props.data === undefined ? "Total" : `Total of ${props.data.orders} orders`}</span>
      <span className="amount">
        {props.data === undefined ? "" : money(props.data.amount_cents)}
      </span>
    </p>
  </section>
)

export const Report = () => {
  const [id, setId] = useState<string>()
  const start = () => setId(crypto.randomUUID().slice(0, 8))
  return id === undefined ? (
    <View
      data={undefined}
      running={false}
      message="A query of a few seconds, answered on a channel"
      onRun={start}
    />
  ) : (
    <Run key={id} id={id} onAgain={start} />
  )
}
