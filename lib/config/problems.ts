/**
 * Collecting what is wrong in the configuration files, and saying it in one way. Pure.
 */
import { ConfigError, type ConfigProblem } from "../errors.ts";

/** A configuration file that was read. */
export interface Source {
  /** As shown in messages. */
  readonly file: string;
  readonly text: string;
}

/** The keys that lead to a value, outermost first. */
export type KeyPath = readonly string[];

/** Notes one problem in the file that the function was made for. */
export type Report = (path: KeyPath, message: string) => void;

/** So many problems are shown; of the others only the number. */
export const MAX_PROBLEMS = 100;
/** Characters of a value or key that a message shows. */
const MAX_SHOWN = 60;
/** Keys of a path that a message shows. */
const MAX_KEYS = 16;

/** All problems of all files, each once, in the order found. */
export class Problems {
  readonly #found = new Map<string, ConfigProblem>();

  /** A function that notes problems of `file`. */
  in(file: string): Report {
    return (path, message) => this.add({ file, path: renderPath(path), message });
  }

  /** Notes a problem unless it is known (a group's value is checked for each of its hosts). */
  add(problem: ConfigProblem): void {
    this.#found.set(`${problem.file}\n${problem.path}\n${problem.message}`, problem);
  }

  /** Whether anything is wrong in `file`. */
  has(file: string): boolean {
    return this.#found.values().some((problem) => problem.file === file);
  }

  /** Throws a ConfigError with everything found, if there is anything. */
  throwIfAny(): void {
    if (this.#found.size === 0) return;
    const all = [...this.#found.values()];
    const more = all.length - MAX_PROBLEMS;
    const rest = more > 0 ? [{ file: "", path: "", message: `and ${more} more` }] : [];
    throw new ConfigError([...all.slice(0, MAX_PROBLEMS), ...rest]);
  }
}

/** Keys with dots between them; a key with unusual characters is quoted. */
export function renderPath(path: KeyPath): string {
  const keys = path.slice(0, MAX_KEYS).map((key) => /^[\w.:/-]{1,80}$/.test(key) ? key : describe(key));
  return [...keys, ...(path.length > MAX_KEYS ? ["…"] : [])].join(".");
}

/** A value as a message shows it: one line, of limited length, nothing a terminal would obey. */
export function describe(value: unknown): string {
  if (typeof value === "string") return quote(value);
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return describeKind(value);
}

/** A value's kind alone, for values that may be secret. */
export function describeKind(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (typeof value === "string") return `a text of ${value.length} characters`;
  if (Array.isArray(value)) return "a list";
  if (value instanceof Date) return "a date";
  if (value instanceof Uint8Array) return "binary data";
  return typeof value === "object" ? "a map" : `a ${typeof value}`;
}

/** Whether a value is a YAML map. */
export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

function quote(text: string): string {
  const shown = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
  return JSON.stringify(shown).replace(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}
