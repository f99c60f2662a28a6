/**
 * Whether the Node of this process is one that the package runs on.
 *
 * In: a version. Out: one sentence with the cure, for the command line and the server. It imports nothing,
 * so that it runs before a module that an older Node cannot load.
 */

/** The oldest Node, as `engines` of package.json has it. */
export const oldestNode = "22.19.0"

const numberOf = (version: string): number => {
  const [major = 0, minor = 0] = version.split(".").map(Number)
  return major * 1000 + minor
}

/** What is wrong with this version of Node, or `undefined`. */
export const nodeFault = (version: string): string | undefined =>
  numberOf(version) >= numberOf(oldestNode)
    ? undefined
    : `effect-realtime needs Node ${oldestNode.replace(/\.0$/, "")} or newer, and this is Node ${version}. Install a newer Node, such as the LTS of https://nodejs.org.`
