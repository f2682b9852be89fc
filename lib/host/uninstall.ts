/**
 * Starts the end of an installation: the unit that takes unconfirmed changes back takes all of it back. Changes the host, but
 * only after the answer.
 */
import { arm } from "./armed.ts";
import type { Context } from "./context.ts";
import type { UninstallResult } from "./protocol.ts";

/** Returns at once: a unit outside of this connection does the work, at the next boot if it has to be. */
export async function uninstall(_request: unknown, context: Context): Promise<UninstallResult> {
  await arm({ generation: 0, previous: 0, uninstall: true, seconds: 1 }, context);
  return { started: true };
}
