/**
 * Running many things at once, but not too many; waiting for a condition. Effects: time only.
 */
import { pause } from "../pause.ts";

/** Runs `work` for every item, at most `limit` at a time; waits for all of them, then throws the first error. */
export async function inParallel<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const lane = async () => {
    for (const item of queue) await work(item);
  };
  const lanes = Array.from({ length: Math.min(limit, items.length) }, lane);
  const results = await Promise.allSettled(lanes);
  const failed = results.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

/** How long to try, and how long to rest between two tries, milliseconds. */
export interface Patience {
  readonly deadline: number;
  readonly rest?: number;
  readonly signal?: AbortSignal;
}

/** Calls `attempt` until it returns something else than undefined; undefined when the deadline (`Date.now()` scale) has passed. */
export async function until<T>(
  attempt: () => Promise<T | undefined>,
  { deadline, rest = 500, signal }: Patience,
): Promise<T | undefined> {
  while (true) {
    const result = await attempt();
    if (result !== undefined) return result;
    if (Date.now() + rest > deadline || signal?.aborted) return undefined;
    await pause(rest);
  }
}
