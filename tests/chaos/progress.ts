/**
 * The progress of a list of injections that takes longer than one run: one line of JSON for each that was made. Reads and appends to a
 * file.
 */
import type { Outcome } from "./inject.ts";
import { type Injection, nameOf } from "./points.ts";

/** What is kept of one injection. */
export interface Done {
  readonly name: string;
  /** ISO 8601, UTC. */
  readonly date: string;
  readonly reached: boolean;
  readonly lockedOut: boolean;
  readonly convergedBy?: Outcome["convergedBy"];
  readonly problems: readonly string[];
}

/** Everything that was made so far; nothing where there is no such file. A line that was cut off is left out. */
export async function readProgress(file: string): Promise<Done[]> {
  const text = await Deno.readTextFile(file).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  });
  return text.split("\n").flatMap((line): Done[] => {
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });
}

/** Appends one outcome. */
export async function appendProgress(file: string, outcome: Outcome, date = new Date()): Promise<void> {
  const { injection, reached, lockedOut, convergedBy, problems } = outcome;
  const done: Done = {
    name: nameOf(injection),
    date: date.toISOString(),
    reached,
    lockedOut,
    ...(convergedBy === undefined ? {} : { convergedBy }),
    problems,
  };
  await Deno.writeTextFile(file, `${JSON.stringify(done)}\n`, { append: true });
}

/** What is still to be made of a list: an injection with problems is made again. */
export function leftOf(injections: readonly Injection[], progress: readonly Done[]): Injection[] {
  const done = new Set(progress.filter(({ problems }) => problems.length === 0).map(({ name }) => name));
  return injections.filter((injection) => !done.has(nameOf(injection)));
}

/** One line for people: how far a list is. */
export function renderProgress(injections: readonly Injection[], progress: readonly Done[]): string {
  const last = new Map(progress.map((done) => [done.name, done]));
  const listed = injections.flatMap((injection) => last.get(nameOf(injection)) ?? []);
  const count = (is: (done: Done) => boolean) => listed.filter(is).length;
  return `${listed.length} of ${injections.length} in the list made so far: ` +
    `${count(({ reached }) => reached)} injected, ${count(({ lockedOut }) => lockedOut)} locked out, ` +
    `${count(({ problems }) => problems.length > 0)} with problems`;
}
