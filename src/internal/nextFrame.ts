/** The next frame of a page, before which what its user sees is brought up to date. */

/** How long `inNextFrame` waits where there are no frames, in milliseconds. */
const frameless = 100

/** Runs `run` before the next frame is painted; after 100 ms where none is: in Node, in a hidden page. */
const inNextFrame = (run: () => void): void => {
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

/**
 * Gives a function that runs `run` in the next frame, once however often it is called until then. All that
 * share the list `due` run in one callback, so that React shows what has changed in one render.
 */
export const onceTogether = (due: Array<() => void>, run: () => void): (() => void) => {
  let isDirty = false
  return () => {
    if (isDirty) return
    isDirty = true
    const first = due.push(() => {
      isDirty = false
      run()
    })
    if (first > 1) return
    inNextFrame(() => {
      for (const one of due.splice(0)) one()
    })
  }
}
