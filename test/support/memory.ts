/**
 * Temporary files in memory, where the machine has enough: databases are made, filled and dropped by the
 * hundred, and on a disk most of the time of a run goes into files that nobody reads again.
 *
 * TMPDIR decides, whoever set it: the embedded servers and every program that a test starts go by it.
 */
import { accessSync, constants, statfsSync } from "node:fs"

const directory = "/dev/shm"

/** What a run may need at a time, in bytes, with as much to spare; a container often has 64 MB. */
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

export const useMemory = (): void => {
  if (process.env["TMPDIR"] === undefined && fits()) process.env["TMPDIR"] = directory
}
