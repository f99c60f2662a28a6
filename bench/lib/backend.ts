/**
 * The CPU time of a process of PostgreSQL. The kernel counts it in nanoseconds, exactly whenever
 * the process waits: the clock of `/proc/<pid>/stat` ticks every 10 ms.
 */
import * as Fs from "node:fs"

/** User and system time of the process in nanoseconds. Linux only. */
export const cpuNanos = (pid: number): number => {
  const path = `/proc/${pid}/schedstat`
  try {
    return Number(Fs.readFileSync(path, "utf8").split(" ", 1)[0])
  } catch (error) {
    throw new Error(`T reads ${path}, which only Linux has`, { cause: error })
  }
}
