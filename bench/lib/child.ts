/**
 * Starts the processes of a measurement: the server, the clients and the notifier, each apart, so
 * that each has its own costs.
 */
import { type ChildProcess, spawn } from "node:child_process"
import * as Path from "node:path"
import { type Remote, remote } from "./ipc.ts"

const root = Path.resolve(import.meta.dirname, "..")

export interface Child<Methods> extends AsyncDisposable, Remote<Methods> {
  readonly pid: number
}

/** The flags are the same for every measured server. */
const flags = ["--expose-gc", "--no-warnings", "-C", "@effect-realtime/source"]

/** Raises the soft limit of open files as far as the hard one goes: 10,000 sockets need as many. */
const raised = 'ulimit -n "$(ulimit -Hn)"; exec "$@"'

/** Node's compile cache: processes start in half the time, and nothing is measured while they start. */
const NODE_COMPILE_CACHE = Path.join(root, "../node_modules/.cache/bench")

export const start = <Methods>(
  file:
    | "server/main.ts"
    | "client/main.ts"
    | "notifier.ts"
    | "writers.ts"
    | "probe.ts"
    | "readers.ts"
    | "returners.ts"
    | "viewers.ts"
    | "receiver.ts"
    | "feeder/main.ts"
    | "listener/main.ts",
  args: ReadonlyArray<string> = []
): Child<Methods> => {
  const name = [file, ...args].join(" ")
  const command = [process.execPath, ...flags, Path.join(root, file), ...args]
  const child = spawn("/bin/sh", ["-c", raised, "sh", ...command], {
    cwd: root,
    env: { ...process.env, NODE_COMPILE_CACHE },
    stdio: ["ignore", "inherit", "inherit", "ipc"]
  })
  return Object.assign(remote<Methods>(child, name), {
    pid: child.pid ?? 0,
    [Symbol.asyncDispose]: () => stop(child)
  })
}

const patienceMillis = 10_000

const stop = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once("exit", resolve))
  const timer = setTimeout(() => child.kill("SIGKILL"), patienceMillis)
  if (child.connected) child.disconnect()
  await gone
  clearTimeout(timer)
}
