/**
 * A plan is a list of steps, and a step is data; whoever runs one is a Runner. Types only.
 */

/** Where a step's command runs: the root namespace or one of ours. */
export type Namespace = "mobula" | "mobula-sw";

/** One command of a plan. May be repeated without harm. */
export interface Step {
  /** What it does, as "verb object" in the infinitive: "add link veth_fac0". */
  readonly title: string;
  readonly argv: readonly string[];
  readonly namespace?: Namespace;
  readonly stdin?: string;
  /** Never show `stdin`, not even in verbose output. */
  readonly secret?: boolean;
  /** Should it fail, that is told, and the steps after it are taken all the same. */
  readonly mayFail?: boolean;
  /** What the network's users feel of it; missing where they feel nothing. */
  readonly effect?: string;
  /** It takes the external interface out of the root namespace, which ends every connection through it. */
  readonly movesNic?: boolean;
  /** The command that takes the step back. */
  readonly undo?: readonly string[];
}

/** A file as wanted; `content: undefined` is a file that must not be there. */
export interface WantedFile {
  readonly path: string;
  readonly content: string | undefined;
  /** Octal permission bits; 0o644 unless told. */
  readonly mode?: number;
}

/** What a finished command said. */
export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The only way to have an effect on a host. */
export interface Runner {
  /** Runs a command and returns whatever it said; throws only when it cannot be started. */
  run(step: Step): Promise<Output>;
  /** The file's text, or undefined where there is none. */
  readFile(path: string): Promise<string | undefined>;
  /** The texts of many files in one go, undefined where there is none. */
  readFiles(paths: readonly string[]): Promise<ReadonlyMap<string, string | undefined>>;
  /** Where a symbolic link leads, as it is written there; undefined where there is none. */
  readLink(path: string): Promise<string | undefined>;
  /** The names of what is in a folder; none where it cannot be listed. */
  list(path: string): Promise<readonly string[]>;
  /** Writes whole or not at all (new file, then rename), the mode set before the content; makes missing folders. */
  writeFile(file: WantedFile): Promise<void>;
}
