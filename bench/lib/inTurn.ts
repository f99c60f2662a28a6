/**
 * Runs one after the other: one measurement does not share the machine with the next.
 */
export const inTurn = async <A, B>(
  items: Iterable<A>,
  run: (item: A) => PromiseLike<B>
): Promise<ReadonlyArray<B>> => {
  const results: Array<B> = []
  for (const item of items) {
    // oxlint-disable-next-line no-await-in-loop -- that is the point
    results.push(await run(item))
  }
  return results
}
