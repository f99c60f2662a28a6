/** A Python that has the package `websockets`, if there is one. */
import { spawnSync } from "node:child_process"

const candidates = [process.env["PYTHON_PATH"], "python3", "/usr/bin/python3"]

/**
 * The first Python that can import `websockets`. Without one the test of `examples/python` is
 * skipped, which `global-setup.ts` reports.
 */
export const python = candidates.find(
  (path) =>
    path !== undefined &&
    spawnSync(path, ["-c", "import websockets"], { stdio: "ignore" }).status === 0
)
