/**
 * Prints what nodes cost, up to one million sockets, and what that rests on. The guide has its output.
 *
 *   npx node -C @effect-realtime/source examples/cluster/model.ts
 */
import { assumed, costsOf, cpuOfChange, cpuOfDelivery, stormOf } from "./costs.ts"
import * as Measured from "./measured.ts"

const million = 1_000_000
const full = 10_000
const what = { roomSize: 100, eventsPerSocket: 0.1, presenceEvery: 600 }

const count = (value: number) => Math.round(value).toLocaleString("en-US")
const megabytes = (bytes: number) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)
const cores = (value: number) => value.toFixed(2)
const seconds = (value: number) => value.toFixed(0)
const micros = (value: number) => value.toFixed(2)

const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>) =>
  [line(head), `|${"---:|".repeat(head.length)}`, ...rows.map(line)].join("\n")

/** Beyond it, PostgreSQL alone was not measured. */
const mostAlone = 16

const fullNodes = [2, 4, 8, 16, 32, 100].map((nodes) => {
  const { coreOfNode, memory, postgres } = costsOf({ ...what, sockets: full * nodes }, nodes)
  return [
    String(nodes),
    count(full * nodes),
    megabytes(memory.sockets + memory.members + assumed.process),
    cores(coreOfNode),
    seconds(stormOf(full, nodes - 1).seconds),
    count(postgres.commits),
    nodes > mostAlone ? "" : count(postgres.statementsAlone),
    count(postgres.statements)
  ]
})

const load = { ...what, sockets: million }
const sizes = [10, 25, 50, 100, 200]

const ofNode = sizes.map((nodes) => {
  const { core, coreOfNode, memory } = costsOf(load, nodes)
  return [
    String(nodes),
    count(million / nodes),
    ...[core.deliveries, core.pings, core.feed, core.presence, coreOfNode].map(cores),
    (coreOfNode * nodes).toFixed(0),
    megabytes(memory.sockets),
    megabytes(memory.members)
  ]
})

const between = sizes.map((nodes) => {
  const { nats, postgres } = costsOf(load, nodes)
  return [
    String(nodes),
    ...[nats.feedIn, nats.feedOut, nats.busIn, nats.busOut].map(megabytes),
    count(postgres.commits),
    count(postgres.statements)
  ]
})

const storms = sizes.flatMap((nodes) =>
  [1, nodes].map((gone) => {
    const lost = (million / nodes) * gone
    const left = gone === nodes ? nodes : nodes - gone
    const storm = stormOf(lost, left)
    return [
      String(nodes),
      gone === nodes ? "all" : String(gone),
      count(lost),
      count(storm.peak),
      count(storm.peak / left),
      cores(storm.core),
      storm.rejected.toFixed(1),
      seconds(storm.seconds)
    ]
  })
)

const { C, W1, W3 } = Measured.calibration

console.log(`Sockets are in rooms of ${what.roomSize}, on any nodes. Each receives ${what.eventsPerSocket} durable events/s and changes its presence every ${what.presenceEvery} s. \`core\` is how busy the core of a node is: 1.00 is one core.

Nodes with ${count(full)} sockets each, and with room for those of a lost one (\`maxSessions\`):

${table(["nodes", "sockets", "MB of a node", "core", "s until 99.9 % are back when one is lost", "commits/s", "statements/s of readers, PostgreSQL alone", "with NATS"], fullNodes)}

${count(million)} sockets, what one node needs:

${table(["nodes", "sockets", "deliveries", "pings", "feed", "presence", "core", "cores of all", "MB of sockets", "MB of presence"], ofNode)}

${count(million)} sockets, MB/s to NATS and from it, and PostgreSQL:

${table(["nodes", "feed to", "feed from", "bus to", "bus from", "commits/s", "statements/s"], between)}

${count(million)} sockets, and all of one node or of all nodes are lost at the same moment:

${table(["nodes", "lost", "sockets", "back in the busiest second", "to a node", "its core", "rejections of a client", "s until 99.9 % are back"], storms)}

Assumed, beside [what was measured](https://github.com/effect-realtime/effect-realtime/blob/main/bench/README.md):

- A delivery costs ${micros(W1.cpu.value)} us to one of ${count(W1.sockets)} sockets in one channel (W1), ${micros(W3.cpu.value - W1.cpu.value)} us more on a node with ten times the sockets (W3), and ${micros((C.cpu.value - W3.cpu.value) / 4)} us more with ten times the channels (C). With ${count(full)} sockets in channels of their own that is ${micros(cpuOfDelivery(full, 1))} us. Nothing travels together in one frame. Nodes with more than ${count(full)} sockets were not measured.
- A ping every ${assumed.pingEvery} s costs as much as a delivery in a channel of its own.
- Each event of a room that a node has costs it ${Measured.cpuOfEvent.value} us (R), over NATS as from PostgreSQL.
- Every node has every member, ${Measured.heapOfMember.value} bytes for its own and ${Measured.heapOfOtherMember.value} for another, and each change costs each node ${cpuOfChange.toFixed(0)} us.
- A socket takes ${count(Measured.rssOfSocket.value)} bytes (I), its one subscription ${count(Measured.heapOfSubscription.value)} (growth), a process without sockets ${megabytes(assumed.process)} MB.
- A page has ${assumed.pageBytes} bytes, a tick ${count(assumed.tickBytes)}, the heartbeat of a node ${assumed.beatBytes}. The elected reader sends a tick and a statement for each commit, and at most ${Measured.statementsOfReader.value} of each a second (calculated, 500 commits/s), another node one statement a second, each ${assumed.revocationLooks} more for revocations.
- A door accepts ${assumed.upgradesPerSecond} upgrades/s, and as many at once before. Clients have the default \`backoff\`. A handshake costs ${Measured.cpuOfHandshake.value} us (I).
- Not counted: rejections, tokens, rights, replays and states; TLS, compression, the balancer, the buffers of the kernel. The cores are those of the benchmark.`)
