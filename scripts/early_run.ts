/**
 * A command that begins behind others, at low priority, and is silent until its turn. Starts the process; writes standard output and
 * error.
 */

/** A command that runs already. */
export interface EarlyRun {
  /** Writes what it has said so far, then all the rest as it comes, and ends with it; whether it succeeded. */
  readonly finish: () => Promise<boolean>;
}

/** Starts a command with the lowest priority. */
export function startEarly(argv: readonly string[], env: Readonly<Record<string, string>>): EarlyRun {
  const child = new Deno.Command("nice", {
    args: ["-n", "19", ...argv],
    env: { ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const turn = Promise.withResolvers<void>();
  const written = Promise.all([
    forward(child.stdout, Deno.stdout, turn.promise),
    forward(child.stderr, Deno.stderr, turn.promise),
  ]);
  return {
    finish: async () => {
      turn.resolve();
      await written;
      return (await child.status).success;
    },
  };
}

/** Reads all the time, so that nobody waits for a full pipe; writes from the turn on. */
async function forward(
  from: ReadableStream<Uint8Array>,
  to: { readonly write: (bytes: Uint8Array) => Promise<number> },
  turn: Promise<void>,
): Promise<void> {
  let writing = turn;
  for await (const bytes of from) {
    writing = writing.then(() => writeAll(to, bytes));
  }
  await writing;
}

async function writeAll(
  to: { readonly write: (bytes: Uint8Array) => Promise<number> },
  bytes: Uint8Array,
): Promise<void> {
  for (let written = 0; written < bytes.length;) written += await to.write(bytes.subarray(written));
}
