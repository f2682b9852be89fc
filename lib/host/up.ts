/**
 * Brings the live host to its current generation: at boot, at a push, and after a daemon was restarted. Changes the host.
 */
import { CommandError, HostError } from "../errors.ts";
import { downSteps } from "../net/down.ts";
import { isSetting, splitSshPath } from "../net/ssh_path.ts";
import { movesNic } from "../net/steps.ts";
import type { HostInput } from "../net/wanted.ts";
import type { Runner, Step } from "../step.ts";
import { giveUp, readArmed } from "./armed.ts";
import {
  type Context,
  generationDir,
  listGenerations,
  readAnyBaseline,
  readCapabilities,
  readConfig,
  readInput,
  readJson,
  readKnownKeys,
  writeJson,
} from "./context.ts";
import { lookAround, lookAtHost } from "./look.ts";
import { ACTIVATION_FILE, CURRENT_LINK, GIVEN_BACK_FILE, PENDING_DIR } from "./paths.ts";
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

/**
 * Carries out the plan until nothing is left to do; returns the titles of all that was done. An activation fails with the first step that
 * does, and is rolled back; it is one where the caller says so, or where one is under way. A boot or a repair has nothing to go back to:
 * it does what can be done, the path of SSH first.
 */
export async function up(
  context: Context,
  options: { readonly isTrial?: boolean } = {},
): Promise<readonly string[]> {
  return await context.locks.locked(async () => {
    const before = await readJson<Activation>(context.runner, ACTIVATION_FILE).catch(() => undefined);
    const isTrial = options.isTrial ??
      (before?.status === "running" && await readArmed(context.runner).catch(() => undefined) !== undefined);
    if (!isTrial && await staysGivenBack(context)) return [];
    const running = writeJson(context.runner, ACTIVATION_FILE, { status: "running" } satisfies Activation);
    await (isTrial ? running : running.catch((error) => context.report(`warning: ${messageOf(error)}`)));
    try {
      if (!isTrial) return await convergeBestEffort(context, await readInputBestEffort(context));
      const input = await readInput(context.runner, context.report);
      await context.runner.writeFile({ path: GIVEN_BACK_FILE, content: undefined });
      const titles = await converge(context, input, announceCut);
      await writeJson(context.runner, ACTIVATION_FILE, { status: "done" } satisfies Activation);
      return titles;
    } catch (error) {
      const message = messageOf(error);
      // Then it goes on running, from here to the end of the way back.
      if (before?.status === "running" && await giveUp(message, context).catch(() => undefined)) throw error;
      const failed = { status: "failed", error: message } satisfies Activation;
      await writeJson(context.runner, ACTIVATION_FILE, failed).catch((error) =>
        context.report(messageOf(error))
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

/**
 * What the network is a function of, also where a file is broken, empty or gone: of the current generation, else of the newest one that
 * can be read. Throws HostError where there is nothing to go by; the network card has its addresses by then, if they are known.
 */
async function readInputBestEffort(context: Context): Promise<HostInput> {
  const { runner, report } = context;
  try {
    return await readInput(runner, report);
  } catch (error) {
    report(`warning: ${messageOf(error)}`);
  }
  const tried = async <T>(read: () => Promise<T | undefined>): Promise<T | undefined> => {
    try {
      return await read();
    } catch (error) {
      report(`warning: ${messageOf(error)}`);
      return undefined;
    }
  };
  const directories = [CURRENT_LINK, ...(await listGenerations(runner)).reverse().map(generationDir)];
  let config: HostInput["config"] | undefined;
  const baseline = await readAnyBaseline(runner, report);
  for (const directory of directories) config ??= await tried(() => readConfig(runner, directory));
  if (config && baseline) {
    const { probeKernel } = await import("./prepare.ts");
    const capabilities = await tried(() => readCapabilities(runner)) ??
      await tried(() => probeKernel(runner, { anew: true })) ??
      { wireguard: "userspace", datapath: "netdev" };
    const knownKeys = await readKnownKeys(runner, report);
    return { config, baseline, capabilities, ...(knownKeys ? { knownKeys } : {}) };
  }
  const message = "no generation and baseline below /opt/mobula that can be read";
  if (baseline) await giveNicBack(context, { baseline }, message);
  throw new HostError(
    `Cannot bring the network up: ${message}; expected those of the last push; push with --reinstall`,
  );
}

/** So often the path of SSH is tried, and any other step; and so often the host is looked at. */
const MAX_PATH_FAILURES = 3;
const MAX_STEP_FAILURES = 2;
const MAX_BEST_EFFORT_ROUNDS = 40;

/**
 * The same for a host that has nothing to go back to: the files, then the path of SSH, then the rest. What is not on the path of SSH can
 * only warn; at the end a HostError names it, so that the repair tries again. Where not even the path of SSH comes up, the network card
 * goes back to the host as it was before mobula, until the next boot or push.
 */
async function convergeBestEffort(context: Context, input: HostInput): Promise<readonly string[]> {
  const { runner, report } = context;
  const done: string[] = [];
  const failures = new Map<string, number>();
  const messages = new Set<string>();
  const wanted = wantedHost(input);
  const warn = (titles: readonly string[], error: unknown) => {
    for (const title of titles) failures.set(title, (failures.get(title) ?? 0) + 1);
    messages.add(messageOf(error));
    report(`warning: ${messageOf(error)}`);
  };
  const isLeft = ({ title }: { readonly title: string }) => (failures.get(title) ?? 0) < MAX_STEP_FAILURES;
  let pathFailures = 0;
  // Of a network that runs, a repair takes nothing away.
  let wasInGateway: boolean | undefined;
  await settleDevices(context);
  for (let round = 0; round < MAX_BEST_EFFORT_ROUNDS; round++) {
    try {
      const plan = await planWithNic(context, input);
      wasInGateway ??= !plan.network.some(({ movesNic }) => movesNic);
      const files = plan.files.filter(({ path }) => isLeft({ title: `write ${path}` }));
      const split = splitSshPath(wanted.network, plan.network);
      const [path, rest] = [split.path.filter(isLeft), split.rest.filter(isLeft)];
      const [before, after] = [plan.before, plan.after].map((steps) => steps.filter(isLeft));
      const titles = planTitles({
        ...plan,
        files,
        before: before!,
        network: [...path, ...rest],
        after: after!,
      });
      if (titles.length === 0) {
        await forgetReloads(runner, plan.reloads).catch((error) => warn([], error));
        const left = planTitles(plan);
        if (left.length > 0) throw new Incomplete(incomplete(left, messages));
        await tellDone(context);
        return done;
      }
      done.push(...titles);
      await Promise.all(files.map((file) => {
        report(`write ${file.path}`);
        return runner.writeFile(file).catch((error) => warn([`write ${file.path}`], error));
      }));
      await runAll(context, path, (titles, error) => {
        const failed = path.filter(({ title }) => titles.includes(title));
        if (!failed.every(isSetting)) throw error;
        warn(titles, error);
      });
      if (await runAll(context, [...before!, ...rest, ...after!], warn)) {
        await forgetReloads(runner, plan.reloads);
      }
    } catch (error) {
      if (error instanceof Incomplete) throw new HostError(error.message);
      // Whatever it is: nobody but this process brings the host back.
      const message = messageOf(error);
      report(`warning: the path of SSH: ${message}`);
      if (++pathFailures < MAX_PATH_FAILURES) continue;
      if (wasInGateway) throw error;
      await giveNicBack(context, input, message);
      throw new HostError(
        `${message}. The network card is as it was before mobula, until the next boot or push`,
      );
    }
  }
  throw new HostError(incomplete([`no end after ${MAX_BEST_EFFORT_ROUNDS} rounds`], messages));
}

/** Runs the steps in order, those behind one that fails as well; says whether all have succeeded. */
async function runAll(
  { runner, report }: Context,
  steps: readonly Step[],
  warn: (titles: readonly string[], error: unknown) => void,
): Promise<boolean> {
  let left = steps;
  while (left.length > 0) {
    try {
      await runSteps(runner, left, report);
      return left === steps;
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      // Steps that share a process have a title together.
      const titles = [error.title, ...error.title.split(", ")];
      warn(titles, error);
      const failed = left.findLastIndex(({ title }) => titles.includes(title));
      if (failed < 0) throw error;
      left = left.slice(failed + 1);
    }
  }
  return false;
}

/** The path of SSH is there, and all else that can be. */
class Incomplete extends Error {
  override name = "Incomplete";
}

function incomplete(left: readonly string[], messages: ReadonlySet<string>): string {
  return `Cannot bring everything up: ${[...messages].join("; ")}; left: ${
    left.join(", ")
  }; the host answers SSH`;
}

async function tellDone({ runner, report }: Context): Promise<void> {
  await writeJson(runner, ACTIVATION_FILE, { status: "done" } satisfies Activation).catch((error) =>
    report(`warning: ${messageOf(error)}`)
  );
}

/** The external interface with its addresses and routes, each as far as it goes. */
async function giveNicBack(
  { runner, report }: Context,
  { baseline }: Pick<HostInput, "baseline">,
  reason: string,
): Promise<void> {
  report("give the network card back to the host");
  // First of all: a repair that comes in between must not take it once more.
  await runner.writeFile({ path: GIVEN_BACK_FILE, content: `${reason}\n` }).catch((error) =>
    report(messageOf(error))
  );
  const { seen, policy } = await lookAround(baseline, runner);
  for (const step of downSteps(baseline, seen, { restoreSettled: true, policy })) {
    await runSteps(runner, [{ ...step, mayFail: true }], report).catch((error) => report(messageOf(error)));
  }
}

/** Whether the network card was given back in this boot: no repair takes it again. */
async function staysGivenBack({ runner, report }: Context): Promise<boolean> {
  const reason = await runner.readFile(GIVEN_BACK_FILE).catch(() => undefined);
  if (reason === undefined) return false;
  report(`the network card stays as it was before mobula, until the next boot or push: ${reason.trim()}`);
  return true;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
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
