/**
 * A CPU profile of one window, with the functions that took most of it.
 */
import * as Fs from "node:fs"
import { type Profiler, Session } from "node:inspector/promises"

const shown = 30

export class WindowProfiler {
  readonly #session = new Session()

  static async start(): Promise<WindowProfiler> {
    const profiler = new WindowProfiler()
    profiler.#session.connect()
    await profiler.#session.post("Profiler.enable")
    await profiler.#session.post("Profiler.setSamplingInterval", { interval: 200 })
    await profiler.#session.post("Profiler.start")
    return profiler
  }

  /** Writes `path` for the developer tools, and `path.txt` for readers. */
  async stop(path: string): Promise<void> {
    const { profile } = await this.#session.post("Profiler.stop")
    this.#session.disconnect()
    Fs.writeFileSync(path, JSON.stringify(profile))
    Fs.writeFileSync(`${path}.txt`, summary(profile))
  }
}

type Ranking = Map<string, number>

const add = (ranking: Ranking, name: string, micros: number): void => {
  ranking.set(name, (ranking.get(name) ?? 0) + micros)
}

/** The profiler's own work is no part of the window. */
const ignored = new Set(["(idle)", "(root)", "post"])

const summary = ({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): string => {
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const parent = new Map(nodes.flatMap(({ children = [], id }) => children.map((to) => [to, id])))
  const fileOf = ({ callFrame: { url } }: Profiler.ProfileNode) =>
    url.split("/").slice(-3).join("/") || "(native)"
  const nameOf = (node: Profiler.ProfileNode) =>
    `${node.callFrame.functionName || "(anonymous)"} ${fileOf(node)}:${node.callFrame.lineNumber + 1}`
  const self: Ranking = new Map()
  const files: Ranking = new Map()
  const inclusive: Ranking = new Map()
  let total = 0
  samples.forEach((id, index) => {
    const node = byId.get(id)!
    if (ignored.has(node.callFrame.functionName)) return
    const micros = timeDeltas[index] ?? 0
    total += micros
    add(self, nameOf(node), micros)
    add(files, fileOf(node), micros)
    const stack = new Set<string>()
    for (let at: number | undefined = id; at !== undefined; at = parent.get(at)) {
      stack.add(nameOf(byId.get(at)!))
    }
    for (const name of stack) add(inclusive, name, micros)
  })
  const lines = (title: string, ranking: Ranking) => [
    `-- ${title}`,
    ...[...ranking]
      .toSorted(([, left], [, right]) => right - left)
      .slice(0, shown)
      .map(([name, micros]) => `${((100 * micros) / total).toFixed(1).padStart(5)} %  ${name}`)
  ]
  return [
    ...lines("self time by function", self),
    ...lines("self time by file", files),
    ...lines("time by function, with what it calls", inclusive)
  ].join("\n")
}
