/** Milliseconds without a new message, after which no message is expected any more. */
export const silenceMillis = 10_000
