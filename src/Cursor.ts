/**
 * Positions in a channel, as text. Opaque to applications; parsed and capped here, wherever they come from.
 *
 * A live cursor is `<epoch>:<seq>`: the epoch names one unbroken span of LISTEN on one node, the
 * sequence counts its events from 1. Cursors of different epochs cannot be compared: a lost link
 * begins a new epoch, which is how an old cursor is noticed.
 *
 * @since 0.1.0
 */

/**
 * A position in a live channel: everything up to and including event `seq` of `epoch` was seen.
 *
 * @category models
 * @since 0.1.0
 */
export interface LiveCursor {
  /** 1-32 characters of `[A-Za-z0-9_-]`. */
  readonly epoch: string
  /** From 0 (nothing seen) to 2^53-1. */
  readonly seq: number
}

/**
 * The largest cursor that is looked at, in bytes (8 KiB). A longer one is treated as one that does not parse.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxBytes = 8 * 1024

const live = /^([A-Za-z0-9_-]{1,32}):(0|[1-9][0-9]{0,15})$/

/**
 * @category encoding
 * @since 0.1.0
 */
export const formatLive = (epoch: string, seq: number): string => `${epoch}:${seq}`

/**
 * Reads a live cursor; `undefined` when the text is not one. Never throws.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseLive = (text: string): LiveCursor | undefined => {
  // 49 = 32 characters of epoch, a colon, 16 digits: longer text cannot be a live cursor.
  if (text.length > 49) return undefined
  const parts = live.exec(text)
  if (parts === null) return undefined
  const seq = Number(parts[2])
  return Number.isSafeInteger(seq) ? { epoch: parts[1]!, seq } : undefined
}
