/**
 * Tests that were started behind others make and prepare their lab, and wait there for their turn: a file that `scripts/test.ts` makes.
 * Reads files; sets priorities of this process's and the lab's threads.
 */
import { groupMembers, run } from "./process.ts";
import type { Lab } from "./lab.ts";
import { waitFor } from "./wait.ts";

/** Environment variable: path of the file. */
export const TURN = "MOBULA_TEST_TURN";

/** Milliseconds: no run of all tests takes longer. */
const DEADLINE = 3 * 3600_000;

/** Returns at once unless the tests were started behind others. */
export async function awaitTurn({ state }: Pick<Lab, "state">): Promise<void> {
  const file = Deno.env.get(TURN);
  if (file === undefined) return;
  await waitFor("the turn of these tests", () => exists(file), { deadlineMs: DEADLINE, intervalMs: 200 });
  await usualPriority([Deno.pid, ...groupMembers(state.cgroup)]);
}

/** Each thread has a priority of its own. */
async function usualPriority(pids: readonly number[]): Promise<void> {
  const threads = pids.flatMap(threadsOf);
  // One may have ended meanwhile, which says nothing of the others.
  await run(["renice", "-n", "0", "-p", ...threads]);
}

function threadsOf(pid: number): string[] {
  try {
    return [...Deno.readDirSync(`/proc/${pid}/task`)].map(({ name }) => name);
  } catch {
    return [];
  }
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
