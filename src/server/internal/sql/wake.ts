/**
 * How often commits wake the readers with `wake: "hybrid"`, for the trigger that sends and the readers.
 *
 * A few commits close together each send a wake, and so do commits at a rate below that of a busy reader's
 * looks. Beyond it a look finds several, so that more wakes would only cost the writers.
 */

/** A wake may be sent in so many milliseconds, on average: as often as a busy reader looks. */
export const wakeMillis = 5

/** So many milliseconds of it may be ahead: 5 wakes at once. */
export const spareMillis = 20

/** After the last one no commit wakes for so many milliseconds. */
export const silentMillis = 20

/** The text of a wake after which the next commit wakes too; without it the next commits are silent. */
export const nextWakes = "next"
