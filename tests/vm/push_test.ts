/**
 * The same network on real kernels: three virtual machines, one push, one network. Needs root and QEMU.
 *
 * `MOBULA_TEST_VM=0` leaves these tests out.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import { executable } from "../lab/executables.ts";
import { writeInventory } from "../lab/inventory.ts";
import type { HostOptions, Lab } from "../lab/lab.ts";
import { allInnerAddresses, resolveAt, seenAddress, unreached, waitForAnswers } from "../lab/probes.ts";
import { expectCode, mobula, setStage } from "../lab/proof.ts";
import { WEB_NAME, WEB_SERVER } from "../lab/underlay.ts";
import { VM_PACKAGES } from "./qemu.ts";

const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  { name: "beta", address: "198.51.100.3", suite: "bookworm" },
  { name: "gamma", address: "198.51.100.4", suite: "bullseye" },
];
const NAMES = HOSTS.map(({ name }) => name);
const EXTRA_NAMES = { "10.31.200.1": "printer.example" };

/** An emulated switch stands still for a second now and then: it must not take its neighbours for dead. */
const SLOW = { mobula_bfd_interval: 1000 };
/** An emulated machine needs longer than a real one to prove itself. */
const PATIENT = ["--confirm-timeout", "900"];
/** An emulated machine is ten to twenty times slower. */
const PUSH_TIMEOUT_MS = 20 * 60_000;
const NETWORK_DEADLINE_MS = 120_000;

interface Pushed {
  readonly program: string;
  readonly said: string;
}

const { proof } = setStage<Pushed>({
  name: "vmtest",
  hosts: HOSTS,
  kind: "machine",
  packages: VM_PACKAGES,
  prepare: async (lab) => {
    await writeInventory(lab, { extraHosts: EXTRA_NAMES, vars: SLOW });
    const program = await executable("compiled");
    const pushed = await timed("push", () => mobula(lab, options(program), "push", "--verbose", ...PATIENT));
    console.log(pushed.stdout.split("\n").filter((line) => line.startsWith("seconds:")).join("\n"));
    expectCode(pushed, 0, "the push of three virtual machines");
    return { program, said: pushed.stdout + pushed.stderr };
  },
});

function options(program: string) {
  return { executable: program, timeoutMs: PUSH_TIMEOUT_MS };
}

/** Emulation makes times worth a look. */
async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const start = performance.now();
  try {
    return await work();
  } finally {
    console.log(`${what}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
}

async function everywhere<T>(check: (name: string) => Promise<T>): Promise<Record<string, T>> {
  return Object.fromEntries(await Promise.all(NAMES.map(async (name) => [name, await check(name)] as const)));
}

function same<T>(value: T): Record<string, T> {
  return Object.fromEntries(NAMES.map((name) => [name, value]));
}

async function ask(lab: Lab, name: string, ...argv: string[]): Promise<string> {
  const result = await lab.exec(name, argv);
  expectCode(result, 0, `"${argv.join(" ")}" on ${name}`);
  return result.stdout.trim();
}

proof(
  "machines: push installs, reboots and verifies three Debian releases in kernel mode",
  (_lab, { said }) => {
    assertMatch(said, /Done: 3 of 3 hosts, every pair answers\./);
    for (const name of NAMES) {
      const line = said.split("\n").find((line) => line.includes(`✓ ${name} (id`)) ?? "";
      assertMatch(line, /installed, .*rebooted, WireGuard in the kernel, Open vSwitch in the kernel/);
    }
    return Promise.resolve();
  },
);

proof("machines: the kernel does the work, not a process", async (lab) => {
  for (const name of NAMES) {
    assertMatch(await ask(lab, name, "ip", "-n", "mobula", "-d", "link", "show", "mo-wg-gw"), /wireguard/);
    const modules = await ask(lab, name, "cut", "-d ", "-f1", "/proc/modules");
    for (const module of ["openvswitch", "wireguard", "geneve", "nf_tables"]) {
      assert(modules.split("\n").includes(module), `${name} has not loaded ${module}`);
    }
    assertEquals((await lab.exec(name, ["pgrep", "wireguard-go"])).code, 1);
    const ports = await ask(lab, name, "ovs-appctl", "-t", "/run/mobula/ovs/vswitchd.ctl", "dpif/show");
    assertMatch(ports, /system@ovs-system/);
    assertMatch(ports, /geneve/);
    assertEquals(
      await ask(lab, name, "ip", "-n", "mobula", "-br", "link", "show", "ens3").then(firstWord),
      "ens3",
    );
  }
});

function firstWord(text: string): string {
  return text.split(/\s/)[0] ?? "";
}

proof("machines: every pair, all names, the outside world, and SSH by the external address", async (lab) => {
  await checkNetwork(lab);
});

async function checkNetwork(lab: Lab): Promise<void> {
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

proof("machines: verify says the mode of each, and answers 0", async (lab, { program }) => {
  const result = await timed("verify", () => mobula(lab, options(program), "verify"));
  expectCode(result, 0, "the verification");
  assertMatch(result.stdout, /mode: WireGuard in the kernel, Open vSwitch in the kernel on all hosts/);
});

proof("machines: pushed again, nothing is changed", async (lab, { program }) => {
  const again = await timed("second push", () => mobula(lab, options(program), "push", ...PATIENT));
  expectCode(again, 0, "the second push");
  for (const name of NAMES) {
    assertMatch(
      again.stdout,
      new RegExp(`✓ ${name} \\(id \\d+\\): nothing to change, (?!.*(sent|rebooted))`),
    );
  }
});

proof("machines: all rebooted at once, the network is back by itself", async (lab) => {
  await timed("reboot of all", () => Promise.all(NAMES.map((name) => lab.reboot(name))));
  const addresses = allInnerAddresses(lab.state.hosts);
  await timed(
    "network after the reboot",
    () =>
      Promise.all(NAMES.map((name) =>
        waitForAnswers(
          `everybody, seen from ${name}`,
          () => lab.network(name),
          addresses,
          NETWORK_DEADLINE_MS,
        )
      )),
  );
  await checkNetwork(lab);
  for (const name of NAMES) {
    assertEquals(await ask(lab, name, "systemctl", "--failed", "--plain", "--no-legend"), "");
  }
});
