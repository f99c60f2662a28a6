/**
 * Records a run: as JSON if the option asks for it, and in the README of the bench.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { apart } from "../lib/options.ts"
import { chartOf } from "./chart.ts"
import type { Run } from "./run.ts"
import { tablesOf } from "./table.ts"

const bench = Path.resolve(import.meta.dirname, "..")

export const writeJson = (
  path: string,
  { curves, failures, how, machine, sections }: Run
): void => {
  const results = sections.flatMap((section) => section.results)
  const costs = sections.flatMap((section) => section.costs)
  Fs.writeFileSync(
    path,
    `${JSON.stringify({ machine, how, results, costs, growth: curves, failures }, undefined, 2)}\n`
  )
}

/** A part of the README that the bench writes, between two marks. */
const replace = (readme: string, part: string, text: string): string => {
  const [begin, end] = [`<!-- the last ${part} begins -->`, `<!-- the last ${part} ends -->`]
  const [from, to] = [readme.indexOf(begin), readme.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`the README has lost its marks "${begin}", "${end}"`)
  return `${readme.slice(0, from + begin.length)}\n\n${text}\n\n${readme.slice(to)}`
}

const fullRun = "full run"

/** The results of the workloads of this part of the README. */
const partOf = (run: Run, part: string): Run => {
  const partOfName = (name: string) =>
    Object.keys(apart).find((part) => apart[part]!.includes(name)) ?? fullRun
  const isIn = (name: string) => partOfName(name) === part
  return {
    ...run,
    how: { ...run.how, workloads: run.how.workloads.filter(isIn) },
    sections: run.sections.filter(({ workload }) => isIn(workload)),
    curves: part === fullRun ? run.curves : [],
    failures: run.failures.filter(({ workload }) => isIn(workload))
  }
}

/** The README with the results of the run; results that it did not measure stay. */
export const readmeWith = (readme: string, run: Run): string =>
  [fullRun, ...Object.keys(apart)]
    .map((part) => [part, partOf(run, part)] as const)
    .filter(([, { how }]) => how.workloads.length > 0)
    .reduce((text, [part, some]) => replace(text, part, tablesOf(some)), readme)

export const writeReadme = (run: Run): void => {
  const path = Path.join(bench, "README.md")
  Fs.writeFileSync(path, readmeWith(Fs.readFileSync(path, "utf8"), run))
  const others = partOf(run, fullRun)
  if (others.how.workloads.length > 0) {
    Fs.writeFileSync(Path.join(bench, "chart.svg"), chartOf(others))
  }
}
