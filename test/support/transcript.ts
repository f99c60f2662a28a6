/**
 * Transcripts of the protocol: reads them, and checks the frames of a server against them.
 *
 *     C: {"type":"subscribe","id":1,"channel":"a"}
 *     S: {"type":"subscribed","id":1,"channel":"a","state":"fresh","cursor":"<cursor>"}
 *
 * Lines of a server that follow each other are one step, because frames may arrive in any order.
 */

export interface Step {
  readonly actor: "C" | "S" | "DB"
  readonly lines: ReadonlyArray<string>
}

export const read = (text: string): ReadonlyArray<Step> => {
  const steps: Array<{ readonly actor: Step["actor"]; readonly lines: Array<string> }> = []
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue
    const [, actor, said] = /^(C|S|DB): (.+)$/.exec(line) ?? []
    if (actor === undefined || said === undefined)
      throw new Error(`no line of a transcript: ${line}`)
    const last = steps.at(-1)
    const goes = actor === "S" && last?.actor === "S" && said.startsWith("{")
    if (goes && last.lines[0]!.startsWith("{")) last.lines.push(said)
    else steps.push({ actor: actor as Step["actor"], lines: [said] })
  }
  return steps
}

export type Bound = ReadonlyMap<string, unknown>

const placeholder = /^<.+>$/

/** The values of the placeholders if a frame matches a line; `undefined` if it does not. */
export const match = (said: unknown, value: unknown, bound: Bound): Bound | undefined => {
  if (typeof said === "string" && placeholder.test(said)) {
    if (!bound.has(said)) return new Map([...bound, [said, value]])
    return bound.get(said) === value ? bound : undefined
  }
  if (typeof said !== "object" || said === null) return said === value ? bound : undefined
  if (typeof value !== "object" || value === null) return undefined
  const names = Object.keys(said)
  if (names.join() !== Object.keys(value).join()) return undefined
  return names.reduce<Bound | undefined>(
    (sofar, name) =>
      sofar &&
      match(
        (said as Readonly<Record<string, unknown>>)[name],
        (value as Readonly<Record<string, unknown>>)[name],
        sofar
      ),
    bound
  )
}

/** A line with the values of its placeholders. */
export const fill = (line: string, bound: Bound): string =>
  line.replaceAll(/"(<[^"]+>)"/g, (_, name: string) => {
    if (!bound.has(name)) throw new Error(`nothing is known of ${name} yet`)
    return JSON.stringify(bound.get(name))
  })
