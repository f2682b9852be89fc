/**
 * ifupdown's files are the admin's: they are edited as they stand, never replaced. Pure.
 */
import type { Baseline } from "../facts.ts";

/** A file that is somebody else's, and what has to become of its text; may be repeated. */
export interface FileEdit {
  readonly path: string;
  readonly edit: (text: string) => string;
}

/** The edits that make ifupdown let go of the external interface. */
export function ifupdownEdits({ interface: nic, interfaces, managers }: Baseline): FileEdit[] {
  if (!managers.includes("ifupdown")) return [];
  return Object.keys(interfaces ?? {}).sort().map((path) => ({
    path,
    edit: (text) => releaseInterface(text, nic),
  }));
}

/** The words of interfaces(5) that begin a stanza, and so end the one before. */
const STANZA = /^(iface|auto|mapping|source|source-directory|rename|no-auto-down|no-scripts|allow-.+)$/;

/** interfaces(5): the stanzas of the interface and its aliases become comments; everything else stays. */
export function releaseInterface(text: string, nic: string): string {
  const isNic = (name = "") => name === nic || name.startsWith(`${nic}:`);
  let inside = false;
  return extendedLines(text).flatMap((lines) => {
    const [keyword = "", ...names] = wordsOf(lines);
    if (keyword === "" || keyword.startsWith("#")) return lines;
    if (STANZA.test(keyword)) inside = keyword === "iface" && isNic(names[0]);
    if (/^(auto|allow-.+)$/.test(keyword) && names.some(isNic)) {
      const others = names.filter((name) => !isNic(name));
      if (others.length > 0) return [[keyword, ...others].join(" ")];
      return lines.map(commentOut);
    }
    return inside ? lines.map(commentOut) : lines;
  }).join("\n");
}

/** A backslash at its end extends a line, unless that is a comment. */
function extendedLines(text: string): string[][] {
  const groups: string[][] = [];
  let open = false;
  for (const line of text.split("\n")) {
    if (open) groups.at(-1)?.push(line);
    else groups.push([line]);
    open = line.endsWith("\\") && (open || !/^\s*#/.test(line));
  }
  return groups;
}

function wordsOf(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(/\\$/, "")).join("").trim().split(/\s+/);
}

const MARK = "#mobula# ";

function commentOut(line: string): string {
  return `${MARK}${line}`;
}

/**
 * Takes `releaseInterface` back: `before` is the text it was first given. Where somebody has edited the file since, our comments
 * become lines again, and the interface comes back into the lines of `auto` from which it was taken.
 */
export function restoreInterfaces(text: string, nic: string, before: string): string {
  if (text === releaseInterface(before, nic)) return before;
  const shortened = new Map(
    extendedLines(before).flatMap((lines): [string, string][] => {
      const original = lines.join("\n");
      const released = releaseInterface(original, nic);
      return released === original || released.startsWith(MARK) ? [] : [[released, original]];
    }),
  );
  return text.split("\n").map((line) =>
    line.startsWith(MARK) ? line.slice(MARK.length) : shortened.get(line) ?? line
  ).join("\n");
}
