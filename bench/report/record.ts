/**
 * Writes a run down: as JSON where it was asked for, and into the README of the bench.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
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

const begin = "<!-- the last full run begins -->"
const end = "<!-- the last full run ends -->"

export const writeReadme = (run: Run): void => {
  const path = Path.join(bench, "README.md")
  const readme = Fs.readFileSync(path, "utf8")
  const [from, to] = [readme.indexOf(begin), readme.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`${path} has lost its marks "${begin}", "${end}"`)
  const next = `${readme.slice(0, from + begin.length)}\n\n${tablesOf(run)}\n\n${readme.slice(to)}`
  Fs.writeFileSync(path, next)
  Fs.writeFileSync(Path.join(bench, "chart.svg"), chartOf(run))
}
