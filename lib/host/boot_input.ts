/**
 * What the network of a boot or a repair is a function of, also where a file is broken, empty or gone, and where the kernel is not the one of
 * the last push. Reads the host; remembers what the kernel can do.
 */
import type { Baseline, Capabilities } from "../facts.ts";
import type { HostInput } from "../net/wanted.ts";
import {
  type Context,
  generationDir,
  listGenerations,
  readAnyBaseline,
  readCapabilities,
  readConfig,
  readKnownKeys,
  writeJson,
} from "./context.ts";
import { CAPABILITIES_FILE, CURRENT_LINK } from "./paths.ts";
import { probeKernel } from "./probe_kernel.ts";

/** What every kernel can do, given the packages. */
const USERSPACE: Capabilities = { wireguard: "userspace", datapath: "netdev" };

/**
 * Reads the current generation, or else the newest one that can be read. Returns only the baseline, if any, where no configuration can be
 * read. Broken files are reported as warnings.
 */
export async function readBootInput(context: Context): Promise<HostInput | { readonly baseline?: Baseline }> {
  const { runner, report } = context;
  const directories = [CURRENT_LINK, ...(await listGenerations(runner)).reverse().map(generationDir)];
  const baseline = await readAnyBaseline(runner, report);
  let config: HostInput["config"] | undefined;
  for (const directory of directories) {
    config ??= await tried(context, () => readConfig(runner, directory));
  }
  if (!config || !baseline) return baseline ? { baseline } : {};
  const capabilities = await presentCapabilities(context);
  const knownKeys = await readKnownKeys(runner, report);
  return { config, baseline, capabilities, ...(knownKeys ? { knownKeys } : {}) };
}

/**
 * A boot may have brought another kernel: one that has lost or gained a module gets the mode that it can do. A network that runs keeps the
 * one that it has.
 */
async function presentCapabilities(context: Context): Promise<Capabilities> {
  const { runner, report } = context;
  const stored = await tried(context, () => readCapabilities(runner));
  if (stored && (await runner.list("/run/netns")).includes("mobula")) return stored;
  const found = await tried(context, () => probeKernel(runner, { anew: true }));
  if (!stored || !found) return stored ?? found ?? USERSPACE;
  const changes = [
    ...found.wireguard === stored.wireguard ? [] : [`WireGuard runs in ${place[found.wireguard]}`],
    ...found.datapath === stored.datapath ? [] : [`Open vSwitch runs in ${place[found.datapath]}`],
  ];
  if (changes.length === 0) return stored;
  report(`warning: the kernel is not the one of the last push: ${changes.join(", ")} now`);
  await tried(context, () => writeJson(runner, CAPABILITIES_FILE, found));
  return found;
}

const place = {
  kernel: "the kernel",
  system: "the kernel",
  userspace: "userspace",
  netdev: "userspace",
} as const;

/** Reports a failure as a warning and returns undefined. */
async function tried<T>(
  { report }: Pick<Context, "report">,
  read: () => Promise<T | undefined>,
): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    report(`warning: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}
