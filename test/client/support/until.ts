/** Waits for a condition without guessing how long it takes; fails after 2 s. */
export const until = async (condition: () => boolean): Promise<void> => {
  const end = performance.now() + 2000
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within 2 s: ${String(condition)}`)
    // oxlint-disable-next-line no-await-in-loop -- waiting is what it is for
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}
