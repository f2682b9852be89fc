/**
 * Gives the network card back to the host where not even the path of SSH can be brought up, until the next boot or push. Changes the
 * host's network.
 */
import type { Baseline } from "../facts.ts";
import { downSteps } from "../net/down.ts";
import { plainLine } from "../plain.ts";
import { GIVEN_BACK_FILE } from "../render/restore_nic.ts";
import type { Context } from "./context.ts";
import { lookAround } from "./look.ts";
import { runSteps } from "./run_steps.ts";

/** The external interface with its addresses and routes, each as far as it goes. */
export async function giveNicBack(
  { runner, report }: Context,
  baseline: Baseline,
  reason: string,
): Promise<void> {
  report("give the network card back to the host");
  const tell = (error: unknown) => report(error instanceof Error ? error.message : String(error));
  // First of all: a repair that comes in between must not take it once more.
  await runner.writeFile({ path: GIVEN_BACK_FILE, content: `${reason}\n` }).catch(tell);
  const { seen, policy } = await lookAround(baseline, runner);
  for (const step of downSteps(baseline, seen, { restoreSettled: true, policy })) {
    await runSteps(runner, [{ ...step, mayFail: true }], report).catch(tell);
  }
  await tellConsole(runner, reason).catch(tell);
}

/** Whoever stands before the machine sees it, too. */
async function tellConsole(runner: Context["runner"], reason: string): Promise<void> {
  const text = `mobula: the network card is as it was before mobula, until the next boot or push: ${reason}`;
  const argv = ["sh", "-c", 'echo "$1" >/dev/console', "sh", plainLine(text)];
  await runner.run({ title: "tell the console", argv });
}

/** Whether the network card was given back in this boot: no repair takes it again. */
export async function staysGivenBack({ runner, report }: Context): Promise<boolean> {
  const reason = await runner.readFile(GIVEN_BACK_FILE).catch(() => undefined);
  if (reason === undefined) return false;
  report(`the network card stays as it was before mobula, until the next boot or push: ${reason.trim()}`);
  return true;
}
