/**
 * Brings the live host to its current generation: at boot, at a push, and after a daemon was restarted. Changes the host.
 */
import { CommandError, HostError } from "../errors.ts";
import { movesNic } from "../net/steps.ts";
import type { HostInput } from "../net/wanted.ts";
import type { Runner } from "../step.ts";
import { giveUp } from "./armed.ts";
import { type Context, readInput, readJson, writeJson } from "./context.ts";
import { lookAtHost } from "./look.ts";
import { ACTIVATION_FILE, PENDING_DIR } from "./paths.ts";
import {
  firstReloads,
  type HostPlan,
  planHost,
  planTitles,
  type Reload,
  type SeenHost,
  wantedHost,
} from "./plan.ts";
import { runSteps } from "./run_steps.ts";

/** How an activation went; /run/mobula/activation.json. */
export interface Activation {
  /** `rolledback`: it was not confirmed, and the host went back by itself. */
  readonly status: "running" | "done" | "failed" | "rolledback";
  /** Of one that is running: the external interface is about to move, or has moved. */
  readonly cut?: boolean;
  readonly error?: string;
}

/** How often the plan is made again when the host still differs after it was carried out, or changed under its hands. */
const MAX_ROUNDS = 3;
/** How long a boot waits for the network card, milliseconds. */
const NIC_DEADLINE = 20_000;
/** How long it waits for udev, seconds. */
const UDEV_DEADLINE = 20;

/** Carries out the plan until nothing is left to do; returns the titles of all that was done. */
export async function up(context: Context): Promise<readonly string[]> {
  return await context.locks.locked(async () => {
    const input = await readInput(context.runner, context.report);
    // A restarted daemon may be healed in a second try; an activation has failed with its first one.
    const before = await readJson<Activation>(context.runner, ACTIVATION_FILE);
    await writeJson(context.runner, ACTIVATION_FILE, { status: "running" } satisfies Activation);
    try {
      const titles = await converge(context, input, before?.status === "running" ? announceCut : undefined);
      await writeJson(context.runner, ACTIVATION_FILE, { status: "done" } satisfies Activation);
      return titles;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      // Then it goes on running, from here to the end of the way back.
      if (before?.status === "running" && await giveUp(message, context).catch(() => undefined)) throw error;
      await writeJson(
        context.runner,
        ACTIVATION_FILE,
        { status: "failed", error: message } satisfies Activation,
      );
      throw error;
    }
  });
}

/** The plan for the current generation, and whether carrying it out takes the external interface away from this connection. */
export async function currentPlan({ runner }: Context): Promise<{ plan: HostPlan; cutsConnection: boolean }> {
  const input = await readInput(runner);
  const wanted = wantedHost(input);
  const seen = await lookAtHost(runner, input, wanted);
  return { plan: planHost(input, seen, wanted), cutsConnection: movesNic(wanted.network, seen.network) };
}

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

/** Milliseconds that an answer about it needs to get away: two of the intervals at which `status` looks, and the network's time. */
const NOTICE = 80;

/** Whoever waits for the activation over a connection that ends now had better make a new one. */
async function announceCut({ runner, clock }: Context): Promise<void> {
  await writeJson(runner, ACTIVATION_FILE, { status: "running", cut: true } satisfies Activation);
  await clock.pause(NOTICE);
}

/** The same for a given input, without a word about it, and without the lock; `beforeCut` runs before the external interface moves. */
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
async function settleDevices({ runner }: Context): Promise<void> {
  const argv = ["udevadm", "settle", `--timeout=${UDEV_DEADLINE}`];
  // No udev, as in a container, is as good as a settled one.
  await runner.run({ title: "wait for udev", argv }).catch(() => {});
}

async function forgetReloads(runner: Runner, names: readonly Reload[]): Promise<void> {
  for (const name of names) {
    await runner.writeFile({ path: `${PENDING_DIR}/${name}`, content: undefined });
  }
}

/** At boot the card may be a moment late. */
async function planWithNic({ runner, clock }: Context, input: HostInput): Promise<HostPlan> {
  const deadline = clock.now() + NIC_DEADLINE;
  const wanted = wantedHost(input);
  while (true) {
    const seen: SeenHost = await lookAtHost(runner, input, wanted);
    try {
      return planHost(input, seen, wanted);
    } catch (error) {
      if (!(error instanceof HostError) || clock.now() > deadline) throw error;
      await clock.pause(200);
    }
  }
}
