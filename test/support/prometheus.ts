/** A Prometheus of a test, where one is installed. */
import { Effect, type Scope } from "effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { freePort } from "./freePort.ts"
import { temporary } from "./temporary.ts"

const candidates = [
  process.env["PROMETHEUS_PATH"],
  "/usr/bin/prometheus",
  "/usr/local/bin/prometheus",
  "/opt/homebrew/bin/prometheus"
]

/**
 * The path of prometheus, if it is installed. Without it its tests are skipped, which `global-setup.ts`
 * reports.
 */
export const executablePath = candidates.find((path) => path !== undefined && Fs.existsSync(path))

/** The first sample of each series of an answer. */
export type Samples = ReadonlyArray<{
  readonly metric: Readonly<Record<string, string>>
  readonly value: readonly [number, string]
}>

/** Scrapes a target several times a second. Its query throws what Prometheus says of a faulty one. */
export const prometheus = (
  target: string
): Effect.Effect<(query: string) => Promise<Samples>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const port = yield* freePort
    const directory = yield* temporary
    const file = Path.join(directory, "prometheus.yml")
    Fs.writeFileSync(
      file,
      `scrape_configs: [{ job_name: effect-realtime, scrape_interval: 250ms, static_configs: [{ targets: ["${target}"] }] }]`
    )
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(
          executablePath!,
          [
            `--config.file=${file}`,
            `--storage.tsdb.path=${Path.join(directory, "data")}`,
            `--web.listen-address=127.0.0.1:${port}`
          ],
          { stdio: "ignore" }
        )
      ),
      (child) =>
        Effect.callback<void>((resume) => {
          child.once("exit", () => resume(Effect.void))
          child.kill("SIGKILL")
        })
    )
    const query = async (text: string): Promise<Samples> => {
      const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(text)}`
      const answer = (await (await fetch(url)).json()) as {
        readonly error?: string
        readonly data?: { readonly result: Samples }
      }
      if (answer.error !== undefined) throw new Error(`${text}: ${answer.error}`)
      return answer.data!.result
    }
    return query
  })
