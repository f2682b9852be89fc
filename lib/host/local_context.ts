/**
 * The context of an action on this very machine. Effects: those of its parts, the LocalRunner, the locks in /run and the clock.
 */
import { pause } from "../pause.ts";
import type { Clock, Context } from "./context.ts";
import { LocalRunner } from "./local_runner.ts";
import { FILE_LOCKS } from "./lock.ts";
import type { Report } from "./run_steps.ts";

/** The clock of the machine. */
const SYSTEM_CLOCK: Clock = { now: () => Date.now(), pause };

/** Daemons without root's rights read some of the files, whatever umask a login or a caller has set. */
const UMASK = 0o022;

/** What an action on this machine is given. Sets the umask of this process. */
export function hostContext(report: Report, more: Pick<Context, "connection" | "ended"> = {}): Context {
  Deno.umask(UMASK);
  return { runner: new LocalRunner(), locks: FILE_LOCKS, clock: SYSTEM_CLOCK, report, ...more };
}
