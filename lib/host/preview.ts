/**
 * What a push would do to a host, computed without a change to it: everything is read through the Runner, nothing is written.
 */
import type { Capabilities } from "../facts.ts";
import type { Forward, HostConfig } from "../fleet.ts";
import { forwardsOf, portOf } from "../forward.ts";
import type { Runner, Step } from "../step.ts";
import { readConfig, readJson } from "./context.ts";
import { lookAtHost } from "./look.ts";
import { CAPABILITIES_FILE, CURRENT_LINK } from "./paths.ts";
import { planHost } from "./plan.ts";
import { hostDistro, packagesToInstall, readBaseline } from "./prepare.ts";
import { runStep } from "./run_steps.ts";

/** One file that would change. */
export interface FileChange {
  readonly path: string;
  /** Undefined: there is none yet. */
  readonly before: string | undefined;
  /** Undefined: it would be removed. */
  readonly after: string | undefined;
}

/** All that would change on a host, in the order in which it would. */
export interface HostPreview {
  readonly capabilities: Capabilities;
  readonly packages: readonly string[];
  readonly files: readonly FileChange[];
  readonly steps: readonly Step[];
  /** Forwards that the current generation has and the coming one has not. */
  readonly closed: readonly Forward[];
}

/** The difference between what is live on the host and what `config` wants. */
export async function preview(runner: Runner, config: HostConfig, sshPort: number): Promise<HostPreview> {
  const [baseline, capabilities, distro] = await Promise.all([
    readBaseline(runner, sshPort),
    readCapabilities(runner),
    hostDistro(runner),
  ]);
  const input = { config, baseline, capabilities };
  const [packages, seen, current] = await Promise.all([
    packagesToInstall(runner, distro, capabilities),
    lookAtHost(runner, input),
    readConfig(runner, CURRENT_LINK),
  ]);
  const kept = new Set(forwardsOf(config, baseline).map(portOf));
  const plan = planHost(input, seen);
  return {
    capabilities,
    packages,
    files: plan.files.map(({ path, content }) => ({ path, before: seen.files.get(path), after: content })),
    steps: [...plan.before, ...plan.network, ...plan.after],
    closed: current ? forwardsOf(current, baseline).filter((forward) => !kept.has(portOf(forward))) : [],
  };
}

/** As a push found them, or what loading the modules would bring, without loading them. */
async function readCapabilities(runner: Runner): Promise<Capabilities> {
  const known = await readJson<Capabilities>(runner, CAPABILITIES_FILE);
  if (known) return known;
  const script = `for name; do
  if [ -e "/sys/module/$name" ] || modprobe -n -q "$name" 2>/dev/null; then echo "$name"; fi
done; exit 0`;
  const argv = ["sh", "-c", script, "sh", "wireguard", "openvswitch", "geneve"];
  const found = (await runStep(runner, { title: "look for kernel modules", argv })).split("\n");
  return {
    wireguard: found.includes("wireguard") ? "kernel" : "userspace",
    datapath: found.includes("openvswitch") && found.includes("geneve") ? "system" : "netdev",
  };
}
