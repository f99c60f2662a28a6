/** What `status` saw, as lines of text. */
import type { styles } from "../../shared/styles.ts"
import type { Seen, SeenConsumer, SeenNode } from "./look.ts"

type Styles = ReturnType<typeof styles>

const counted = (count: number, one: string): string =>
  `${count.toLocaleString("en-US")} ${one}${count === 1 ? "" : "s"}`

/** A duration of so many seconds. */
const lasting = (seconds: number): string =>
  seconds < 60
    ? `${seconds.toFixed(1)} s`
    : seconds < 3600
      ? `${Math.floor(seconds / 60)} min`
      : `${(seconds / 3600).toFixed(1)} h`

const sized = (bytes: number): string =>
  bytes < 1024 ** 2
    ? `${Math.ceil(bytes / 1024)} KiB`
    : bytes < 1024 ** 3
      ? `${(bytes / 1024 ** 2).toFixed(1)} MiB`
      : `${(bytes / 1024 ** 3).toFixed(1)} GiB`

/** Rows of the same length, in columns. */
const table = (rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> => {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((row) => row[at]!.length)))
  return rows.map((row) =>
    `  ${row.map((text, at) => text.padEnd(widths[at]!)).join("  ")}`.trimEnd()
  )
}

const nodeRow = (node: SeenNode): ReadonlyArray<string> => [
  node.node,
  node.isReady ? "ready" : "not ready",
  String(node.sessions),
  String(node.subscriptions),
  String(node.channels),
  node.readerLag === undefined
    ? "none"
    : `${lasting(node.readerLag)}${node.feeds ? ", for all nodes" : ""}`,
  String(node.version)
]

const nodeHead = ["node", "state", "sessions", "subscriptions", "channels", "reader lag", "objects"]

const behind = ({ lag }: SeenConsumer): string =>
  lag === undefined
    ? "unknown: its cursor is not of this database as it is now"
    : lag.messages === 0
      ? lag.isMore
        ? "unknown: too many messages of other channels"
        : "0"
      : `${counted(lag.messages, "message")}${lag.isMore ? " or more" : ""}, ${lasting(lag.seconds)}`

const consumerRow = (consumer: SeenConsumer): ReadonlyArray<string> => [
  consumer.name,
  consumer.channel,
  behind(consumer),
  `${lasting(consumer.moved)} ago`,
  consumer.node ?? "no node"
]

const consumerHead = ["consumer", "channel", "behind", "moved", "runs on"]

const deaf = {
  notify:
    "The bus delivers nothing to this command, so nodes are not seen. Behind a transaction pooler, give the direct URL with --listen.",
  nats: "NATS delivers nothing to this command, so nodes are not seen. Look at the servers of --nats, and at the permissions that effect-realtime nats prints."
} as const

const unheard = (seen: Seen): string =>
  `${seen.unheard}: reads the outbox for all nodes, and is not heard here. ${
    seen.over === "notify"
      ? "Nodes are joined over NATS: give its servers with --nats."
      : "Look whether --nats has the servers and the root of the nodes."
  }`

/** The lines, without an empty one. */
export const linesOf = (seen: Seen, { bold, dim, red, yellow }: Styles): ReadonlyArray<string> => {
  const { consumers, nodes, outbox, silent } = seen
  const section = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>) => {
    const [first = "", ...rest] = rows.length === 0 ? [] : table([head, ...rows])
    return rows.length === 0 ? [] : [dim(first), ...rest]
  }
  return [
    bold(
      `${counted(nodes.length, "node")}, ${counted(
        nodes.reduce((sum, one) => sum + one.sessions, 0),
        "session"
      )}`
    ),
    ...section(nodeHead, nodes.map(nodeRow)),
    ...silent.map((name) =>
      yellow(
        `  ${name}: heard, without an answer. It reconnects, is stuck, or runs without control: true.`
      )
    ),
    ...(seen.hears ? [] : [red(`  ${deaf[seen.over]}`)]),
    ...(seen.hears && seen.unheard !== undefined ? [yellow(`  ${unheard(seen)}`)] : []),
    bold(
      `outbox: ${counted(outbox.rows, "message")}, ${sized(outbox.bytes)}${outbox.oldest === undefined ? "" : `, the oldest from ${lasting(outbox.oldest)} ago`}`
    ),
    bold(counted(consumers.length, "consumer")),
    ...section(consumerHead, consumers.map(consumerRow))
  ]
}
