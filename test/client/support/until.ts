/** Waits for a condition, and fails after 2 s. */
export const until = async (condition: () => boolean): Promise<void> => {
  const end = performance.now() + 2000
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within 2 s: ${String(condition)}`)
    // oxlint-disable-next-line no-await-in-loop -- each look follows a wait
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}
