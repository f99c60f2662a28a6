/**
 * The words that prose does without: from the text of a source it returns the comments and the titles of
 * tests that have one of them. Which folders are read is left to `test/house.test.ts`.
 */

/** These hide the actor: name the client, session, channel, reader, node, subscriber or publisher. */
const forbidden: ReadonlyArray<RegExp> = [
  /\b(?:some|no|every|any)(?:body|one)(?:'s)?\b/i,
  /\bwho(?:m|ever|mever)?\b/i,
  /\b(?:comes|came)\b/i,
  /\b(?:is|are|was|were) told\b/i,
  /\btold (?:that|what|of)\b/i
]

/** A label of a case, which means something to its author only. */
const label = /^(?:[A-Z]?\d+(?:, )?)+: /

interface Prose {
  readonly line: number
  readonly kind: "comment" | "title"
  readonly text: string
}

/** Comments that begin a line. Others are rare, and a string may look like one. */
const comment = /^[ \t]*(?:\/\/(.*)|\/\*([\s\S]*?)\*\/)/gm

/** The first argument of `it`, `describe` and their kin, and of what `each` returns. */
const title =
  /(?:\b(?:it|test|describe)(?:\.[a-z]\w*)*\(|\)\()\s*(["'`])((?:\\.|(?!\1)[^\\])*)\1,\s*(?:async\b|\(|\{)/g

/** The comments and the titles of a source, without what a title inserts. */
export const proseOf = (text: string): ReadonlyArray<Prose> => {
  const lineAt = (index: number) => text.slice(0, index).split("\n").length
  return [
    ...[...text.matchAll(comment)].map((found): Prose => ({
      line: lineAt(found.index),
      kind: "comment",
      text: found[1] ?? found[2]!
    })),
    ...[...text.matchAll(title)].map((found): Prose => ({
      line: lineAt(found.index),
      kind: "title",
      text: found[2]!.replaceAll(/\$\{[^}]*\}/g, "")
    }))
  ]
}

/** What a file says in other words, one sentence each. */
export const faultsOf = (path: string, text: string): ReadonlyArray<string> =>
  proseOf(text).flatMap(({ kind, line, text }) => {
    const words = forbidden.flatMap((word) => word.exec(text)?.[0] ?? [])
    const labels = kind === "title" ? (label.exec(text)?.[0] ?? []) : []
    return words
      .concat(labels)
      .map((word) => `${path}:${line}: the ${kind} says "${word.trim()}": name the actor instead`)
  })
