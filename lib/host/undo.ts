/**
 * Takes back what nobody has confirmed, or the whole installation: run by `mobula-rollback.service`, by its timer or at boot. Changes
 * the host's network.
 *
 * A boot that finds the host armed does not wait for the deadline: what has just been tried may be the reason for the reboot, and
 * whoever would confirm it has lost the connection anyway.
 */
import type { Baseline, HostStateFile } from "../facts.ts";
import { baselineDifferences, downSteps, hasExternal, isTaken, isUntouched } from "../net/down.ts";
import { HEAL_UNIT, MAIN_UNIT, ROLLBACK_UNIT } from "../render/units.ts";
import type { Runner } from "../step.ts";
import { type Armed, disarm, readArmed, uptime, whereTo } from "./armed.ts";
import { BASELINE_SCRIPT, parseBaseline } from "./baseline.ts";
import {
  type Context,
  generationDir,
  readAnyBaseline,
  readInput,
  readJson,
  readState,
  writeJson,
} from "./context.ts";
import { lookAround } from "./look.ts";
import { FORGET_NIC, LAST_SCRIPT, leavePaths, leavePlan, OUR_UNITS } from "./leave.ts";
import {
  ACTIVATION_FILE,
  ARMED_FILE,
  BASELINE_FILE,
  CURRENT_LINK,
  FAILURE_FILE,
  MASKED_FILE,
  STATE_FILE,
} from "./paths.ts";
import { purge } from "./purge.ts";
import { runStep, runSteps } from "./run_steps.ts";
import { readBootId } from "./status.ts";
import { converge } from "./converge.ts";
import type { Activation } from "./up.ts";

/** Milliseconds that somebody else who changes the host is waited for. */
const LOCK_PATIENCE = 3_000;
/** Milliseconds that the host's own network manager is given until its network is compared with the baseline. */
const SETTLE_PATIENCE = 15_000;
/** So many times in a row nothing differs: a network manager that has just started may still change its mind. */
const CALM = 3;
const MAX_ROUNDS = 5;

/** Carries out what is armed, if its time has come; does nothing on a host that is not armed. */
export async function undo(context: Context): Promise<void> {
  const { runner, locks } = context;
  const due = await isDue(runner);
  if (!due) return;
  if (await readBootId(context) !== due.bootId) await retryLater(runner);
  const kill = ["systemctl", "kill", "--signal=KILL", MAIN_UNIT, HEAL_UNIT];
  await runner.run({ title: "end what is under way", argv: kill });
  await locks.lockedByForce(LOCK_PATIENCE, async () => {
    // It may have been confirmed in the last moment; and an uninstallation may be asked for during a rollback.
    const next = () => locks.lockedArmed(() => isDue(runner));
    // Then not even the place of the lock is there any more.
    let isOver = false;
    for (let armed = await next(); armed; armed = isOver ? undefined : await next()) {
      // A push that connects again must not take the former success for the present state.
      await writeJson(runner, ACTIVATION_FILE, { status: "running" } satisfies Activation);
      if (armed.previous > 0) await backToGeneration(armed, context);
      else isOver = await backToBaseline(armed, context);
    }
  });
}

/** Seconds after which a rollback that a boot has begun, and that did not succeed, is begun again. */
const RETRIES = [20, 40, 80, 200, 600, 3600];

/**
 * The timer ended with the boot in which it was started. Without it a rollback that fails at boot would not be tried again. Its start is
 * not waited for: at boot it may come after the network, and the network after this.
 */
async function retryLater(runner: Runner): Promise<void> {
  const [first, ...more] = RETRIES;
  const argv = [
    ...["systemd-run", "--quiet", "--no-block", `--unit=${ROLLBACK_UNIT}`, `--on-active=${first}`],
    ...[
      "--timer-property=AccuracySec=1s",
      ...more.map((seconds) => `--timer-property=OnActiveSec=${seconds}`),
    ],
  ];
  await runner.run({ title: "start the timer of the rollback", argv }).catch(() => {});
}

/** What is armed, if it has failed, or nobody has asked for more time meanwhile. */
async function isDue(runner: Runner): Promise<Armed | undefined> {
  const armed = await readArmed(runner);
  if (!armed) return undefined;
  const [bootId, now, failure] = await Promise.all([
    readBootId({ runner }),
    uptime(runner),
    runner.readFile(FAILURE_FILE),
  ]);
  const isDue = failure !== undefined || bootId !== armed.bootId || now + 1 >= armed.deadline;
  return isDue ? armed : undefined;
}

async function backToGeneration(armed: Armed, context: Context): Promise<void> {
  const { runner, clock, report } = context;
  report(`go back to generation ${armed.previous}`);
  await runStep(runner, {
    title: `make generation ${armed.previous} current`,
    argv: ["ln", "-sfn", generationDir(armed.previous), CURRENT_LINK],
  });
  await converge(context, await readInput(runner));
  // What could not be brought up is not there any more.
  await runner.run({
    title: `forget that ${MAIN_UNIT} failed`,
    argv: ["systemctl", "reset-failed", MAIN_UNIT],
  });
  await tell(runner, armed);
  if (!await wasInterrupted(armed, runner)) {
    const since = new Date(clock.now()).toISOString();
    const installed = { schema: 1, status: "installed", phase: "rollback" } as const;
    await writeJson(
      runner,
      STATE_FILE,
      { ...installed, since, generation: armed.previous } satisfies HostStateFile,
    );
  }
  await disarm(context, armed);
}

/** Says whether all is removed; not where an uninstallation was asked for meanwhile. */
async function backToBaseline(armed: Armed, context: Context): Promise<boolean> {
  const { runner, report } = context;
  report("give the network back as it was before mobula");
  const baseline = await readAnyBaseline(runner, report);
  // Killed in between, the next boot must not configure what has just been taken away.
  await runStep(runner, { title: "forget the current generation", argv: ["rm", "-f", CURRENT_LINK] });
  await runSteps(runner, [FORGET_NIC], report);
  const leaving = leavePlan(baseline, await runner.readFiles(leavePaths(baseline)));
  if (baseline) await giveBack(baseline, armed, context);
  else {await runSteps(
      runner,
      [{ title: "stop our units", argv: ["systemctl", "stop", ...OUR_UNITS] }],
      report,
    ).catch(() => {});}
  for (const file of leaving.files) {
    report(`${file.content === undefined ? "remove" : "restore"} ${file.path}`);
    await runner.writeFile(file);
  }
  await runSteps(runner, [...leaving.steps, ...leaving.reloads], report);
  const differences = baseline ? await settle(baseline, armed, context) : [];
  for (const difference of differences) report(`differs from before: ${difference}`);
  return await finish(armed, differences, context);
}

/** The network itself; again and again, because the host's own network manager may get in between. */
async function giveBack(baseline: Baseline, armed: Armed, context: Context): Promise<void> {
  const { runner, report } = context;
  const sameBoot = await readBootId({ runner }) === armed.bootId;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const { seen, policy } = await lookAround(baseline, runner);
    // A baseline of another machine, and nothing begun: there is nothing to give back.
    if (isUntouched(seen) && !hasExternal(baseline, seen)) return;
    if (!sameBoot && isTaken(baseline, seen)) await markTaken(armed, context);
    const steps = downSteps(baseline, seen, { restoreSettled: sameBoot, policy });
    // What has failed may be possible later; its time is when all else is done.
    if (steps.length === 0 || round > 0 && steps.every(({ mayFail }) => mayFail)) return;
    await runSteps(runner, steps, report);
  }
}

/** From here on the addresses are ours to restore, also if this run is killed. */
async function markTaken(armed: Armed, { runner, locks }: Context): Promise<void> {
  const bootId = await readBootId({ runner });
  await locks.lockedArmed(() =>
    writeJson(runner, ARMED_FILE, { ...armed, bootId, deadline: 0 } satisfies Armed)
  );
}

/** Waits until the network is as it was; what its manager has taken away again meanwhile is restored. Gives what still differs. */
async function settle(baseline: Baseline, armed: Armed, context: Context): Promise<readonly string[]> {
  // At boot the network's manager has not even begun.
  if (await readBootId(context) !== armed.bootId && !await isMarked(context.runner)) return [];
  const { runner, clock, report } = context;
  const deadline = clock.now() + SETTLE_PATIENCE;
  const reportOnce = once(report);
  let calm = 0;
  while (true) {
    const differences = await differencesNow(baseline, runner);
    calm = differences.length === 0 ? calm + 1 : 0;
    if (calm === CALM || clock.now() > deadline) return differences;
    await clock.pause(500);
    const { seen, policy } = await lookAround(baseline, runner);
    if (!hasExternal(baseline, seen)) return differences;
    await runSteps(runner, downSteps(baseline, seen, { restoreSettled: true, policy }), reportOnce);
  }
}

/** What is tried again and again is told once. */
function once(report: Context["report"]): Context["report"] {
  const told = new Set<string>();
  return (title) => {
    if (!told.has(title)) report(title);
    told.add(title);
  };
}

async function isMarked(runner: Runner): Promise<boolean> {
  return (await readArmed(runner))?.bootId === await readBootId({ runner });
}

async function differencesNow(baseline: Baseline, runner: Runner): Promise<readonly string[]> {
  const argv = ["sh", "-s"];
  const output = await runStep(runner, { title: "read the network", argv, stdin: BASELINE_SCRIPT });
  try {
    return baselineDifferences(baseline, parseBaseline(output, baseline.sshPort));
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

async function finish(armed: Armed, differences: readonly string[], context: Context): Promise<boolean> {
  const { runner, locks } = context;
  if (armed.uninstall) {
    // While they are masked: none of them shall start once more on its way out. That they stay is no reason to stop.
    await purge(armed.purge ?? [], context).catch((error) => context.report(String(error)));
    const units = await readJson<string[]>(runner, MASKED_FILE) ?? [];
    const unmask = {
      title: "unmask the distribution's Open vSwitch units",
      argv: ["systemctl", "unmask", ...units],
    };
    if (units.length > 0) await runSteps(runner, [unmask], context.report);
  } else await tell(runner, armed, differences);
  await forgetInstallation(armed, runner);
  await disarm(context, armed);
  const argv = ["sh", "-c", LAST_SCRIPT, "sh", armed.uninstall ? "uninstall" : "keep"];
  return await locks.lockedArmed(async () => {
    // The unit that is removed here is that of whoever has armed the host meanwhile.
    if (await readArmed(runner) !== undefined) return false;
    await runStep(runner, { title: "remove what is left", argv });
    return true;
  });
}

/** The next push installs as if for the first time, from the network that it finds then. */
async function forgetInstallation(armed: Armed, runner: Runner): Promise<void> {
  await runner.writeFile({ path: BASELINE_FILE, content: undefined });
  if (!armed.uninstall && await wasInterrupted(armed, runner)) return;
  await runner.writeFile({ path: STATE_FILE, content: undefined });
}

/** After a reboot the mark of an interrupted installation stays: with the power, the package manager may have been interrupted too. */
async function wasInterrupted(armed: Armed, runner: Runner): Promise<boolean> {
  const rebooted = await readBootId({ runner }) !== armed.bootId;
  return rebooted && (await readState(runner).catch(() => undefined))?.status !== "installed";
}

/** For whoever asks how the activation went. */
async function tell(
  runner: Runner,
  armed: Armed,
  differences: readonly string[] = [],
): Promise<void> {
  const rest = differences.length === 0 ? "" : `, but ${differences.join(", ")}`;
  const reason = await runner.readFile(FAILURE_FILE) ??
    (await readBootId({ runner }) === armed.bootId
      ? `nobody confirmed it within ${armed.seconds} s`
      : "it was rebooted before anybody confirmed it");
  const error = `${reason}, so the host went back to ${whereTo(armed)}${rest}`;
  await writeJson(runner, ACTIVATION_FILE, { status: "rolledback", error } satisfies Activation);
}
