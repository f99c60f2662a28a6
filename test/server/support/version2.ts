/**
 * The library at version 2 of the objects: packed from `main` before the triggers of each table and
 * the cursors that survive a crash, without its types, React and the tools for tests.
 */
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import type * as Server from "../../../src/server/index.ts"

const root = Path.resolve(import.meta.dirname, "../../..")

/**
 * The `./server` of version 2. The types are today's: functions that have changed since must not be
 * called.
 */
export const version2 = Effect.acquireRelease(
  Effect.sync(() => {
    const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-realtime-version2-"))
    execFileSync("tar", [
      "xzf",
      Path.join(root, "test/server/fixtures/version2.tgz"),
      "-C",
      directory
    ])
    Fs.symlinkSync(Path.join(root, "node_modules"), Path.join(directory, "node_modules"))
    return directory
  }),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true, force: true }))
).pipe(
  Effect.flatMap((directory) =>
    Effect.promise(
      () =>
        import(/* @vite-ignore */ Path.join(directory, "package/dist/server/index.js")) as Promise<
          typeof Server
        >
    )
  )
)
