/**
 * Reboots the host, a moment after the answer.
 */
import type { Context } from "./context.ts";
import type { RebootResult } from "./protocol.ts";
import { runStep } from "./run_steps.ts";
import { readBootId } from "./status.ts";

/** The answer holds the boot id from before, so that the caller can tell when the host has come back. */
export async function reboot(_request: unknown, { runner }: Context): Promise<RebootResult> {
  const bootId = await readBootId({ runner });
  // A timer gives this answer the time to arrive before the network goes down.
  const timer = ["systemd-run", "--quiet", "--on-active=500ms", "--timer-property=AccuracySec=50ms"];
  await runStep(runner, { title: "reboot", argv: [...timer, "systemctl", "reboot"] });
  return { bootId };
}
