/** A Python that has the package `websockets`, if there is one. */
import { spawnSync } from "node:child_process"

const candidates = [process.env["PYTHON_PATH"], "python3", "/usr/bin/python3"]

/**
 * The first that can import `websockets`. Without it the test of `examples/python` is skipped;
 * `global-setup.ts` says so.
 */
export const python = candidates.find(
  (path) =>
    path !== undefined &&
    spawnSync(path, ["-c", "import websockets"], { stdio: "ignore" }).status === 0
)
