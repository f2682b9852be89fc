/**
 * The host's own undo: armed before anything is changed, disarmed by a confirmation, else carried out by a unit of its own. Writes
 * `/opt/mobula/armed.json` and the unit, and starts the timer.
 */
import { BIN_DIR } from "../net/steps.ts";
import { renderRollback, ROLLBACK_UNIT, UNIT_DIR } from "../render/units.ts";
import type { Runner, Step } from "../step.ts";
import { type Context, generationDir, readConfig, readJson, readState, writeJson } from "./context.ts";
import { ARMED_FILE, FAILURE_FILE, INSTALL_DIR } from "./paths.ts";
import { runStep } from "./run_steps.ts";
import { readBootId } from "./status.ts";

/** Seconds that a host waits for a confirmation unless told. */
export const CONFIRM_TIMEOUT = 120;

/** /opt/mobula/armed.json: what is taken back, to where, and when. */
export interface Armed {
  readonly schema: 1;
  /** What is being tried; 0 where the installation itself is to go. */
  readonly generation: number;
  /** What was confirmed last; 0 for the network of the baseline. */
  readonly previous: number;
  /** The SSH connection over which it is tried: what must not confirm it. Missing where that is not known. */
  readonly connection?: string;
  /** Nothing of ours shall be left. */
  readonly uninstall?: boolean;
  /** Packages that go with it. */
  readonly purge?: readonly string[];
  /** The boot in which it was armed, and seconds since that boot at which it is carried out: no clock can be set by that. */
  readonly bootId: string;
  readonly deadline: number;
  /** The seconds that were given. */
  readonly seconds: number;
}

/** What the host would do if nobody confirms, if it is armed at all. */
export async function readArmed(runner: Runner): Promise<Armed | undefined> {
  return await readJson<Armed>(runner, ARMED_FILE);
}

/** Arms the way back from a generation: to the one confirmed last, or to the network of before. */
export async function armFor(generation: number, seconds: number, context: Context): Promise<void> {
  const confirmed = (await readState(context.runner).catch(() => undefined))?.generation ?? 0;
  const isThere = confirmed > 0 && confirmed !== generation &&
    await readConfig(context.runner, generationDir(confirmed)).catch(() => undefined) !== undefined;
  const { connection } = context;
  await arm({ generation, previous: isThere ? confirmed : 0, seconds, connection }, context);
}

/** Writes down what is to be taken back, enables it for the next boot, and starts the timer; all of it before the first change. */
export async function arm(
  wanted: Pick<Armed, "generation" | "previous" | "seconds" | "connection" | "uninstall" | "purge">,
  { runner, locks, report }: Context,
): Promise<void> {
  report(`arm the way back: ${wanted.seconds} s`);
  await locks.lockedArmed(async () => {
    await prepareUndo(runner);
    await runner.writeFile({ path: FAILURE_FILE, content: undefined });
    const [bootId, now] = await Promise.all([readBootId({ runner }), uptime(runner)]);
    const armed = { schema: 1, ...wanted, bootId, deadline: now + wanted.seconds } satisfies Armed;
    // The timer first: it does nothing where nothing is armed, and a host that is armed without one would stay so.
    await startTimer(runner, wanted.seconds);
    await writeJson(runner, ARMED_FILE, armed);
  });
  await runStep(runner, SYNC);
}

/** So much of the time that is asked for may have passed before the timer is started anew. */
const PASSED = 0.1;

/** Gives more time, if the host is armed; says whether it is. */
export async function extend(seconds: number, { runner, locks }: Context): Promise<boolean> {
  if (!await readArmed(runner)) return false;
  return await locks.lockedArmed(async () => {
    const armed = await readArmed(runner);
    if (!armed || armed.uninstall) return false;
    const now = await uptime(runner);
    const deadline = now + seconds;
    if (
      seconds === armed.seconds && armed.bootId === await readBootId({ runner }) &&
      deadline - armed.deadline < PASSED * seconds && armed.deadline <= deadline
    ) return true;
    await writeJson(runner, ARMED_FILE, { ...armed, seconds, deadline } satisfies Armed);
    await startTimer(runner, seconds);
    return true;
  });
}

/** Has what is armed taken back at once, because it has failed; gives where to, or undefined on a host that is not armed. */
export async function giveUp(failure: string, { runner, report }: Context): Promise<string | undefined> {
  const armed = await readArmed(runner);
  if (!armed || armed.uninstall) return undefined;
  report("go back at once");
  await runner.writeFile({ path: FAILURE_FILE, content: failure });
  const argv = ["systemctl", "start", "--no-block", ROLLBACK_UNIT];
  await runStep(runner, { title: "start the way back", argv });
  return whereTo(armed);
}

/** Where the way back leads, for people. */
export function whereTo({ previous }: Pick<Armed, "previous">): string {
  return previous > 0 ? `generation ${previous}` : "the network of before";
}

/**
 * Disarms: what was armed has been confirmed, or, given as `done`, has been carried out. An uninstallation that was asked for during a
 * rollback stays armed.
 */
export async function disarm({ runner, locks }: Context, done?: Armed): Promise<void> {
  await locks.lockedArmed(async () => {
    if (done && !done.uninstall && (await readArmed(runner))?.uninstall) return;
    await runner.writeFile({ path: ARMED_FILE, content: undefined });
    await runner.writeFile({ path: FAILURE_FILE, content: undefined });
    await runStep(runner, { title: "stop the timer of the way back", argv: [`${BIN_DIR}/arm-rollback`] });
  });
  await runStep(runner, SYNC);
}

/** What a boot after a power cut has to find: the way back, and what it leads to, or that there is none any more. */
const SYNC: Step = { title: "bring everything to the disk", argv: ["sync", "-f", INSTALL_DIR, UNIT_DIR] };

/** Seconds since boot, which no setting of the clock changes. */
export async function uptime(runner: Runner): Promise<number> {
  return Number((await runner.readFile("/proc/uptime"))?.split(" ")[0] ?? 0);
}

async function startTimer(runner: Runner, seconds: number): Promise<void> {
  const argv = [`${BIN_DIR}/arm-rollback`, String(Math.ceil(seconds))];
  await runStep(runner, { title: "start the timer of the way back", argv });
}

/** The unit and its programs, and the link by which a boot finds it. */
async function prepareUndo(runner: Runner): Promise<void> {
  const files = renderRollback();
  const seen = await runner.readFiles([...files.map(({ path }) => path), ENABLED_LINK]);
  const changed = files.filter(({ path, content }) => seen.get(path) !== content);
  for (const file of changed) await runner.writeFile(file);
  if (changed.length === 0 && seen.get(ENABLED_LINK) !== undefined) return;
  // systemd finds a new unit by itself; a changed one it has to read again, which runs all its generators. It would do so after
  // `enable --no-reload`, too, as soon as somebody asks whether it has to.
  const isNew = files.every(({ path }) => seen.get(path) === undefined);
  const title = `enable ${ROLLBACK_UNIT}`;
  const link = ["ln", "-sfn", `${UNIT_DIR}/${ROLLBACK_UNIT}`, ENABLED_LINK];
  if (isNew && (await runner.run({ title, argv: link })).code === 0) return;
  await runStep(runner, { title, argv: ["systemctl", "enable", "--quiet", ROLLBACK_UNIT] });
}

/** What `systemctl enable` makes. */
const ENABLED_LINK = `${UNIT_DIR}/multi-user.target.wants/${ROLLBACK_UNIT}`;
