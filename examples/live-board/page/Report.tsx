/**
 * A long query: the page chooses an id, requests the query, and receives the result on its own channel.
 */
import { Fragment } from "react"
import { type Report as Data, statuses } from "../channels.ts"
import { money } from "./format.ts"
import { useReport } from "./useReport.ts"

interface BarsProps {
  readonly data: Data | undefined
  readonly waiting: boolean
}

const Bars = ({ data, waiting }: BarsProps) => (
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
              {(waiting || data !== undefined) && (
                <span style={{ inlineSize: `${share * 100}%` }} />
              )}
            </td>
            <td className="amount">{data === undefined ? "" : money(row?.amount_cents ?? 0)}</td>
          </tr>
        )
      })}
    </tbody>
  </table>
)

/** Long, so lines may break inside it. */
const Name = ({ text }: { readonly text: string }) =>
  text.split(/(?<=_)/).map((part) => (
    <Fragment key={part}>
      {part}
      <wbr />
    </Fragment>
  ))

export const Report = () => {
  const { asking, channel, refused, result, run } = useReport()
  const waiting = asking || (channel !== undefined && result === undefined)
  const error = refused ?? (result?.status === "error" ? String(result.error) : undefined)
  const data = waiting ? undefined : result?.data
  return (
    <section className="panel report" aria-labelledby="report" data-running={waiting}>
      <header className="panel-head">
        <div>
          <h2 id="report">Report</h2>
          <p role="status" className={error === undefined ? undefined : "failure"}>
            {error ??
              (channel === undefined || asking ? (
                "A query of a few seconds, answered on a channel"
              ) : (
                <>
                  {waiting ? "Waiting" : "Arrived"} on <Name text={channel} />
                </>
              ))}
          </p>
        </div>
        {/* Enabled while it waits, because a killed server never publishes a result. */}
        <button type="button" disabled={asking} onClick={run}>
          Run report
        </button>
      </header>
      <Bars data={data} waiting={waiting} />
      <p className="total">
        <span>{data === undefined ? "Total" : `Total of ${data.orders} orders`}</span>
        <span className="amount">{data === undefined ? "" : money(data.amount_cents)}</span>
      </p>
    </section>
  )
}
