/**
 * The fleet of the main proof: six hosts, two of them bare, two with a bridge for guests, and a client. Makes it by one push.
 */
import { assertEquals } from "@std/assert";
import { parse } from "@std/yaml";
import { hostAddresses } from "../../../lib/address.ts";
import { executable } from "../executables.ts";
import { type InventoryOptions, writeInventory } from "../inventory.ts";
import type { HostOptions, Lab, LabHost } from "../lab.ts";
import { argumentListsDuring, waitForAnswers } from "../probes.ts";
import { must } from "../process.ts";
import { expectCode, mobula, type Proofs, type StageOptions } from "../proof.ts";
import { type Scans, startScans } from "../scans.ts";
import { ask } from "../snapshot.ts";

const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  { name: "beta", address: "198.51.100.3", suite: "bookworm" },
  { name: "gamma", address: "198.51.100.4", suite: "trixie", image: "bare" },
  { name: "delta", address: "198.51.100.5", suite: "bookworm", image: "bare" },
  { name: "epsilon", address: "198.51.100.6", suite: "trixie" },
  { name: "zeta", address: "198.51.100.7", suite: "bookworm", id: 256 },
];
export const BARE = ["gamma", "delta"];
/** Hosts of virtual machines: `veth_fac0` is in a bridge of the admin's, which carries the host's address. */
export const WITH_GUESTS = ["delta", "epsilon"];

/** Extrawire address of the client. */
export const CLIENT = "10.30.128.1";
export const EXTRA_NAMES = { "10.31.200.1": "printer.example", "10.31.200.5": "guest.internal" };

/** What the one push left. */
export interface Pushed {
  readonly program: string;
  readonly said: string;
  readonly argumentLists: Set<string>;
  readonly client: { readonly privateKey: string; readonly publicKey: string };
  /** Run beside the other tests. */
  readonly scans: Scans;
}

/** Declares a test that uses the fleet. */
export type Proof = Proofs<Pushed>["proof"];

/** How the fleet is made. */
export const STAGE: StageOptions<Pushed> = { name: "network", hosts: HOSTS, prepare };

/** Everything that the tests stand on: the one push, and the admin's own bridges for guests. */
async function prepare(lab: Lab): Promise<Pushed> {
  const program = await executable("compiled");
  const pair = JSON.parse(await must([program, "keys", "generate", "--json"]));
  const client = { privateKey: pair.private_key, publicKey: pair.public_key };
  await writeFleet(lab, client.publicKey);
  const [pushed, argumentLists] = await argumentListsDuring(() =>
    mobula(lab, { executable: program }, "push", "--verbose")
  );
  expectCode(pushed, 0, "the push of six hosts");
  await Promise.all(WITH_GUESTS.map((name) => bridgeGuests(lab, lab.host(name))));
  const scans = await startScans(lab, "beta");
  return { program, said: pushed.stdout + pushed.stderr, argumentLists, client, scans };
}

/** Writes the inventory of all hosts, with the client and the names. */
export async function writeFleet(lab: Lab, client: string, options: InventoryOptions = {}): Promise<void> {
  await writeInventory(lab, {
    hostVars: Object.fromEntries(WITH_GUESTS.map((name) => [name, { mobula_access: "none" }])),
    extraHosts: EXTRA_NAMES,
    extraWires: { [CLIENT]: client },
    ...options,
  });
}

/** As an admin does it who wants the host's address on the bridge of the virtual machines, also after a boot. */
async function bridgeGuests(lab: Lab, { name, id }: LabHost): Promise<void> {
  const { access, gateway } = hostAddresses(id);
  const files = {
    "br-guests.netdev":
      "[NetDev]\nName=br-guests\nKind=bridge\n[Bridge]\nMulticastSnooping=no\nForwardDelaySec=0\n",
    "br-guests.network":
      `[Match]\nName=br-guests\n[Network]\nAddress=${access}/16\nGateway=${gateway}\nConfigureWithoutCarrier=yes\n`,
    "veth_fac0.network": "[Match]\nName=veth_fac0\n[Network]\nBridge=br-guests\n",
  };
  for (const [file, text] of Object.entries(files)) {
    const { code, stderr } = await lab.exec(name, ["sh", "-c", `cat >/etc/systemd/network/20-${file}`], {
      stdin: text,
    });
    assertEquals(code, 0, stderr);
  }
  await ask(lab, name, ["sh", "-c", `echo nameserver ${gateway} >/etc/resolv.conf; networkctl reload`]);
  await waitForAnswers(`the bridge of ${name}`, () => lab.network(name), [gateway], 20_000);
}

export function names(lab: Lab): string[] {
  return lab.state.hosts.map(({ name }) => name);
}

/** Runs a check on every host at once; what it finds is listed by host name. */
export async function everywhere<T>(
  lab: Lab,
  check: (host: LabHost) => Promise<T>,
): Promise<Record<string, T>> {
  const found = await Promise.all(
    lab.state.hosts.map(async (host) => [host.name, await check(host)] as const),
  );
  return Object.fromEntries(found);
}

export function same<T>(lab: Lab, value: T): Record<string, T> {
  return Object.fromEntries(names(lab).map((name) => [name, value]));
}

/** External address → public key, as the deployer knows it. */
export async function readPubkeys(lab: Lab): Promise<Record<string, string>> {
  return parse(await Deno.readTextFile(`${lab.directory}/wireguard_pubkeys.yml`)) as Record<string, string>;
}
