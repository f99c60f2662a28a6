/**
 * Sends things at a rate.
 *
 * Slow paces give each message a turn of the event loop to itself, also after a late timer, so that
 * the server has nothing to coalesce. Fast ones run on a timer of 1 ms, so that a few messages
 * share a turn, as those of a busy database do.
 */
export const atRate = (
  count: number,
  perSecond: number,
  send: (index: number) => void
): Promise<void> => {
  const together = perSecond > 1000
  const every = 1000 / perSecond
  const begun = performance.now()
  let sent = 0
  return new Promise((resolve) => {
    const turn = () => {
      // The timer's clock has whole milliseconds, so it may be early by one.
      const elapsed = performance.now() - begun + 1
      const due = Math.min(count, Math.floor((elapsed * perSecond) / 1000))
      if (sent < due) {
        const until = together ? due : sent + 1
        while (sent < until) send(sent++)
      }
      if (sent === count) return resolve()
      if (sent < due) setImmediate(turn)
      else setTimeout(turn, together ? 1 : begun + (sent + 1) * every - performance.now())
    }
    setTimeout(turn, every)
  })
}
