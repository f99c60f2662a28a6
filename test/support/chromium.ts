import { existsSync } from "node:fs"
import { chromium } from "playwright-core"

const candidates = [
  process.env["CHROMIUM_PATH"],
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
]

export const executablePath = candidates.find((path) => path !== undefined && existsSync(path))

if (executablePath === undefined) {
  console.warn(
    "SKIP browser tests: no Chromium found (apt-get install -y chromium, or set CHROMIUM_PATH)"
  )
}

export const launch = () =>
  chromium.launch({
    executablePath: executablePath!,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync"
    ]
  })
