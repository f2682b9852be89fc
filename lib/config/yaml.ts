/**
 * YAML text to a value, or to a problem with its line and column. Pure.
 */
import { parse } from "@std/yaml";
import { describe, type Report } from "./problems.ts";

/** Largest file, in characters: a fleet of all 32,767 hosts takes a third of it. */
export const MAX_TEXT = 10 * 1024 * 1024;
/** Keys that merge keys (`<<`) may copy in all: a fleet of all 32,767 hosts that each take thirty of a map. */
const MAX_MERGED = 1e6;

/** Parses one document: its value (null when empty), or undefined when the mistake was reported. */
export function parseYaml(text: string, report: Report): unknown {
  const problem = textProblem(text);
  if (problem !== undefined) return void report([], problem);
  let value: unknown;
  try {
    // Without merge keys: the parser takes a minute for what `merged` does in a second. And without dates, which are text here.
    value = parse(text, { schema: "core" }) ?? null;
  } catch (error) {
    return void report([], syntaxProblem(error));
  }
  try {
    return merged(value);
  } catch (error) {
    if (error instanceof MergeProblem) return void report([], error.message);
    throw error;
  }
}

class MergeProblem extends Error {}

/**
 * The value with the maps of its merge keys taken in: a map's own keys win, then those of the first map (YAML 1.1, "Merge Key Language-
 * Independent Type"). What is used several times by aliases stays one object.
 */
function merged(value: unknown): unknown {
  const known = new Map<object, unknown>();
  let copied = 0;
  const visit = (value: unknown): unknown => {
    if (typeof value !== "object" || value === null) return value;
    if (known.has(value)) return known.get(value);
    if (Array.isArray(value)) {
      const list: unknown[] = [];
      known.set(value, list);
      for (const item of value) list.push(visit(item));
      return list;
    }
    const map: Record<string, unknown> = {};
    known.set(value, map);
    const set = (key: string, item: unknown) => {
      // An assignment would change what the map is.
      if (key === "__proto__") Object.defineProperty(map, key, { value: item, enumerable: true });
      else map[key] = item;
    };
    for (const [key, item] of Object.entries(value)) {
      if (key !== MERGE_KEY) set(key, visit(item));
    }
    if (!Object.hasOwn(value, MERGE_KEY)) return map;
    const given = (value as Record<string, unknown>)[MERGE_KEY];
    for (const source of Array.isArray(given) ? given : [given]) {
      if (typeof source !== "object" || source === null || Array.isArray(source)) {
        throw new MergeProblem("found a merge key (<<) without a map; expected a map, or a list of maps");
      }
      for (const [key, item] of Object.entries(visit(source) as object)) {
        if (++copied > MAX_MERGED) {
          throw new MergeProblem(
            `found merge keys (<<) that copy more than ${MAX_MERGED} keys; expected the settings in all.vars instead`,
          );
        }
        if (!Object.hasOwn(map, key)) set(key, item);
      }
    }
    return map;
  };
  return visit(value);
}

const MERGE_KEY = "<<";

/** What the YAML parser would take too long for, or let pass although it is wrong. */
function textProblem(text: string): string | undefined {
  if (text.length > MAX_TEXT) return `found ${text.length} characters; expected at most ${MAX_TEXT}`;
  const line = tabIndentedLine(text);
  return line === undefined
    ? undefined
    : `line ${line}, column 1: found a tab in the indentation; expected spaces`;
}

/** The error's message holds an excerpt of the file, which may be a private key: only its first line is used. */
function syntaxProblem(error: unknown): string {
  const message = error instanceof Error ? error.message : "";
  const match = /^(.*) at line (\d+), column (\d+)/.exec(message);
  if (!match) return "found lists or maps nested too deep; expected a plain inventory";
  const [, reason = "", line, column] = match;
  return `line ${line}, column ${column}: ${explain(reason)}`;
}

function explain(reason: string): string {
  if (reason.endsWith("duplicated key")) return "found the same key a second time; expected each key once";
  const tag = /unknown tag !<(.*)>$/.exec(reason)?.[1];
  if (tag === "!vault") {
    return "found an Ansible Vault value, which cannot be opened here; expected plain text";
  }
  if (tag !== undefined) return `found the tag ${describe(tag)}; expected a plain value`;
  return `not valid YAML (${reason.replace(/^Cannot [^:]*: /, "")})`;
}

/** Number of the first line that a tab indents, outside of block texts (`key: |`) and JSON. */
function tabIndentedLine(text: string): number | undefined {
  if (!text.includes("\t") || /^\s*[{[]/.test(text)) return undefined;
  let blockIndent = Infinity;
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const [, spaces = "", tab, rest] = /^( *)(\t?)\s*(.?)/.exec(line) ?? [];
    if (rest === "" || spaces.length > blockIndent) continue;
    if (tab !== "" && rest !== "#") return index + 1;
    blockIndent = /[:-]\s+[|>][+\-\d]{0,2}\s*(#.*)?$/.test(line) ? spaces.length : Infinity;
  }
  return undefined;
}
