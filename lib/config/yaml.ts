/**
 * YAML text to a value, or to a problem with its line and column. Pure.
 */
import { parse } from "@std/yaml";
import { describe, type Report } from "./problems.ts";

/** Largest file, in characters: a fleet of all 32,767 hosts takes a third of it. */
export const MAX_TEXT = 10 * 1024 * 1024;
/** Copying by merge keys costs up to aliases × characters. */
const MAX_ALIAS_WORK = 2e9;

/** Parses one document: its value (null when empty), or undefined when the mistake was reported. */
export function parseYaml(text: string, report: Report): unknown {
  const problem = textProblem(text);
  if (problem !== undefined) return void report([], problem);
  try {
    return parse(text) ?? null;
  } catch (error) {
    return void report([], syntaxProblem(error));
  }
}

/** What the YAML parser would take too long for, or let pass although it is wrong. */
function textProblem(text: string): string | undefined {
  if (text.length > MAX_TEXT) return `found ${text.length} characters; expected at most ${MAX_TEXT}`;
  const aliases = text.match(/(?<=[\s,:[{-])\*[\w-]+/g)?.length ?? 0;
  if (aliases > 1000 && aliases * text.length > MAX_ALIAS_WORK) {
    return `found ${aliases} aliases; expected fewer, the settings in all.vars instead`;
  }
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
