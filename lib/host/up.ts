/**
 * Brings the live host to its current generation: at boot, at a push, and after a daemon was restarted. Changes the host.
 */
import { HostError } from "../errors.ts";
import { movesNic } from "../net/steps.ts";
import type { HostInput } from "../net/wanted.ts";
import { GIVEN_BACK_FILE } from "../render/restore_nic.ts";
import { giveUp, readArmed } from "./armed.ts";
import { readBootInput } from "./boot_input.ts";
import { type Context, readInput, readJson, writeJson } from "./context.ts";
import { converge } from "./converge.ts";
import { convergeBestEffort } from "./converge_boot.ts";
import { giveNicBack, staysGivenBack } from "./give_back.ts";
import { lookAtHost } from "./look.ts";
import { ACTIVATION_FILE } from "./paths.ts";
import { type HostPlan, planHost, wantedHost } from "./plan.ts";

/** How an activation went; /run/mobula/activation.json. */
export interface Activation {
  /** `rolledback`: it was not confirmed, and the host went back by itself. */
  readonly status: "running" | "done" | "failed" | "rolledback";
  /** Of one that is running: the external interface is about to move, or has moved. */
  readonly cut?: boolean;
  readonly error?: string;
}

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
      if (!isTrial) {
        const titles = await convergeBestEffort(context, await bootInput(context));
        await writeJson(context.runner, ACTIVATION_FILE, { status: "done" } satisfies Activation).catch(
          (error) => context.report(`warning: ${messageOf(error)}`),
        );
        return titles;
      }
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

/** Milliseconds that an answer about it needs to get away: two of the intervals at which `status` looks, and the network's time. */
const NOTICE = 80;

/** Whoever waits for the activation over a connection that ends now had better make a new one. */
async function announceCut({ runner, clock }: Context): Promise<void> {
  await writeJson(runner, ACTIVATION_FILE, { status: "running", cut: true } satisfies Activation);
  await clock.pause(NOTICE);
}

/** What can be read of it; where that is not enough, the network card has its addresses at least, and a HostError says so. */
async function bootInput(context: Context): Promise<HostInput> {
  const found = await readBootInput(context);
  if ("config" in found) return found;
  const message = "no generation and baseline below /opt/mobula that can be read";
  if (found.baseline) await giveNicBack(context, found.baseline, message);
  throw new HostError(
    `Cannot bring the network up: ${message}; expected those of the last push; push with --reinstall`,
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
