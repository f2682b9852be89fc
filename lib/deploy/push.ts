/**
 * Runs the phases over the fleet: all hosts in parallel inside a phase, a barrier between phases, and whoever fails drops out.
 * Effects: those of the phases, and a temporary folder.
 */
import { DEFAULT_SWITCHING } from "../config/switching.ts";
import { CommandError, ConfigError, EXIT, HostError, TransportError, UsageError } from "../errors.ts";
import type { Progress } from "../ui/progress.ts";
import { inParallel } from "./parallel.ts";
import { type Phase, PHASES, stopKeeper } from "./phases.ts";
import { releaseLocks } from "./push_lock.ts";
import { alive, dropOut, type HostRun, type PushOptions, type PushRun } from "./run.ts";
import { makeControlDirectory } from "./control_directory.ts";
import { isFine } from "./verify.ts";

/** How a push ended. */
export interface PushResult {
  readonly push: PushRun;
  /** Wall-clock seconds of each phase over all hosts. */
  readonly seconds: ReadonlyMap<string, number>;
  readonly exitCode: number;
}

/** The user pressed Ctrl-C. */
export class Interrupted extends Error {
  override name = "Interrupted";
}

/** Pushes; throws only what concerns the whole push (configuration, usage, a defect). */
export async function push(
  options: PushOptions,
  progress: Progress,
  phases: readonly Phase[] = PHASES,
): Promise<PushResult> {
  const directory = await makeControlDirectory();
  const run: PushRun = {
    options,
    progress,
    directory,
    phase: phases[0]!,
    fleet: { hosts: [], extraHosts: [], extraWires: [], keepKeys: false, switching: DEFAULT_SWITCHING },
    pubkeys: new Map(),
    hosts: [],
  };
  const closeAll = () => Promise.all(run.hosts.map(({ ssh }) => ssh.close()));
  const stop = () => void closeAll();
  options.signal?.addEventListener("abort", stop);
  try {
    const seconds = await runPhases(phases, run);
    return { push: run, seconds, exitCode: exitCodeOf(run) };
  } finally {
    options.signal?.removeEventListener("abort", stop);
    run.hosts.forEach(stopKeeper);
    await releaseLocks(run);
    await closeAll();
    await Deno.remove(directory, { recursive: true });
    await progress.end();
  }
}

/** Runs a list of phases; ends early when nobody is left. Gives the seconds that each took. */
export async function runPhases(
  phases: readonly Phase[],
  push: PushRun,
): Promise<ReadonlyMap<string, number>> {
  const seconds = new Map<string, number>();
  for (const [index, phase] of phases.entries()) {
    if (push.options.signal?.aborted) throw new Interrupted("Interrupted");
    const hosts = concernedHosts(phase, push);
    // The first phase finds the hosts.
    if (hosts.length === 0 && index > 0) continue;
    const start = performance.now();
    push.phase = phase;
    push.progress.phase(phase, hosts.map(({ host }) => host.hostname));
    await phase.before?.(push);
    await inParallel(hosts, phase.oneByOne ? 1 : push.options.parallel, (host) => runHost(phase, host, push));
    if (push.options.signal?.aborted) throw new Interrupted("Interrupted");
    await phase.after?.(push);
    seconds.set(phase.name, (performance.now() - start) / 1000);
  }
  return seconds;
}

function concernedHosts(phase: Phase, push: PushRun): HostRun[] {
  return alive(push).filter((host) => phase.concerns?.(host, push) ?? true);
}

async function runHost(phase: Phase, run: HostRun, push: PushRun): Promise<void> {
  if (!phase.host) return;
  const start = performance.now();
  try {
    await phase.host(run, push);
  } catch (error) {
    if (!isExpected(error)) throw error;
    if (!push.options.signal?.aborted) dropOut(run, push, error.message);
  } finally {
    run.seconds.set(phase.name, (performance.now() - start) / 1000);
  }
}

/** What can go wrong with one host; anything else is a defect and ends the push. */
function isExpected(error: unknown): error is Error {
  return error instanceof HostError || error instanceof TransportError || error instanceof CommandError;
}

function exitCodeOf(run: PushRun): number {
  const failed = run.hosts.filter(({ failure }) => failure !== undefined);
  if (failed.length > 0 && failed.length === run.hosts.length) {
    return failed.every(({ failure }) => failure!.phase === "connect") ? EXIT.unreachable : EXIT.someFailed;
  }
  const verified = run.verification?.hosts.every(isFine) ?? true;
  return failed.length > 0 || !verified ? EXIT.someFailed : EXIT.ok;
}

/** Whether an error is the user's to mend, so that no stack is worth showing. */
export function isUserError(error: unknown): error is Error {
  return error instanceof ConfigError || error instanceof UsageError || isExpected(error);
}
