/**
 * Settings that make a test run cheaper, in the environment of every process that it starts. A
 * variable that is set already stays.
 *
 * TMPDIR: temporary files in memory, where the machine has enough. Databases are made, filled and
 * dropped by the hundred, and on a disk most of the time of a run goes into files that are never
 * read again.
 *
 * NODE_COMPILE_CACHE: code that Node compiled for one program is there for the next. Tests start
 * some sixty programs, and each then needs two thirds of the time or less.
 */
import { accessSync, constants, statfsSync } from "node:fs"
import { resolve } from "node:path"

const directory = "/dev/shm"

/** The bytes that a run may need at a time, twice; a container often has 64 MB. */
const needed = 4 * 1024 ** 3

const fits = (): boolean => {
  try {
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK)
    const { bavail, bsize } = statfsSync(directory)
    return bavail * bsize >= needed
  } catch {
    // Not on this system, or not for this user.
    return false
  }
}

const compiled = resolve(import.meta.dirname, "../../node_modules/.cache/tests")

/** `exact`: the run is measured line by line, which code from a cache does not allow. */
export const makeCheaper = (exact: boolean): void => {
  if (process.env["TMPDIR"] === undefined && fits()) process.env["TMPDIR"] = directory
  if (!exact) process.env["NODE_COMPILE_CACHE"] ??= compiled
}
