/**
 * What a push would do to a host, computed without a change to it: everything is read through the Runner, nothing is written.
 */
import type { Distro } from "../distro/table.ts";
import type { Baseline, Capabilities } from "../facts.ts";
import type { Forward, HostConfig } from "../fleet.ts";
import { forwardsOf, portOf } from "../forward.ts";
import { parseHostConfig } from "../host_config.ts";
import { isKey } from "../keys.ts";
import { forgetKeys, type KnownKeys } from "../known_keys.ts";
import { keyFile } from "../net/wireguard.ts";
import { oncePer } from "../remember.ts";
import type { Runner, Step } from "../step.ts";
import { readConfig, readJson, readKnownKeys } from "./context.ts";
import { lookAtHost } from "./look.ts";
import { CAPABILITIES_FILE, CURRENT_LINK, EXECUTABLE } from "./paths.ts";
import { planHost, type SeenHost, wantedHost } from "./plan.ts";
import { hostDistro, keptKeys, packagesToInstall, readBaseline } from "./prepare.ts";
import { liveKey } from "./rotate.ts";
import { runStep } from "./run_steps.ts";
import { changedPaths, generationFiles } from "./stage.ts";

/** What is read on a host before anybody knows what the fleet agrees on. */
export interface PreviewBasis {
  readonly baseline: Baseline;
  readonly capabilities: Capabilities;
  readonly distro: Distro;
  /** Of the current generation. */
  readonly current?: HostConfig;
  readonly knownKeys?: KnownKeys;
  /** The public key that a push which keeps the keys would keep; missing where it would make one. */
  readonly key?: string;
  /** Bytes; the same as `prepare` tells a push. */
  readonly underlayMtu: number;
  readonly fleetMtu?: number;
}

/** What the push would do beyond the host's own plan. */
export interface PreviewRequest {
  readonly config: HostConfig;
  /** Ids of the hosts that this push would reach: their old keys would be forgotten. */
  readonly settled: readonly number[];
  /** Undefined: nobody can tell. */
  readonly sendsExecutable: boolean | undefined;
  readonly reboots: boolean;
}

/** One file that would change. */
export interface FileChange {
  readonly path: string;
  /** Undefined: there is none yet. */
  readonly before: string | undefined;
  /** Undefined: it would be removed. */
  readonly after: string | undefined;
}

/** All that would change on a host, in the order in which it would. */
export interface HostPreview extends Pick<PreviewRequest, "sendsExecutable" | "reboots"> {
  readonly capabilities: Capabilities;
  readonly packages: readonly string[];
  /** What the host starts from at its next boot differs. */
  readonly newGeneration: boolean;
  readonly files: readonly FileChange[];
  /** Without what they load, which is not shown: flows and peers of a host are megabytes in a large fleet. */
  readonly steps: readonly Omit<Step, "stdin">[];
  /** Forwards that the current generation has and the coming one has not. */
  readonly closed: readonly Forward[];
}

/** Reads what is installed. */
export async function readBasis(runner: Runner, sshPort: number): Promise<PreviewBasis> {
  const [baseline, capabilities, distro, current, knownKeys, live] = await Promise.all([
    readBaseline(runner, sshPort),
    readCapabilities(runner),
    hostDistro(runner),
    readConfig(runner, CURRENT_LINK),
    readKnownKeys(runner),
    liveKey(runner),
  ]);
  const key = await firstWithFile(runner, keptKeys(live, current));
  return {
    baseline,
    capabilities,
    distro,
    underlayMtu: baseline.mtu,
    ...(current === undefined ? {} : { current, fleetMtu: current.underlayMtu }),
    ...(knownKeys === undefined ? {} : { knownKeys }),
    ...(key === undefined ? {} : { key }),
  };
}

/** Whether the private half is there is asked without reading it: it stays on the host. */
async function firstWithFile(runner: Runner, keys: readonly string[]): Promise<string | undefined> {
  if (keys.length === 0) return undefined;
  const script = 'for file; do if [ -s "$file" ]; then echo yes; else echo no; fi; done';
  const argv = ["sh", "-c", script, "sh", ...keys.map(keyFile)];
  const answers = (await runStep(runner, { title: "look for the private key", argv })).split("\n");
  return keys.find((_, index) => answers[index] === "yes");
}

/** The difference between what is live on the host and what the push wants. */
export async function preview(
  runner: Runner,
  { baseline, capabilities, distro, current, knownKeys }: PreviewBasis,
  { config, settled, sendsExecutable, reboots }: PreviewRequest,
): Promise<HostPreview> {
  const left = knownKeys && stillKnown(knownKeys, config, settled);
  const input = { config, baseline, capabilities, ...(left ? { knownKeys: left } : {}) };
  const wanted = wantedHost(input);
  const [packages, seen, changed] = await Promise.all([
    packagesToInstall(runner, distro, capabilities),
    lookAtHost(runner, input, wanted),
    changedPaths(runner, asStaged(config), generationFiles(wanted.files, wanted.network.firewall)),
  ]);
  const kept = new Set(forwardsOf(config, baseline).map(portOf));
  const plan = planHost(input, sendsExecutable ? withoutExecutable(seen) : seen, wanted);
  return {
    capabilities,
    packages,
    newGeneration: current === undefined || changed.length > 0,
    sendsExecutable,
    reboots,
    files: plan.files.map(({ path, content }) => ({ path, before: seen.files.get(path), after: content })),
    steps: [...plan.before, ...plan.network, ...plan.after].map(({ stdin: _, ...step }) => step),
    closed: current ? forwardsOf(current, baseline).filter((forward) => !kept.has(portOf(forward))) : [],
  };
}

/** What the host still knows of keys when the push has ended: by then everybody it reaches uses the one of the configuration. */
function stillKnown(known: KnownKeys, config: HostConfig, settled: readonly number[]): KnownKeys | undefined {
  const present = new Set(config.hosts.map(({ id }) => String(id)));
  const gone = Object.keys(known.hosts).filter((id) => !present.has(id)).map(Number);
  const { hold: _, ...released } = known;
  return forgetKeys(released, [...settled, ...gone]);
}

/**
 * As it would lie on the host; one with a key that is still to be made cannot be checked, and is another one anyway. The list of hosts,
 * which is long and the same for the whole fleet, is the one that would be sent: only the entry of the host itself is checked again.
 */
function asStaged(config: HostConfig): HostConfig {
  if (!areWhole(config.hosts)) return config;
  const own = config.hosts.filter(({ id }) => id === config.self);
  return { ...parseHostConfig({ ...config, hosts: own }), hosts: config.hosts };
}

const areWhole = oncePer((hosts: HostConfig["hosts"]) =>
  hosts.every(({ publicKey }) => publicKey === undefined || isKey(publicKey))
);

/** An executable that is sent anew gets its mode and owner by that. */
function withoutExecutable(seen: SeenHost): SeenHost {
  return { ...seen, modes: new Map([...seen.modes].filter(([path]) => path !== EXECUTABLE)) };
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
