/**
 * The lab in which hosts are struck, and how it is brought to the state in which a scenario begins. Changes the lab.
 */
import { hostAddresses } from "../../lib/address.ts";
import { generateKeyPair } from "../../lib/keys.ts";
import { executable } from "../lab/executables.ts";
import { expectAsBefore, settledPicture } from "../lab/host_picture.ts";
import { writeInventory } from "../lab/inventory.ts";
import type { CommandResult, HostOptions, Lab } from "../lab/lab.ts";
import { allInnerAddresses, unreached } from "../lab/probes.ts";
import { expectCode, mobula } from "../lab/proof.ts";
import { containerInit } from "../lab/process.ts";
import { ask } from "../lab/snapshot.ts";
import { waitFor } from "../lab/wait.ts";
import { type Scenario, VICTIM } from "./scenarios.ts";
import { CHAOS_DIR } from "./strike.ts";

/** Only the victim's disk can be filled. */
export const CHAOS_HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  // Its sshd would turn away who looks for its greeting as often as we do, and with it the deployer.
  {
    name: VICTIM,
    address: "198.51.100.3",
    suite: "trixie",
    diskMiB: 1500,
    files: { "/etc/ssh/sshd_config.d/chaos.conf": "PerSourcePenalties no\n" },
  },
  { name: "gamma", address: "198.51.100.4", suite: "bookworm" },
];

/** Seconds: a new host's activation may take this long on a busy machine. */
export const CONFIRM_TIMEOUT = 30;
/** The same where nobody is going to confirm. */
const ABANDONED_TIMEOUT = 10;

const LOCAL_DIR = "/root/fleet";
const LOCAL_PROGRAM = "/root/mobula";

/** The lab and what was prepared in it. */
export interface ChaosStage {
  readonly lab: Lab;
  readonly program: string;
  /** The victim's network when nothing of ours is there. */
  readonly bare: readonly string[];
  /** Of pushes, so that each has something to change. */
  round: number;
  victimIs: "installed" | "bare" | "unknown";
}

/** Installs the fleet, for the first time unless the lab was kept. */
export async function prepareChaos(lab: Lab): Promise<ChaosStage> {
  const program = await executable("chaos");
  await ask(lab, VICTIM, ["mkdir", "-p", CHAOS_DIR]);
  const stage: ChaosStage = {
    lab,
    program,
    bare: await pictureOfBare(lab),
    round: Math.floor(Date.now() / 1000),
    victimIs: "unknown",
  };
  await writeChaosInventory(stage, {});
  expectCode(await push(stage), 0, "the first push");
  stage.victimIs = "installed";
  return stage;
}

async function pictureOfBare(lab: Lab): Promise<string[]> {
  const file = `${lab.directory}/bare.json`;
  const known = await Deno.readTextFile(file).catch(() => undefined);
  if (known !== undefined) return JSON.parse(known);
  const picture = await settledPicture(lab, VICTIM, "network");
  await Deno.writeTextFile(file, JSON.stringify(picture));
  return picture;
}

/** An inventory that no host has seen: another name, another client, another MTU. */
export async function writeChaosInventory(
  stage: ChaosStage,
  { rotatesKeys = false }: Pick<Scenario, "rotatesKeys">,
): Promise<void> {
  const { lab } = stage;
  stage.round++;
  await writeInventory(lab, {
    extraHosts: { "10.31.200.1": `round-${stage.round}.example` },
    extraWires: { "10.30.200.1": (await generateKeyPair()).publicKey },
    vars: { mobula_mtu: 1400 + stage.round % 2 * 100, ...rotatesKeys ? { mobula_keys: "rotate" } : {} },
  });
}

/** Arguments of a push; where it is to be abandoned nobody waits longer than need be. */
export function pushOptions({ abandonedAt }: Pick<Scenario, "abandonedAt"> = {}): string[] {
  const seconds = abandonedAt === undefined ? CONFIRM_TIMEOUT : ABANDONED_TIMEOUT;
  return ["--verbose", "--confirm-timeout", String(seconds)];
}

/** A push that nobody disturbs. */
export async function push({ lab, program }: ChaosStage, ...args: readonly string[]): Promise<CommandResult> {
  return await mobula(lab, { executable: program }, "push", "--no-reboot", ...pushOptions(), ...args);
}

/** Brings the victim to where the scenario begins; the others are installed. */
export async function beginAt(stage: ChaosStage, scenario: Scenario): Promise<void> {
  const { lab, program } = stage;
  if (stage.victimIs !== "installed" && (stage.victimIs === "unknown" || scenario.from === "installed")) {
    expectCode(await push(stage, "--reinstall"), 0, "the push between two injections");
    stage.victimIs = "installed";
  }
  if (scenario.from === "bare" && stage.victimIs !== "bare") {
    const done = await mobula(lab, { executable: program }, "uninstall", "--limit", VICTIM);
    expectCode(done, 0, "the uninstallation between two injections");
    await expectAsBefore(lab, VICTIM, { part: "network", before: stage.bare, deadlineMs: 10_000 });
    await ask(lab, VICTIM, ["mkdir", "-p", CHAOS_DIR]);
    stage.victimIs = "bare";
  }
  await writeChaosInventory(stage, scenario);
  if (scenario.run === "local") await bringFiles(stage);
}

/** What an admin brings to a host that has to install itself. */
async function bringFiles({ lab, program }: ChaosStage): Promise<void> {
  const put = async (path: string, content: string | Uint8Array) => {
    const argv = ["sh", "-euc", 'mkdir -p "${1%/*}"; cat >"$1"; chmod 755 "$1"', "sh", path];
    expectCode(await lab.exec(VICTIM, argv, { stdin: content }), 0, path);
  };
  if ((await lab.exec(VICTIM, ["test", "-e", LOCAL_PROGRAM])).code !== 0) {
    await put(LOCAL_PROGRAM, await Deno.readFile(program));
  }
  for (const file of ["hosts.yml", "extra_hosts.yml", "extra_wires.yml", "wireguard_pubkeys.yml"]) {
    await put(`${LOCAL_DIR}/${file}`, await Deno.readTextFile(`${lab.directory}/${file}`));
  }
}

/** The command of a local installation. */
export const LOCAL_INSTALL = [LOCAL_PROGRAM, "install", "--local", LOCAL_DIR];

/** A new machine in the victim's place. */
export async function replaceVictim(stage: ChaosStage): Promise<void> {
  const { lab } = stage;
  await lab.removeHost(VICTIM);
  await lab.addHost(CHAOS_HOSTS.find(({ name }) => name === VICTIM)!);
  await ask(lab, VICTIM, ["mkdir", "-p", CHAOS_DIR]);
  stage.victimIs = "unknown";
}

/** Path of a file of the victim as this machine sees it; undefined while the victim is off. */
export function onVictim({ lab }: ChaosStage, path: string): string | undefined {
  const init = containerInit(lab.host(VICTIM).cgroup);
  return init === undefined ? undefined : `/proc/${init}/root${path}`;
}

/** Every host reaches every other one, and none will go back. */
export async function expectVerified({ lab }: ChaosStage): Promise<void> {
  const addresses = allInnerAddresses(lab.state.hosts);
  await waitFor("the network to be one again", async () => {
    for (const { name } of lab.state.hosts) {
      const missing = await unreached(lab.network(name), addresses);
      if (missing.length > 0) throw new Error(`${name} does not reach ${missing.join(", ")}`);
      if (await isArmed(lab, name)) throw new Error(`${name} is still armed`);
    }
    return true;
  }, { deadlineMs: 15_000, intervalMs: 300 });
  const { access } = hostAddresses(lab.host(VICTIM).id);
  if (addresses.includes(access) === false) throw new Error("the victim was not asked for");
}

/** Whether a host would go back by itself. */
export async function isArmed(lab: Lab, host: string): Promise<boolean> {
  const script =
    "[ -e /opt/mobula/armed.json ] || systemctl is-active -q mobula-rollback.timer mobula-rollback.service";
  return (await lab.exec(host, ["sh", "-c", script])).code === 0;
}
