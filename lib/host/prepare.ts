/**
 * Prepares a host for a generation: packages, what the kernel can do, the baseline, the WireGuard key. Changes the host, but
 * nothing of its network.
 */
import { type Distro, findDistro } from "../distro/table.ts";
import {
  installStep,
  maskSteps,
  missingPackages,
  PROVING_COMMANDS,
  refreshStep,
  repairSteps,
  simulateStep,
} from "../distro/packages.ts";
import { CommandError, HostError } from "../errors.ts";
import type { Baseline, Capabilities, HostStateFile } from "../facts.ts";
import type { HostConfig } from "../fleet.ts";
import { generateKeyPair, publicKeyOf } from "../keys.ts";
import { keyFile } from "../net/wireguard.ts";
import { Secret } from "../secret.ts";
import type { Runner } from "../step.ts";
import { BASELINE_SCRIPT, parseBaseline } from "./baseline.ts";
import { extend } from "./armed.ts";
import { type Context, readConfig, readJson, readKnownKeys, readState, writeJson } from "./context.ts";
import {
  BASELINE_FILE,
  CAPABILITIES_FILE,
  CURRENT_LINK,
  EXECUTABLE,
  FILE_IDENTITY,
  HASH_FILE,
  MASKED_FILE,
  STATE_FILE,
} from "./paths.ts";
import type { PrepareRequest, PrepareResult } from "./protocol.ts";
import { rememberPackages } from "./purge.ts";
import { probeKernel } from "./probe_kernel.ts";
import { liveKey } from "./rotate.ts";
import { runStep, runSteps } from "./run_steps.ts";

/** Seconds; activation shortens them again. */
const PREPARE_SECONDS = 900;

/** May be repeated at any time; on a prepared host it changes nothing but, if asked to, the key. */
export async function prepare(request: PrepareRequest, context: Context): Promise<PrepareResult> {
  const { runner } = context;
  // A host on its way back is waited for; one that is still to go back has time for this first.
  await context.locks.locked(() => extend(PREPARE_SECONDS, context));
  const state = await readState(runner).catch((error) => {
    // Half a file is what a cut-off installation may leave, and this is what repairs it.
    if (error instanceof HostError && request.reinstall) return undefined;
    throw error;
  });
  const newlyInstalled = isNew(state, request.reinstall);
  refuseInterrupted(request, state);
  if (newlyInstalled) await markInstalling(context, state?.generation ?? 0);
  try {
    const [capabilities, baseline] = await Promise.all([
      probeKernel(runner, { anew: newlyInstalled }),
      readBaseline(runner, request.sshPort),
    ]);
    if (request.reinstall && state?.status !== "installed") await repairPackages(context);
    const packagesInstalled = await installPackages(context, capabilities);
    await storeIfChanged(runner, CAPABILITIES_FILE, capabilities);
    await storeIfChanged(runner, BASELINE_FILE, baseline);
    await rememberHash(request, runner);
    const [live, known] = [await liveKey(runner), await readKnownKeys(runner)];
    const publicKey = await readOrMakeKey(request, runner, live);
    const fleetMtu = (await readConfig(runner, CURRENT_LINK))?.underlayMtu;
    return {
      publicKey,
      capabilities,
      newlyInstalled,
      packagesInstalled,
      underlayMtu: baseline.mtu,
      ...(fleetMtu === undefined ? {} : { fleetMtu }),
      ...(live === undefined ? {} : { liveKey: live }),
      ...(known === undefined ? {} : { knowsKeys: true }),
    };
  } catch (error) {
    // It failed by itself and said so: only a run that was cut off counts as interrupted.
    if (state === undefined) await runner.writeFile({ path: STATE_FILE, content: undefined });
    else await writeJson(runner, STATE_FILE, state);
    throw error;
  }
}

/** Whether a push installs the host instead of updating it; such a host is rebooted at the end. */
export function isNew(state: HostStateFile | undefined, reinstall: boolean): boolean {
  return state === undefined || state.generation === 0 || reinstall;
}

/** An installation that was cut off is only taken up again on purpose. */
function refuseInterrupted(request: PrepareRequest, state: HostStateFile | undefined): void {
  if (state?.status !== "installing" || request.reinstall) return;
  throw new HostError(
    `Cannot install: an installation was interrupted here at ${state.since} in phase ${state.phase}; ` +
      "expected a finished one; push with --reinstall",
  );
}

/** Writes the mark that `confirm` takes away. */
async function markInstalling({ runner, clock }: Context, generation: number): Promise<void> {
  const since = new Date(clock.now()).toISOString();
  await writeJson(runner, STATE_FILE, {
    schema: 1,
    status: "installing",
    phase: "prepare",
    since,
    generation,
  });
}

/** For the looks of later pushes and plans in this boot; whoever copies it has done so already. */
async function rememberHash({ executableHash }: PrepareRequest, runner: Runner): Promise<void> {
  if (executableHash === undefined || await runner.readFile(HASH_FILE) !== undefined) return;
  const script = 'id=$(stat -c "$1" "$2") && printf "%s\\n%s\\n" "$id" "$3" >"$4"';
  const argv = ["sh", "-c", script, "sh", FILE_IDENTITY, EXECUTABLE, executableHash, HASH_FILE];
  await runStep(runner, { title: "remember the executable", argv });
}

async function storeIfChanged(runner: Runner, path: string, value: unknown): Promise<void> {
  if (JSON.stringify(await readJson(runner, path)) !== JSON.stringify(value)) {
    await writeJson(runner, path, value);
  }
}

/** The baseline is written once, before the first change; afterwards the interface is not where it was. */
export async function readBaseline(runner: Runner, sshPort: number): Promise<Baseline> {
  const known = await readJson<Baseline>(runner, BASELINE_FILE);
  if (known) return { ...known, sshPort };
  const output = await runStep(runner, {
    title: "read the network",
    argv: ["sh", "-s"],
    stdin: BASELINE_SCRIPT,
  });
  return parseBaseline(output, sshPort);
}

/** A power cut in the middle of an installation leaves packages that the package manager refuses to go on with. */
async function repairPackages({ runner, report }: Context): Promise<void> {
  const [configure, complete] = repairSteps(await hostDistro(runner));
  report(configure.title);
  if ((await runner.run(configure)).code !== 0) await runSteps(runner, [complete], report);
}

/** The packages that the host lacks for what its kernel can do. */
export async function packagesToInstall(
  runner: Pick<Runner, "run">,
  distro: Distro,
  capabilities: Capabilities,
): Promise<readonly string[]> {
  const script = `for name; do command -v "$name"; done; exit 0`;
  const found = await runStep(runner, {
    title: "look for programs",
    argv: ["sh", "-c", script, "sh", ...PROVING_COMMANDS],
  });
  const commands = new Set(found.split("\n").map((path) => path.slice(path.lastIndexOf("/") + 1)));
  const wireguardInUserspace = capabilities.wireguard === "userspace";
  return missingPackages(distro, { commands, wireguardInUserspace });
}

async function installPackages(
  { runner, report }: Context,
  capabilities: Capabilities,
): Promise<readonly string[]> {
  const distro = await hostDistro(runner);
  const packages = await packagesToInstall(runner, distro, capabilities);
  if (packages.length === 0) return [];
  if (packages.includes(distro.packages.openvswitch)) {
    await rememberMasked(runner, distro);
    await runSteps(runner, maskSteps(distro), report);
  }
  await refreshPackages({ runner, report }, distro, packages);
  await rememberPackages(runner, distro, packages);
  await runSteps(runner, [installStep(distro, packages)], report);
  return packages;
}

/** Which of the units are about to be masked and were not before: the end of the installation takes just these back. */
async function rememberMasked(runner: Runner, { unitsToMask }: Distro): Promise<void> {
  if (await readJson(runner, MASKED_FILE) !== undefined) return;
  const script =
    `for unit; do [ "$(readlink "/etc/systemd/system/$unit")" = /dev/null ] || echo "$unit"; done`;
  const argv = ["sh", "-c", script, "sh", ...unitsToMask];
  const free = await runStep(runner, { title: "look for masked units", argv });
  await writeJson(runner, MASKED_FILE, free.split("\n").filter((unit) => unit !== ""));
}

/** A source that is gone is no harm as long as the packages can be had from another one. */
async function refreshPackages(
  { runner, report }: Pick<Context, "runner" | "report">,
  distro: Parameters<typeof refreshStep>[0],
  packages: readonly string[],
) {
  const refresh = refreshStep(distro);
  report(refresh.title);
  const refreshed = await runner.run(refresh);
  if (refreshed.code === 0) return;
  const simulated = await runner.run(simulateStep(distro, packages));
  if (simulated.code !== 0) {
    throw new CommandError(
      refresh.title,
      refresh.argv,
      refreshed.code,
      `${refreshed.stderr}${simulated.stderr}`,
    );
  }
}

/** The row of the host's distribution; HostError where there is none. */
export async function hostDistro(runner: Runner) {
  const text = await runner.readFile("/etc/os-release") ?? await runner.readFile("/usr/lib/os-release") ?? "";
  const value = (key: string) => new RegExp(`^${key}=["']?(.*?)["']?$`, "m").exec(text)?.[1] ?? "";
  const answer = findDistro(
    value("ID"),
    value("ID_LIKE").split(" ").filter((word) => word !== ""),
    value("VERSION_ID"),
  );
  if ("distro" in answer) return answer.distro;
  throw new HostError(`Cannot install: ${answer.refused}`);
}

/** The key that the coming generation uses; its private half is written on the host and never leaves it. */
async function readOrMakeKey(request: PrepareRequest, runner: Runner, live?: string): Promise<string> {
  if (request.pinnedKeys) {
    const { publicKey, privateKey } = request.pinnedKeys;
    await writeKey(runner, publicKey, new Secret(privateKey));
    return publicKey;
  }
  if (request.keys === "keep") {
    for (const key of keptKeys(live, await readConfig(runner, CURRENT_LINK))) {
      const text = await runner.readFile(keyFile(key));
      if (text !== undefined && await publicKeyOf(new Secret(text.trim())) === key) return key;
    }
  }
  const pair = await generateKeyPair();
  await writeKey(runner, pair.publicKey, pair.privateKey);
  return pair.publicKey;
}

/** The public keys that a host may go on with, the best one first. */
export function keptKeys(live: string | undefined, current: HostConfig | undefined): string[] {
  // What the others are sure to know is the key in use, should a replacement have been cut off.
  return [live, current?.hosts.find(({ id }) => id === current.self)?.publicKey].filter((key) =>
    key !== undefined
  );
}

async function writeKey(runner: Runner, publicKey: string, privateKey: Secret): Promise<void> {
  const path = keyFile(publicKey);
  const content = `${privateKey.reveal()}\n`;
  if (await runner.readFile(path) !== content) await runner.writeFile({ path, content, mode: 0o600 });
}
