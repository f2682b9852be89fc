/**
 * The kinds of error users meet, and the exit codes. Data only.
 */

/** The process's exit codes; the README lists them. */
export const EXIT = {
  ok: 0,
  /** Some hosts failed, the others are done. */
  someFailed: 1,
  /** Wrong usage or configuration; nothing was touched. */
  usage: 2,
  /** No host could be reached; nothing was touched. */
  unreachable: 3,
  /** Changes wait (`plan`, `push --dry-run`). */
  changes: 4,
  /** Another push is under way; nothing was touched. */
  locked: 5,
  /** A defect of mobula itself. */
  internal: 70,
  interrupted: 130,
} as const;

/** One thing wrong in a configuration file. */
export interface ConfigProblem {
  readonly file: string;
  /** Dotted path of the key, e.g. `all.hosts.198.51.100.2.host_id`; empty for the whole file. */
  readonly path: string;
  /** What was found and what was wanted, one line each without a full stop. */
  readonly message: string;
}

/** Everything wrong in the configuration files, in one go. */
export class ConfigError extends Error {
  override name = "ConfigError";
  constructor(readonly problems: readonly ConfigProblem[]) {
    super(problems.map(renderProblem).join("\n"));
  }
}

function renderProblem({ file, path, message }: ConfigProblem): string {
  return [file, path, message].filter((part) => part !== "").join(": ");
}

/** Wrong arguments on the command line. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** A command that ended with an error, with the last lines it said. */
export class CommandError extends Error {
  override name = "CommandError";
  constructor(
    readonly title: string,
    readonly argv: readonly string[],
    readonly code: number,
    readonly stderr: string,
  ) {
    super(`Cannot ${title}: "${argv.join(" ")}" ended with ${code}${lastLines(stderr)}`);
  }
}

/** The connection to a host failed. Only `retry: true` may be tried again; a changed host key never. */
export class TransportError extends Error {
  override name = "TransportError";
  constructor(message: string, readonly options: { readonly retry: boolean }) {
    super(message);
  }
}

/** A host that cannot be installed as it is; the message says what was found, what is wanted and the way out. */
export class HostError extends Error {
  override name = "HostError";
}

/** Another push is at work on the same hosts. */
export class LockedError extends Error {
  override name = "LockedError";
}

function lastLines(text: string): string {
  const lines = text.trimEnd().split("\n").filter((line) => line.trim() !== "").slice(-5);
  return lines.length === 0 ? "" : `:\n  ${lines.join("\n  ")}`;
}
