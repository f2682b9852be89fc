/**
 * Waiting for a condition with a deadline, instead of sleeping.
 */

/** How long to wait, and how often to look. */
export interface WaitOptions {
  readonly deadlineMs?: number;
  readonly intervalMs?: number;
}

/** Resolves after so many milliseconds; for polling only. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Probes until the value is neither `undefined`, `null` nor `false`; a probe that throws has not succeeded yet.
 * When the deadline passes, the error tells what was seen last.
 */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | undefined | null | false> | T | undefined | null | false,
  options: WaitOptions = {},
): Promise<T> {
  const { deadlineMs = 30_000, intervalMs = 100 } = options;
  const start = performance.now();
  let last: unknown;
  while (true) {
    try {
      const value = await probe();
      if (value !== undefined && value !== null && value !== false) return value;
      last = value;
    } catch (error) {
      last = error instanceof Error ? error.message : error;
    }
    if (performance.now() - start >= deadlineMs) {
      throw new Error(
        `Cannot wait any longer for ${what}: last seen ${Deno.inspect(last)} after ${deadlineMs} ms`,
      );
    }
    await pause(intervalMs);
  }
}
