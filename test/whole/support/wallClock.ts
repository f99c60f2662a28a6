/**
 * The wall clock of a process that a test steps. Its monotonic clock and its timers go on as they are, as on
 * a machine whose time an operator sets.
 */
let offset = 0
const RealDate = Date

class SteppedDate extends RealDate {
  constructor(...args: ReadonlyArray<unknown>) {
    if (args.length === 0) super(SteppedDate.now())
    else super(...(args as [number]))
  }

  static override now(): number {
    return RealDate.now() + offset
  }
}

globalThis.Date = SteppedDate as DateConstructor

/** Sets the clock so many milliseconds off. */
export const stepWallClock = (millis: number): void => {
  offset = millis
}
