/** In milliseconds: nothing new for so long means that nothing will come. */
export const silenceMillis = 10_000
