/** A word of a line that a user pastes into a shell: in quotes where the shell would change it. */
export const shellWord = (text: string): string =>
  /^[\w./:=,@-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
