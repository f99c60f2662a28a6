import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { BrowserContext } from "playwright-core"

const candidates = [
  process.env["CHROMIUM_PATH"],
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
]

/**
 * The path of Chromium, if it is installed. Without it the browser tests are skipped, which
 * `global-setup.ts` reports.
 */
export const executablePath = candidates.find((path) => path !== undefined && existsSync(path))

const args = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync"
]

/** Imported lazily, because it takes long and most runs do not need it. */
const chromium = async () => (await import("playwright-core")).chromium

export const launch = async () =>
  (await chromium()).launch({ executablePath: executablePath!, args })

/**
 * A browser as users have it: a tab behind another one is hidden, its timers are held back and it
 * may be frozen. In browsers that Playwright launches every tab believes to be in front.
 */
export const launchPlain = async (): Promise<{
  readonly context: BrowserContext
  readonly close: () => Promise<void>
}> => {
  const profile = mkdtempSync(join(tmpdir(), "chromium-"))
  const child = spawn(
    executablePath!,
    [...args, "--remote-debugging-port=0", `--user-data-dir=${profile}`],
    { stdio: ["ignore", "ignore", "pipe"] }
  )
  const exited = once(child, "exit")
  let log = ""
  const endpoint = await new Promise<string>((resolve, reject) => {
    child.stderr.on("data", (text: Buffer) => {
      log += text.toString()
      const listening = /^DevTools listening on (ws:\S+)/m.exec(log)
      if (listening !== null) resolve(listening[1]!)
    })
    child.once("error", reject)
    child.once("exit", () => reject(new Error(`Chromium ended:\n${log}`)))
  })
  const browser = await (await chromium()).connectOverCDP(endpoint, { noDefaults: true })
  return {
    context: browser.contexts()[0]!,
    close: async () => {
      await browser.close()
      child.kill()
      await exited
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 })
    }
  }
}
