/**
 * The CPU time of a process of PostgreSQL, and of the whole server. The kernel counts it in nanoseconds, exactly whenever
 * the process waits: the clock of `/proc/<pid>/stat` ticks every 10 ms.
 */
import * as Fs from "node:fs"

/** User and system time of the process in nanoseconds. Linux only. */
export const cpuNanos = (pid: number): number => {
  const path = `/proc/${pid}/schedstat`
  try {
    return Number(Fs.readFileSync(path, "utf8").split(" ", 1)[0])
  } catch (error) {
    throw new Error(`the bench reads ${path}, which only Linux has`, { cause: error })
  }
}

/** The number of the parent of a process; 0 when the process is gone. */
export const parentOf = (pid: string | number): number => {
  try {
    const stat = Fs.readFileSync(`/proc/${pid}/stat`, "utf8")
    // The name before it is in brackets, and may hold blanks.
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1])
  } catch {
    return 0
  }
}

/** User and system time of each process of a server, by their numbers. `server` is the first process. */
export const serverNanos = (server: number): ReadonlyMap<number, number> => {
  const pids = Fs.readdirSync("/proc").filter(
    (name) => /^\d+$/.test(name) && (Number(name) === server || parentOf(name) === server)
  )
  return new Map(
    pids.flatMap((pid) => {
      try {
        return [[Number(pid), cpuNanos(Number(pid))] as const]
      } catch {
        return []
      }
    })
  )
}
