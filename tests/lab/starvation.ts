/**
 * How long the switches of a lab wait for a processor: all hosts share those of one machine, and a switch that does not run for long
 * says no hello, whatever the product does. Reads /proc only.
 */
import type { Lab } from "./lab.ts";
import { groupMembers } from "./process.ts";

/** Milliseconds between two looks, and looks that make up a stretch. */
const INTERVAL = 50;
const STRETCH = 6;

/** A watch that is under way. */
export interface StarvationWatch {
  /** Ends it; gives the most milliseconds that a single thread of a switch has waited within 300 ms. */
  readonly stop: () => number;
}

/** Watches all threads of all switches, those that are started meanwhile included. */
export function watchStarvation({ state }: Pick<Lab, "state">): StarvationWatch {
  const seen: ReadonlyMap<string, number>[] = [];
  let worst = 0;
  const look = () => {
    const now = waits(state.cgroup);
    const before = seen[0];
    if (before) {
      for (const [thread, wait] of now) worst = Math.max(worst, wait - (before.get(thread) ?? wait));
    }
    seen.push(now);
    if (seen.length > STRETCH) seen.shift();
  };
  look();
  const timer = setInterval(look, INTERVAL);
  return {
    stop: () => {
      clearInterval(timer);
      return Math.round(worst);
    },
  };
}

/** Thread → milliseconds that it was ready to run and did not (the kernel's sched-stats, "time spent waiting on a runqueue"). */
function waits(cgroup: string): Map<string, number> {
  const threads = groupMembers(cgroup).filter(isSwitch).flatMap((pid) => namesIn(`/proc/${pid}/task`));
  return new Map(threads.flatMap((thread): [string, number][] => {
    const [, waited] = read(`/proc/${thread}/schedstat`).split(" ");
    return waited === undefined ? [] : [[thread, Number(waited) / 1e6]];
  }));
}

function isSwitch(pid: number): boolean {
  return read(`/proc/${pid}/comm`) === "ovs-vswitchd\n";
}

function namesIn(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}
