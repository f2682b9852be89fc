/**
 * The stage of the tests in this folder: three virtual machines with Debian's own kernels and one container, which shares this
 * machine's, installed by one push. Two machines have a bridge for guests, as an admin makes it. Needs root and QEMU.
 */
import { assertEquals } from "@std/assert";
import { hostAddresses, innerMtus } from "../../lib/address.ts";
import { executable } from "../lab/executables.ts";
import { writeInventory } from "../lab/inventory.ts";
import type { HostOptions, Lab } from "../lab/lab.ts";
import { allInnerAddresses, resolveAt, seenAddress, unreached, waitForAnswers } from "../lab/probes.ts";
import { must } from "../lab/process.ts";
import { expectCode, mobula, type Proofs, type StageOptions } from "../lab/proof.ts";
import { WEB_NAME, WEB_SERVER } from "../lab/underlay.ts";
import { type Lacking, tryWithoutModules } from "./lacking.ts";
import { VM_PACKAGES } from "./qemu.ts";

/** Hosts with a kernel of their own. */
export const MACHINES = ["alpha", "beta", "gamma"] as const;
/** The host on this machine's kernel, which has neither WireGuard nor Open vSwitch. */
export const CONTAINER = "delta";
export const NAMES: readonly string[] = [...MACHINES, CONTAINER];
/** The machine that comes as a provider hands it over, without any package that mobula needs. */
export const BARE = "beta";
/** `veth_fac0` is in a VLAN-aware bridge of the admin's, which carries the host's address. */
export const WITH_GUESTS: readonly string[] = ["alpha", "gamma"];

const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  { name: BARE, address: "198.51.100.3", suite: "bookworm", image: "bare" },
  { name: "gamma", address: "198.51.100.4", suite: "bullseye" },
  { name: CONTAINER, address: "198.51.100.5", suite: "trixie", kind: "container" },
];

const EXTRA_NAMES = { "10.31.200.1": "printer.example" };

/** Extrawire address of the client. */
export const CLIENT = "10.30.128.1";

/** The MTUs (bytes) on the lab's underlay. */
export const MTU = innerMtus(1500);

/** An emulated machine needs longer than a real one to prove itself. */
const PATIENT = ["--confirm-timeout", "900"];
/** An emulated machine is ten to twenty times slower. */
const PUSH_TIMEOUT_MS = 20 * 60_000;
/** Milliseconds until everybody reaches everybody again. */
export const NETWORK_DEADLINE_MS = 120_000;

/** What the stage's push left. */
export interface Pushed {
  readonly lacking: Lacking;
  readonly program: string;
  readonly said: string;
  readonly client: { readonly privateKey: string; readonly publicKey: string };
}

/** Declares a test that uses the stage. */
export type Proof = Proofs<Pushed>["proof"];

/** How the stage is made. */
export const STAGE: StageOptions<Pushed> = {
  name: "vmtest",
  hosts: HOSTS,
  kind: "machine",
  packages: VM_PACKAGES,
  prepare: async (lab) => {
    const program = await executable("compiled");
    const client = await clientOf(lab, program);
    await writeFleet(lab, client.publicKey);
    const lacking = await tryWithoutModules(lab, program);
    const pushed = await timed("push", () => push(lab, program, "--verbose"));
    console.log(pushed.stdout.split("\n").filter((line) => line.startsWith("seconds:")).join("\n"));
    expectCode(pushed, 0, "the push of three virtual machines and a container");
    await Promise.all(WITH_GUESTS.map((name) => bridgeGuests(lab, name)));
    return { program, said: pushed.stdout + pushed.stderr, client, lacking };
  },
};

/** The client's keys, which a lab that is kept goes on with. */
async function clientOf(lab: Lab, program: string): Promise<Pushed["client"]> {
  const file = `${lab.directory}/client.json`;
  const made = await Deno.readTextFile(file).catch(() => must([program, "keys", "generate", "--json"]));
  await Deno.writeTextFile(file, made);
  const pair = JSON.parse(made);
  return { privateKey: pair.private_key, publicKey: pair.public_key };
}

/** Writes the inventory, with further names if there are any. */
export async function writeFleet(
  lab: Lab,
  clientKey: string,
  names: Readonly<Record<string, string>> = {},
): Promise<void> {
  await writeInventory(lab, {
    // An emulated switch stands still for a second now and then: it must not take its neighbours for dead.
    vars: { mobula_bfd_interval: 1000 },
    hostVars: Object.fromEntries(WITH_GUESTS.map((name) => [name, { mobula_access: "none" }])),
    extraHosts: { ...EXTRA_NAMES, ...names },
    extraWires: { [CLIENT]: clientKey },
  });
}

/** Pushes with the patience that emulation needs. */
export function push(lab: Lab, program: string, ...args: readonly string[]) {
  return mobula(lab, options(program), "push", ...args, ...PATIENT);
}

/** Plans likewise. */
export function plan(lab: Lab, program: string, ...args: readonly string[]) {
  return mobula(lab, options(program), "plan", ...args);
}

/** Verifies likewise. */
export function verify(lab: Lab, program: string, ...args: readonly string[]) {
  return mobula(lab, options(program), "verify", ...args);
}

function options(program: string) {
  return { executable: program, timeoutMs: PUSH_TIMEOUT_MS };
}

/** As an admin does it who wants tagged guests and the host's own address on one bridge, also after a boot. */
export async function bridgeGuests(lab: Lab, name: string): Promise<void> {
  const { access, gateway } = hostAddresses(lab.host(name).id);
  const script = `cd /etc/systemd/network
printf '[NetDev]\\nName=br-guests\\nKind=bridge\\n[Bridge]\\nVLANFiltering=yes\\nMulticastSnooping=no\\nForwardDelaySec=0\\n' \\
  >20-br-guests.netdev
printf '[Match]\\nName=br-guests\\n[Network]\\nAddress=${access}/16\\nGateway=${gateway}\\nConfigureWithoutCarrier=yes\\n' \\
  >20-br-guests.network
printf '[Match]\\nName=veth_fac0\\n[Network]\\nBridge=br-guests\\n' >20-veth_fac0.network
echo nameserver ${gateway} >/etc/resolv.conf
networkctl reload`;
  await onHost(lab, name, script);
  await waitForAnswers(`the bridge of ${name}`, () => lab.network(name), [gateway], NETWORK_DEADLINE_MS);
}

/** Emulation makes times worth a look. */
export async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const start = performance.now();
  try {
    return await work();
  } finally {
    console.log(`${what}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
}

/** Runs a shell script on a host, or in a namespace of it; it must end with 0. Returns what it said. */
export async function onHost(lab: Lab, name: string, script: string, namespace?: string): Promise<string> {
  const result = await lab.exec(name, ["sh", "-eu", "-c", script], { namespace });
  expectCode(result, 0, `on ${name}${namespace === undefined ? "" : ` in ${namespace}`}: ${script}`);
  return result.stdout.trim();
}

/** Runs a check for every host at once; what it finds is listed by host name. */
export async function everywhere<T>(
  check: (name: string) => Promise<T>,
  names: readonly string[] = NAMES,
): Promise<Record<string, T>> {
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await check(name)] as const)));
}

/** The same value for every host. */
export function same<T>(value: T, names: readonly string[] = NAMES): Record<string, T> {
  return Object.fromEntries(names.map((name) => [name, value]));
}

/** Every pair, all names, the outside world, and SSH by the external address. */
export async function checkNetwork(lab: Lab): Promise<void> {
  const addresses = allInnerAddresses(lab.state.hosts);
  assertEquals(await everywhere((name) => unreached(lab.network(name), addresses)), same([]));
  const names = Object.fromEntries([
    ...lab.state.hosts.map(({ name, id }) => [name, hostAddresses(id).access]),
    ...Object.entries(EXTRA_NAMES).map(([address, name]) => [name, address]),
    [WEB_NAME, WEB_SERVER],
  ]);
  // Asked with the machine's own programs, which look into its own /etc/hosts first.
  const besides = (own: string) => Object.fromEntries(Object.entries(names).filter(([name]) => name !== own));
  const resolved = await everywhere((name) =>
    resolveAt(lab.network(name), hostAddresses(lab.host(name).id).gateway, Object.keys(besides(name)))
  );
  assertEquals(resolved, Object.fromEntries(NAMES.map((name) => [name, besides(name)])));
  const seen = await everywhere((name) => seenAddress({ exec: (argv) => lab.exec(name, argv) }, WEB_NAME));
  assertEquals(seen, Object.fromEntries(lab.state.hosts.map(({ name, address }) => [name, address])));
  const greeted = await everywhere(async (name) => (await lab.ssh(name, "uname -n")).stdout.trim());
  assertEquals(greeted, Object.fromEntries(NAMES.map((name) => [name, name])));
}

/** Waits until every host reaches every address of every host. */
export async function waitForNetwork(lab: Lab): Promise<void> {
  const addresses = allInnerAddresses(lab.state.hosts);
  await Promise.all(
    NAMES.map((name) =>
      waitForAnswers(`everybody, seen from ${name}`, () => lab.network(name), addresses, NETWORK_DEADLINE_MS)
    ),
  );
}
