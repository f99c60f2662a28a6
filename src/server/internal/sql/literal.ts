/** A name in SQL: in quotes it may hold anything, and be a word of SQL. */
export const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** A text as a literal of SQL. Only `E''` has the same meaning under every setting. */
export const literal = (text: string): string =>
  text.includes("\\")
    ? ` E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`
    : `'${text.replaceAll("'", "''")}'`
