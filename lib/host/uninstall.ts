/**
 * Starts the end of an installation: the unit that takes unconfirmed changes back takes all of it back. Changes the host, but
 * only after the answer.
 */
import { arm } from "./armed.ts";
import type { Context } from "./context.ts";
import type { UninstallRequest, UninstallResult } from "./protocol.ts";
import { planPurge } from "./purge.ts";

/** Returns at once: a unit outside of this connection does the work, at the next boot if it has to be. */
export async function uninstall(request: UninstallRequest, context: Context): Promise<UninstallResult> {
  // Nothing else is asked of the package manager unless that is wanted.
  const { remove, kept } = request.purge ? await planPurge(context.runner) : { remove: [], kept: [] };
  await arm({ generation: 0, previous: 0, uninstall: true, purge: remove, seconds: 1 }, context);
  return { started: true, removing: remove, kept };
}
