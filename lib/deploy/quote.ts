/**
 * Quoting for a remote POSIX shell: the only place where words become a command line. Pure.
 */

/** Joins words to one command line that any POSIX shell splits into exactly these words again. */
export function shellQuote(words: readonly string[]): string {
  return words.map(quoteWord).join(" ");
}

/** Every word is quoted, so none can be taken for a keyword, an assignment, an alias or a pattern. */
function quoteWord(word: string): string {
  if (word.includes("\0")) {
    throw new RangeError("Cannot quote word: it holds a NUL character; expected text a process can be given");
  }
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
