/**
 * Carries out the plan for a host until nothing is left to do. Changes the host.
 */
import { CommandError, HostError } from "../errors.ts";
import type { HostInput } from "../net/wanted.ts";
import type { Runner } from "../step.ts";
import type { Context } from "./context.ts";
import { lookAtHost } from "./look.ts";
import { PENDING_DIR } from "./paths.ts";
import {
  firstReloads,
  type HostPlan,
  planHost,
  planTitles,
  type Reload,
  type SeenHost,
  type WantedHost,
  wantedHost,
} from "./plan.ts";
import { runSteps } from "./run_steps.ts";

/** How often the plan is made again when the host still differs after it was carried out, or changed under its hands. */
const MAX_ROUNDS = 3;
/** How long a boot waits for the network card, milliseconds. */
const NIC_DEADLINE = 20_000;
/** How long it waits for udev, seconds. */
const UDEV_DEADLINE = 20;

/** Writes the plan's files and carries out what has to come before the network's steps. What is owed then are the other reloads. */
export async function writeFiles(
  { runner, report }: Pick<Context, "runner" | "report">,
  plan: Pick<HostPlan, "files" | "reloads" | "before">,
): Promise<void> {
  // First the note of what is owed: killed in between, the next run still knows.
  const pending = plan.reloads.map((name) => ({ path: `${PENDING_DIR}/${name}`, content: "" }));
  await Promise.all(pending.map((file) => runner.writeFile(file)));
  // All at once: each waits for the disk, and the disk does them together.
  await Promise.all(plan.files.map((file) => {
    report(`write ${file.path}`);
    return runner.writeFile(file);
  }));
  await runSteps(runner, plan.before, report);
  await forgetReloads(runner, firstReloads(plan));
}

/**
 * Returns the titles of all that was done; fails with the first step that does. Without the lock; `beforeCut` runs before the external
 * interface moves.
 */
export async function converge(
  context: Context,
  input: HostInput,
  beforeCut?: (context: Context) => Promise<void>,
): Promise<readonly string[]> {
  const done: string[] = [];
  await settleDevices(context);
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const plan = await planWithNic(context, input);
    const titles = planTitles(plan);
    if (titles.length === 0) {
      await forgetReloads(context.runner, plan.reloads);
      return done;
    }
    done.push(...titles);
    try {
      await writeFiles(context, plan);
      const move = plan.network.findIndex(({ movesNic }) => movesNic);
      if (move >= 0) {
        await runSteps(context.runner, plan.network.slice(0, move), context.report);
        await beforeCut?.(context);
      }
      const rest = [...plan.network.slice(Math.max(move, 0)), ...plan.after];
      await runSteps(context.runner, rest, context.report);
      await forgetReloads(context.runner, plan.reloads);
    } catch (error) {
      if (!(error instanceof CommandError) || round === MAX_ROUNDS - 1) throw error;
      context.report(`look again, because: ${error.message}`);
    }
  }
  const left = planTitles(await planWithNic(context, input));
  if (left.length === 0) return done;
  throw new HostError(
    `Cannot bring the network up: after ${MAX_ROUNDS} rounds the host still differs (${left.join("; ")}); ` +
      "expected every step to last; see `journalctl -u 'mobula*'`",
  );
}

/** At boot udev may be about to give the card its name: a step would look for it under the old one. */
export async function settleDevices({ runner }: Context): Promise<void> {
  const argv = ["udevadm", "settle", `--timeout=${UDEV_DEADLINE}`];
  // No udev, as in a container, is as good as a settled one.
  await runner.run({ title: "wait for udev", argv }).catch(() => {});
}

/** What was owed to whoever reads files is paid. */
export async function forgetReloads(runner: Runner, names: readonly Reload[]): Promise<void> {
  for (const name of names) {
    await runner.writeFile({ path: `${PENDING_DIR}/${name}`, content: undefined });
  }
}

async function planWithNic(context: Context, input: HostInput): Promise<HostPlan> {
  const wanted = wantedHost(input);
  return planHost(input, await lookWithNic(context, input, wanted), wanted);
}

/** At boot the card may be a moment late. What is seen can be planned with. */
export async function lookWithNic(
  { runner, clock }: Context,
  input: HostInput,
  wanted: WantedHost,
): Promise<SeenHost> {
  const deadline = clock.now() + NIC_DEADLINE;
  while (true) {
    const seen = await lookAtHost(runner, input, wanted);
    try {
      planHost(input, seen, wanted);
      return seen;
    } catch (error) {
      if (!(error instanceof HostError) || clock.now() > deadline) throw error;
      await clock.pause(200);
    }
  }
}
