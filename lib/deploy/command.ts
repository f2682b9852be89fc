/**
 * A command that is fed and heard while it runs. Starts processes.
 */
import type { Output } from "../step.ts";
import { BOUNDS, pumpLines, readTail, readText } from "./lines.ts";

/** What a command is given, and who hears it. */
export interface CommandOptions {
  readonly stdin?: string | ReadableStream<Uint8Array>;
  /** Called with each line of standard output as it arrives; the lines are then not kept. */
  readonly onLine?: (line: string) => void;
  /** Ends the command. */
  readonly signal?: AbortSignal;
}

/** Runs a command of this machine and returns its outcome, whatever it is; TooMuchOutput where it says more than the bounds of `lines.ts`. */
export async function runCommand(
  program: string,
  args: readonly string[],
  { stdin, onLine, signal, env }: CommandOptions & { readonly env: Readonly<Record<string, string>> },
): Promise<Output> {
  const process = new Deno.Command(program, {
    args: [...args],
    env: { ...env },
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const ended = new AbortController();
  process.status.finally(() => ended.abort());
  // Somebody else may hold the other ends of its pipes: an ssh that is killed leaves them to its master, and that to the host.
  const unheard = new AbortController();
  const stop = () => {
    endProcess(process, "SIGTERM");
    process.status.finally(() => unheard.abort());
  };
  signal?.addEventListener("abort", stop);
  if (signal?.aborted) stop();
  const bounds = { ...BOUNDS, signal: unheard.signal };
  // Whoever says too much is not listened to any longer.
  const bounded = <T>(reading: Promise<T>) =>
    reading.catch((error) => {
      endProcess(process, "SIGKILL");
      unheard.abort();
      throw error;
    });
  try {
    const [{ code }, stdout, stderr] = await Promise.all([
      process.status,
      bounded(
        onLine ? pumpLines(process.stdout, onLine, bounds).then(() => "") : readText(process.stdout, bounds),
      ),
      bounded(readTail(process.stderr, bounds)),
      stdin === undefined ? undefined : feed(process.stdin, stdin, ended.signal),
    ]);
    return { code, stdout, stderr };
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** A command that ends before it has read everything is no error here: its exit code says what happened. */
async function feed(
  sink: WritableStream<Uint8Array>,
  source: string | ReadableStream<Uint8Array>,
  ended: AbortSignal,
): Promise<void> {
  const stream = typeof source === "string" ? new Blob([source]).stream() : source;
  try {
    await stream.pipeTo(sink, { signal: ended });
  } catch (error) {
    if (ended.aborted) return;
    if (!(error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset)) {
      throw error;
    }
  }
}

/** Ends a process that may have ended by itself. */
export function endProcess(process: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    process.kill(signal);
  } catch {
    // It has ended by itself.
  }
}
