/**
 * What a page has shown: each text of each of its sections, from the first on, and its complaints.
 *
 * In: a page of Playwright that has opened nothing yet. Out: the record, which grows.
 */
import type { Page, Request } from "playwright-core"

declare global {
  interface Window {
    /** By the id of a section: the texts of its list items, joined, without repeats. */
    readonly paints: Record<string, Array<string>>
  }
}

const observe = () => {
  const paints: Record<string, Array<string>> = {}
  Object.assign(window, { paints })
  const look = () => {
    for (const section of document.querySelectorAll("section[id]")) {
      const items = [...section.querySelectorAll("li")].map((item) => item.textContent)
      const text = section.querySelector("ul") === null ? "no list" : items.join(", ")
      const shown = (paints[section.id] ??= [])
      if (shown.at(-1) !== text) shown.push(text)
    }
  }
  new MutationObserver(look).observe(document, {
    attributes: true,
    characterData: true,
    childList: true,
    subtree: true
  })
}

/** Records what a page shows, what it asks of its server, and errors and warnings of its console. */
export const recorded = async (page: Page) => {
  const complaints: Array<string> = []
  const requests: Array<Request> = []
  const frames: Array<string> = []
  page.on("pageerror", (error) => complaints.push(error.message))
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text())
  })
  page.on("request", (request) => requests.push(request))
  page.on("websocket", (socket) => {
    socket.on("framesent", ({ payload }) => frames.push(...String(payload).split("\n")))
  })
  await page.addInitScript(observe)
  return {
    complaints,
    requests,
    /** The frames of this type that the page has sent. */
    sent: (type: string) => frames.filter((frame) => frame.includes(`"type":"${type}"`)),
    paints: () => page.evaluate(() => window.paints)
  }
}

/** Holds the scripts of a page back, so that nothing hydrates, until they are released. */
export const holdScripts = async (page: Page) => {
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  await page.route(
    (url) => url.pathname.endsWith(".js"),
    async (route) => {
      await released
      await route.continue()
    }
  )
  return release
}
