/** The next frame of a page, before which what its user sees is brought up to date. */

/** How long `inNextFrame` waits where there are no frames, in milliseconds. */
const frameless = 100

/** Runs `run` before the next frame is painted; after 100 ms where none is: in Node, in a hidden page. */
export const inNextFrame = (run: () => void): void => {
  const once = () => {
    clearTimeout(timer)
    globalThis.cancelAnimationFrame?.(frame)
    run()
  }
  const timer = setTimeout(once, frameless)
  const frame = globalThis.requestAnimationFrame?.(once)
}

/** Gives a function that runs `run` in the next frame, once however often it is called until then. */
export const onceInNextFrame = (run: () => void): (() => void) => {
  let due = false
  return () => {
    if (due) return
    due = true
    inNextFrame(() => {
      due = false
      run()
    })
  }
}
