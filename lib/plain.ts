/**
 * Text of somebody else → text that a terminal only shows. Pure.
 *
 * A terminal obeys control characters (ECMA-48): titles, the clipboard (OSC 52), lines that are written over. What changes the direction
 * of text (Unicode Standard Annex 9) makes it read as something else.
 */

/** Characters of one text, unless told. */
const MAX_LENGTH = 20_000;

/** C0 but for tab and line feed, DEL, C1, direction marks and controls, line and paragraph separators, and half of a surrogate pair. */
const UNSAFE =
  // deno-lint-ignore no-control-regex
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** What stands for a character that was taken out. */
export const REPLACEMENT = "\ufffd";

/** The text without what a terminal would obey; line feeds and tabs stay. What is longer is cut, and says so. */
export function plainText(text: string, maxLength = MAX_LENGTH): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}… (${text.length} characters)` : text;
  return cut.replaceAll("\r\n", "\n").replace(UNSAFE, REPLACEMENT);
}

/** The same on one line. */
export function plainLine(text: string, maxLength = 300): string {
  return plainText(text, maxLength).replace(/[\n\t]+/g, " ");
}

/** A value of JSON with all texts in it plain, names of properties included. */
export function plainValue(value: unknown): unknown {
  if (typeof value === "string") return plainText(value);
  if (Array.isArray(value)) return value.map(plainValue);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [plainText(key), plainValue(item)]));
}

/** Our own colours: SGR sequences of digits. */
// deno-lint-ignore no-control-regex
const COLOUR = /(\x1b\[\d{1,3}m)/;

/** A finished text as it goes to a terminal: our own colours stay, whatever else a terminal would obey does not. */
export function withColoursOnly(text: string): string {
  return text.split(COLOUR).map((part, index) => index % 2 === 1 ? part : plainText(part, Infinity)).join("");
}
