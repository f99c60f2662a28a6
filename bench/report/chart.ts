/**
 * One picture for the README: the cost of a delivered message, with a bare `ws` loop as 1.
 *
 * Written by hand so that it stays a few kilobytes, and follows the reader's colour scheme.
 */
import type { Run } from "./run.ts"

const shown = [
  { subject: "effect-realtime", style: "ours" },
  { subject: "ws", style: "bare" },
  { subject: "socket.io", style: "other" }
]

const width = 720
const left = 210
const bar = 14
const gap = 3
const between = 16
const top = 64

const text = (value: string): string => value.replaceAll("&", "&amp;").replaceAll("<", "&lt;")

const style = `
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .quiet { fill: #59636e }
  .ours { fill: #0969da } .bare { fill: #8c959f } .other { fill: #bf8700 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .quiet { fill: #9198a1 }
    .ours { fill: #4493f8 } .bare { fill: #656c76 } .other { fill: #d29922 }
  }`

export const chartOf = ({ machine, sections }: Run): string => {
  const groups = sections.flatMap(({ results, title, workload }) => {
    const ratios = results.filter(
      ({ baseline, measure }) => baseline === "ws" && measure === "cpu-per-delivery"
    )
    if (!ratios.some(({ subject }) => subject === "effect-realtime") || workload === "S") return []
    const bars = shown.flatMap(({ style, subject }) => {
      const value = subject === "ws" ? 1 : ratios.find((row) => row.subject === subject)?.ratio
      return value === undefined ? [] : [{ style, value }]
    })
    return [{ title, bars }]
  })
  const most = Math.max(1, ...groups.flatMap(({ bars }) => bars.map(({ value }) => value)))
  const scale = (width - left - 60) / most
  let y = top
  const drawn = groups.map(({ bars, title }) => {
    const begin = y
    const lines = bars.map(({ style, value }) => {
      const size = Math.max(1, value * scale)
      const line =
        `<rect class="${style}" x="${left}" y="${y}" width="${size.toFixed(1)}" height="${bar}" rx="2"/>` +
        `<text x="${(left + size + 6).toFixed(1)}" y="${y + bar - 3}">${value.toFixed(2)}</text>`
      y += bar + gap
      return line
    })
    const middle = (begin + y - gap) / 2
    y += between
    const [audience, ...rest] = title.split(/ x |, /)
    const label = `<text x="${left - 12}" y="${middle - 2}" text-anchor="end">${text(audience!)}</text><text class="quiet" x="${left - 12}" y="${middle + 13}" text-anchor="end">${text(rest.join(", "))}</text>`
    return label + lines.join("")
  })
  const legend = shown
    .map(
      ({ style, subject }, index) =>
        `<rect class="${style}" x="${left + index * 140}" y="38" width="10" height="10" rx="2"/><text x="${left + 16 + index * 140}" y="47">${subject}</text>`
    )
    .join("")
  const height = y + 14
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="Server CPU per delivered message, a bare ws loop being 1">
<style>${style}
</style>
<text class="title" x="12" y="22">Server CPU per delivered message (bare ws = 1, less is better)</text>
${legend}
${drawn.join("\n")}
<text class="quiet" x="12" y="${height - 8}">${text(`${machine.date}, Node ${machine.node}, ${machine.cores} cores. Median of the pairs. Per turn: at most 256 on the way.`)}</text>
</svg>
`
}
