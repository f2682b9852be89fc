/**
 * Ends an installation: the host counts as installed, and old generations and keys are forgotten. Changes files of ours only.
 */
import { HostError } from "../errors.ts";
import { KEY_DIR, keyFile } from "../net/wireguard.ts";
import type { Runner } from "../step.ts";
import { disarm, readArmed } from "./armed.ts";
import {
  type Context,
  currentGeneration,
  generationDir,
  listGenerations,
  readConfig,
  readState,
  writeJson,
} from "./context.ts";
import { STATE_FILE } from "./paths.ts";
import type { ConfirmRequest, ConfirmResult } from "./protocol.ts";
import { runStep } from "./run_steps.ts";

/** How many generations are kept, the current one included. */
const KEPT_GENERATIONS = 5;

/** Marks the current generation as confirmed, and takes the armed way back away. */
export async function confirm(request: ConfirmRequest, context: Context): Promise<ConfirmResult> {
  // Should the host be on its way back at this very moment, it is too late.
  return await context.locks.locked(() => confirmCurrent(request, context));
}

async function confirmCurrent(request: ConfirmRequest, context: Context): Promise<ConfirmResult> {
  const { runner, clock } = context;
  const generation = await currentGeneration(runner);
  if (generation === 0) {
    throw new HostError("Cannot confirm: no current generation; expected an activated one");
  }
  if (request.generation !== undefined && request.generation !== generation) {
    throw new HostError(
      `Cannot confirm generation ${request.generation}: the host went back to generation ${generation} by itself; ` +
        "expected a confirmation in time. Push again, perhaps with a longer --confirm-timeout",
    );
  }
  const armed = await readArmed(runner);
  if (armed?.connection !== undefined && armed.connection === context.connection) {
    throw new HostError(
      `Cannot confirm generation ${generation} over the SSH connection that activated it (${armed.connection}); ` +
        "expected a new one, which proves that the host can still be reached",
    );
  }
  const state = await readState(runner);
  if (state?.status !== "installed" || state.generation !== generation) {
    const since = new Date(clock.now()).toISOString();
    await writeJson(runner, STATE_FILE, {
      schema: 1,
      status: "installed",
      phase: "confirm",
      since,
      generation,
    });
    await disarm(context);
    await forgetOld(runner, generation);
  } else if (armed) await disarm(context);
  return { generation };
}

async function forgetOld(runner: Runner, current: number): Promise<void> {
  const all = await listGenerations(runner);
  // What cannot be listed or read does not count as old: the key in use would go with it.
  if (!all.includes(current)) return;
  const kept = all.filter((number) =>
    number === current || number > current - KEPT_GENERATIONS && number < current
  );
  const old = all.filter((number) => !kept.includes(number)).map(generationDir);
  if (old.length > 0) {
    await runStep(runner, { title: "forget old generations", argv: ["rm", "-rf", "--", ...old] });
  }
  const configs = await Promise.all(
    kept.map((number) => readConfig(runner, generationDir(number)).catch(() => undefined)),
  );
  if (configs.includes(undefined)) return;
  const keys = configs.map((config) => config?.hosts.find(({ id }) => id === config.self)?.publicKey)
    .filter((key) => key !== undefined).map(keyFile);
  const stale = (await runner.list(KEY_DIR)).filter((name) => name.endsWith(".key"))
    .map((name) => `${KEY_DIR}/${name}`).filter((path) => !keys.includes(path));
  if (stale.length > 0) {
    await runStep(runner, { title: "forget old keys", argv: ["rm", "-f", "--", ...stale] });
  }
}
