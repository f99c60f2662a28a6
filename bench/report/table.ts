/**
 * The run as Markdown that is also legible in a terminal.
 */
import type { Curve } from "../measure/growth.ts"
import { moreIsBetter, type Result } from "../measure/result.ts"
import type { Machine } from "./machine.ts"
import type { How, Run, Section } from "./run.ts"

/** Numbers stand on the right. */
const isNumber = (cell: string): boolean => /^[\d<>(]/.test(cell)

const table = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const [head = [], ...body] = rows
  const columns = head.map((_, column) => ({
    width: Math.max(...rows.map((row) => (row[column] ?? "").length)),
    right: body.some((row) => isNumber(row[column] ?? ""))
  }))
  const line = (row: ReadonlyArray<string>) => {
    const cells = columns.map(({ right, width }, column) => {
      const cell = row[column] ?? ""
      return right ? cell.padStart(width) : cell.padEnd(width)
    })
    return `| ${cells.join(" | ")} |`
  }
  const rule = columns.map(({ right, width }) => `${"-".repeat(width + 1)}${right ? ":" : "-"}`)
  return [line(head), `|${rule.join("|")}|`, ...body.map(line)].join("\n")
}

const times = (value: number): string => value.toFixed(2)

/** `0.87 (0.84-0.91)`. */
const ratioText = (result: Result | undefined): string =>
  result === undefined ? "" : `${times(result.ratio)} (${times(result.low)}-${times(result.high)})`

const sectionText = ({ costs, results, title, workload }: Section): string => {
  const columns = [...new Set(costs.flatMap((cost) => Object.keys(cost.columns)))]
  const subjects = new Set(costs.map(({ subject }) => subject))
  // Of the subjects with a row: others stand among the goals only.
  const against = [
    ...new Set(
      results.flatMap(({ baseline, measure, subject }) =>
        subjects.has(subject) ? [`${measure}\n${baseline}`] : []
      )
    )
  ].map((key) => key.split("\n") as [string, string])
  const several = new Set(against.map(([measure]) => measure)).size > 1
  const rows = costs.map(({ columns: values, subject }) => [
    subject,
    ...columns.map((column) => values[column] ?? ""),
    ...against.map(([measure, baseline]) =>
      ratioText(
        results.find(
          (result) =>
            result.subject === subject && result.baseline === baseline && result.measure === measure
        )
      )
    )
  ])
  const heads = against.map(([measure, baseline]) =>
    several ? `${measure} x ${baseline}` : `x ${baseline}`
  )
  return `### ${workload}: ${title}\n\n${table([["", ...columns, ...heads], ...rows])}`
}

const words = { met: "met", missed: "MISSED", "too-noisy": "too noisy to say" }

/** Every goal with its outcome. */
const goalsText = (sections: ReadonlyArray<Section>): string => {
  const rows = sections
    .flatMap(({ results }) => results)
    .flatMap((result) =>
      result.goal === null || result.verdict === null
        ? []
        : [
            [
              result.workload,
              result.subject,
              result.measure,
              result.baseline,
              `${moreIsBetter.has(result.measure) ? ">=" : "<="} ${times(result.goal)}`,
              ratioText(result),
              String(result.pairs),
              words[result.verdict]
            ]
          ]
    )
  const head = [
    "",
    "subject",
    "measure",
    "x",
    "goal",
    "median (range; T: quartiles)",
    "pairs",
    "verdict"
  ]
  return rows.length === 0 ? "" : `### Goals\n\n${table([head, ...rows])}`
}

const curveText = ({ points, title, unit }: Curve): string => {
  const subjects = Object.keys(points[0]?.values ?? {})
  const rows = points.map(({ at, values }) => [
    at,
    ...subjects.map((subject) => (values[subject] ?? Number.NaN).toFixed(2))
  ])
  return `### Growth: ${title}\n\n${table([["", ...subjects.map((name) => `${name}, ${unit}`)], ...rows])}`
}

const machineText = ({ cores, cpu, date, load, memoryGiB, node, os, versions }: Machine): string =>
  `${date}, ${cores} cores of ${cpu}, ${memoryGiB} GiB, ${os}, Node ${node}, load ${load} at the start.\n` +
  Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(", ")

const howText = ({ absent, command, pairs, seconds, workloads }: How, minutes: number): string =>
  `\`${command}\`: ${workloads.join(", ")}, ${pairs} pairs, windows of ${seconds} s, ${minutes.toFixed(0)} minutes.` +
  (absent.length === 0 ? "" : ` Not there: ${absent.join(", ")}.`)

export const tablesOf = ({ curves, failures, how, machine, minutes, sections }: Run): string =>
  [
    `${machineText(machine)}.\n${howText(how, minutes)}`,
    ...failures.map(({ reason, workload }) => `**${workload} failed**: ${reason}`),
    goalsText(sections),
    ...sections.map(sectionText),
    ...curves.map(curveText)
  ]
    .filter((text) => text !== "")
    .join("\n\n")
