/**
 * What every on-host action is given, and the small files in which a host keeps its state. Reads and writes through the Runner. The
 * schemas are loaded where there is something to check: `host status` and others like it have nothing.
 */
import { HostError } from "../errors.ts";
import type { Baseline, Capabilities, HostStateFile } from "../facts.ts";
import type { HostConfig } from "../fleet.ts";
import type { KnownKeys } from "../known_keys.ts";
import type { HostInput } from "../net/wanted.ts";
import type { Runner } from "../step.ts";
import {
  BASELINE_FILE,
  CAPABILITIES_FILE,
  CURRENT_LINK,
  GENERATIONS_DIR,
  KEYS_FILE,
  STATE_FILE,
} from "./paths.ts";
import type { Report } from "./run_steps.ts";

/** Keeps two actions from changing one host at the same time. Each call runs `action` while it holds the lock, and gives its result. */
export interface Locks {
  /** Waits for the lock of the host. */
  locked<T>(action: () => Promise<T>): Promise<T>;
  /** The same, but a process that holds the lock for longer than `patience` milliseconds is killed: a rollback must not wait for it. */
  lockedByForce<T>(patience: number, action: () => Promise<T>): Promise<T>;
  /**
   * Waits for the lock of what is armed. A lock of its own: more time is asked for while the other one is held, and must not be given
   * to a host that is being confirmed at that moment.
   */
  lockedArmed<T>(action: () => Promise<T>): Promise<T>;
}

/** The time of day, and waiting. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Resolves after so many milliseconds. */
  pause(milliseconds: number): Promise<void>;
}

/** The hands and the voice of an action. */
export interface Context {
  readonly runner: Runner;
  readonly locks: Locks;
  readonly clock: Clock;
  readonly report: Report;
  /** The SSH connection over which it was asked for, as `parseConnection` gives it. */
  readonly connection?: string;
  /** When standard input has ended, for an action that goes on until then. */
  readonly ended?: Promise<void>;
}

/**
 * sshd(8), SSH_CONNECTION: `client port server port` → the same, which no two connections of one time share; undefined where sshd does
 * not know, and where there is none (sudo hides it).
 */
export function parseConnection(variable: string | undefined): string | undefined {
  return /^\S+ \d+ \S+ \d+$/.test(variable ?? "") && !variable?.startsWith("UNKNOWN") ? variable : undefined;
}

/** Reads a JSON file of ours; undefined where there is none, HostError where it is broken. */
export async function readJson<T>(runner: Runner, path: string): Promise<T | undefined> {
  const text = await runner.readFile(path);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new HostError(
      `Cannot read ${path}: not JSON; expected the file as mobula wrote it; push with --reinstall`,
    );
  }
}

/** Writes a JSON file of ours. */
export function writeJson(runner: Runner, path: string, value: unknown): Promise<void> {
  return runner.writeFile({ path, content: `${JSON.stringify(value, null, 2)}\n` });
}

/** The number of the generation that is current; 0 where there is none. */
export async function currentGeneration(runner: Pick<Runner, "readLink">): Promise<number> {
  return Number(/(\d+)$/.exec(await runner.readLink(CURRENT_LINK) ?? "")?.[1] ?? 0);
}

/** The numbers of all generations that are there, ascending; none where they cannot be listed. */
export async function listGenerations(runner: Pick<Runner, "list">): Promise<number[]> {
  const names = await runner.list(GENERATIONS_DIR);
  return names.filter((name) => /^\d+$/.test(name)).map(Number).sort((a, b) => a - b);
}

/** The state as the last run left it, or that of a host that has never been touched. */
export async function readState(runner: Runner): Promise<HostStateFile | undefined> {
  return await readJson<HostStateFile>(runner, STATE_FILE);
}

/** The configuration of a generation, checked again: the file may have been edited by hand. */
export async function readConfig(runner: Runner, directory: string): Promise<HostConfig | undefined> {
  const config = await readJson<unknown>(runner, `${directory}/config.json`);
  if (config === undefined) return undefined;
  const { parseHostConfig } = await import("../host_config.ts");
  return parseHostConfig(config);
}

/** The keys that the hosts may be using; undefined unless they are being replaced. A broken file is told, and counts as none. */
export async function readKnownKeys(
  runner: Runner,
  report: Report = () => {},
): Promise<KnownKeys | undefined> {
  try {
    const known = await readJson<unknown>(runner, KEYS_FILE);
    if (known === undefined) return undefined;
    const { parseKnownKeys } = await import("../parse_known_keys.ts");
    return parseKnownKeys(known);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    // A host without these keys may miss a peer until the next push; without its network it would be lost.
    report(`${error.message}; going on without`);
    return undefined;
  }
}

/** Directory of a generation. */
export function generationDir(generation: number): string {
  return `${GENERATIONS_DIR}/${generation}`;
}

/** The baseline in a file; undefined where there is none, HostError where it is broken. */
export async function readBaseline(runner: Runner, path: string): Promise<Baseline | undefined> {
  const found = await readJson<Partial<Baseline> | null>(runner, path);
  if (found === undefined) return undefined;
  const isWhole = typeof found?.interface === "string" && typeof found.mac === "string" &&
    typeof found.mtu === "number" && Array.isArray(found.addresses) && Array.isArray(found.routes) &&
    Array.isArray(found.managers) && typeof found.resolvConf === "object";
  if (isWhole) return found as Baseline;
  throw new HostError(
    `Cannot read ${path}: not a baseline; expected the file as mobula wrote it; push with --reinstall`,
  );
}

/** The same; where it is broken or gone, the copy of the newest generation that has one. What is broken is told. */
export async function readAnyBaseline(
  runner: Runner,
  report: Report = () => {},
): Promise<Baseline | undefined> {
  const copies = (await listGenerations(runner)).reverse().map((number) =>
    baselineCopy(generationDir(number))
  );
  for (const path of [BASELINE_FILE, ...copies]) {
    try {
      const baseline = await readBaseline(runner, path);
      if (baseline) return baseline;
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      report(`warning: ${error.message}`);
    }
  }
  return undefined;
}

/** What the kernel can do, as the last push found it; undefined where there is none, HostError where it is broken. */
export async function readCapabilities(runner: Runner): Promise<Capabilities | undefined> {
  const found = await readJson<Partial<Capabilities> | null>(runner, CAPABILITIES_FILE);
  if (found === undefined) return undefined;
  const isWhole = ["kernel", "userspace"].includes(found?.wireguard ?? "") &&
    ["system", "netdev"].includes(found?.datapath ?? "");
  if (isWhole) return found as Capabilities;
  throw new HostError(
    `Cannot read ${CAPABILITIES_FILE}: not what mobula writes; expected the modes of WireGuard and the switch; push with --reinstall`,
  );
}

/** The baseline as a generation keeps it. */
export function baselineCopy(directory: string): string {
  return `${directory}/baseline.json`;
}

/** All that the host's network is a function of, for the current generation. */
export async function readInput(runner: Runner, report?: Report): Promise<HostInput> {
  const [config, baseline, capabilities, knownKeys] = await Promise.all([
    readConfig(runner, CURRENT_LINK),
    readBaseline(runner, BASELINE_FILE),
    readCapabilities(runner),
    readKnownKeys(runner, report),
  ]);
  if (config && baseline && capabilities) {
    return { config, baseline, capabilities, ...(knownKeys ? { knownKeys } : {}) };
  }
  throw new HostError(
    "Cannot read the installation: no current generation, baseline or capabilities below /opt/mobula; " +
      "expected a finished push; push with --reinstall",
  );
}
