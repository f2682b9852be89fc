/**
 * Finds the generation before the current one. Reads files only.
 */
import { HostError } from "../errors.ts";
import { type Context, generationDir, listGenerations, readConfig, readState } from "./context.ts";
import type { EarlierResult } from "./protocol.ts";
import { liveKey } from "./rotate.ts";

/** The newest generation that is older than the confirmed one. */
export async function earlier(_request: unknown, { runner }: Context): Promise<EarlierResult> {
  const current = (await readState(runner))?.generation ?? 0;
  const older = (await listGenerations(runner)).filter((number) => number < current).reverse();
  for (const generation of older) {
    const config = await readConfig(runner, generationDir(generation)).catch(() => undefined);
    const publicKey = config?.hosts.find(({ id }) => id === config.self)?.publicKey;
    if (publicKey === undefined) continue;
    const live = await liveKey(runner);
    return { generation, publicKey, ...(live === undefined ? {} : { liveKey: live }) };
  }
  throw new HostError(
    `Cannot go back: the host knows no generation before ${current}; expected one. ` +
      "To give its network back, uninstall",
  );
}
