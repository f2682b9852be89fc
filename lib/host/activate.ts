/**
 * Makes a staged generation the current one and brings the live network to it. Changes the host's network.
 */
import { HostError } from "../errors.ts";
import { MAIN_UNIT } from "../render/units.ts";
import { armFor, CONFIRM_TIMEOUT, giveUp } from "./armed.ts";
import {
  type Context,
  currentGeneration,
  generationDir,
  readConfig,
  readState,
  writeJson,
} from "./context.ts";
import { ACTIVATION_FILE, CURRENT_LINK } from "./paths.ts";
import { planTitles } from "./plan.ts";
import type { ActivateRequest, ActivateResult } from "./protocol.ts";
import { runStep } from "./run_steps.ts";
import { writeFiles } from "./converge.ts";
import { type Activation, currentPlan, up } from "./up.ts";

/**
 * Where the external interface has to move, the connection that asks for it would die half-way: systemd does the work instead,
 * and the caller comes back over a new connection.
 */
export async function activate(request: ActivateRequest, context: Context): Promise<ActivateResult> {
  try {
    return await activateGeneration(request, context);
  } catch (error) {
    // What is armed by now is not waited for: it has failed.
    const message = error instanceof Error ? error.message : String(error);
    const where = await giveUp(message, context).catch(() => undefined);
    throw where === undefined ? error : new HostError(`${message}; the host goes back to ${where} at once`);
  }
}

async function activateGeneration(request: ActivateRequest, context: Context): Promise<ActivateResult> {
  const { generation, confirmSeconds = CONFIRM_TIMEOUT } = request;
  const { runner, locks, report } = context;
  if (await readConfig(runner, generationDir(generation)) === undefined) {
    throw new HostError(`Cannot activate generation ${generation}: there is none; expected a staged one`);
  }
  const state = await readState(runner);
  const isNew = state?.generation !== generation;
  if (isNew) await armFor(generation, confirmSeconds, context);
  if (await currentGeneration(runner) !== generation) {
    await runStep(runner, {
      title: `make generation ${generation} current`,
      argv: ["ln", "-sfn", generationDir(generation), CURRENT_LINK],
    });
  }
  const { plan, cutsConnection } = await currentPlan(context);
  if (planTitles(plan).length === 0 && plan.reloads.length === 0) {
    await writeJson(runner, ACTIVATION_FILE, { status: "done" } satisfies Activation);
    return { cutsConnection: false, steps: [] };
  }
  if (!cutsConnection) return { cutsConnection, steps: await up(context, { isTrial: true }) };
  if (!isNew) await armFor(generation, confirmSeconds, context);
  await locks.locked(() => writeFiles(context, plan));
  await writeJson(runner, ACTIVATION_FILE, { status: "running" } satisfies Activation);
  report(`start ${MAIN_UNIT}`);
  await runStep(runner, {
    title: `start ${MAIN_UNIT}`,
    argv: ["systemctl", "restart", "--no-block", MAIN_UNIT],
  });
  return { cutsConnection, steps: [`start ${MAIN_UNIT}`] };
}
