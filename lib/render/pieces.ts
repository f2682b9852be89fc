/**
 * A long text of many pieces that is joined once. A text that differs from it in a few pieces is made without joining the others again.
 * Pure.
 */

/** The joined text, and where in it each piece starts; behind the last one, where it ends. */
export interface Pieces {
  readonly text: string;
  readonly starts: readonly number[];
}

/** Joins the pieces; each brings its own separator. */
export function joinPieces(pieces: readonly string[]): Pieces {
  const starts = [0];
  for (const piece of pieces) starts.push(starts.at(-1)! + piece.length);
  return { text: pieces.join(""), starts };
}

/** The text with other pieces in these places; an empty one leaves the piece out. Places in ascending order. */
export function withPieces({ text, starts }: Pieces, others: readonly (readonly [number, string])[]): string {
  let result = "";
  let from = 0;
  for (const [place, piece] of others) {
    result += text.slice(from, starts[place]) + piece;
    from = starts[place + 1]!;
  }
  return result + text.slice(from);
}
