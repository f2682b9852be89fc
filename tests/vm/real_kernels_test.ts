/**
 * The same network on real kernels: three virtual machines and a container, one push, one network. Needs root and QEMU.
 *
 * `task test` without a suite leaves these tests out where there is no QEMU, unless MOBULA_TEST_VM is 1, and where it is 0; `task test:vm`
 * never does. The stage costs most of the time, so whatever can share it is declared here.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { allInnerAddresses, waitForAnswers } from "../lab/probes.ts";
import { expectCode, setStage } from "../lab/proof.ts";
import { declareCompany } from "./company.ts";
import { declareLacking } from "./lacking.ts";
import { declareMtu } from "./mtu.ts";
import { declareNeighbours } from "./neighbours.ts";
import { declareOutside, ensureClient } from "./outside.ts";
import { declareRepairs } from "./repairs.ts";
import { declareShortcut } from "./shortcut.ts";
import {
  BARE,
  checkNetwork,
  CONTAINER,
  MACHINES,
  NAMES,
  NETWORK_DEADLINE_MS,
  onHost,
  push,
  type Pushed,
  STAGE,
  timed,
  verify,
  waitForNetwork,
} from "./stage.ts";
import { declareSwitch } from "./switch.ts";
import { declareTree } from "./tree.ts";
import { declareVlans } from "./vlans.ts";

const { proof } = setStage<Pushed>(STAGE);

const KERNEL = "WireGuard in the kernel, Open vSwitch in the kernel";
const USERSPACE = "WireGuard in userspace, Open vSwitch in userspace";

proof(
  "machines: push installs, reboots and verifies three Debian releases in kernel mode",
  (_lab, { said }) => {
    assertMatch(said, /Done: 4 of 4 hosts, every pair answers\./);
    for (const name of NAMES) {
      const line = said.split("\n").find((line) => line.includes(`✓ ${name} (id`)) ?? "";
      assertMatch(line, new RegExp(`installed, .*rebooted, ${name === CONTAINER ? USERSPACE : KERNEL}`));
    }
    return Promise.resolve();
  },
);

proof("machines: a bare one gets its packages by the push, their own units masked", async (lab, { said }) => {
  assertMatch(said, new RegExp(`${BARE}.* install packages openvswitch-switch .*nftables dnsmasq-base `));
  const show =
    "cat /opt/mobula/masked.json; dpkg-query -W -f '${Package}\\n' openvswitch-switch nftables dnsmasq-base";
  const found = await onHost(lab, BARE, show);
  assertMatch(found, /"openvswitch-switch\.service"/);
  assertMatch(found, /dnsmasq-base\nnftables\nopenvswitch-switch$/);
  const units = ["openvswitch-switch", "ovsdb-server", "ovs-vswitchd"].map((name) => `${name}.service`).join(
    " ",
  );
  const states = await onHost(lab, BARE, `systemctl show -p LoadState,ActiveState --value ${units}`);
  assertEquals(states.split(/\s+/), Array(3).fill(["masked", "inactive"]).flat());
});

proof("machines: the kernel does the work, not a process", async (lab) => {
  for (const name of MACHINES) {
    assertMatch(await onHost(lab, name, "ip -n mobula -d link show mo-wg-gw"), /wireguard/);
    const modules = await onHost(lab, name, "cut -d' ' -f1 /proc/modules");
    for (const module of ["openvswitch", "wireguard", "geneve", "nf_tables"]) {
      assert(modules.split("\n").includes(module), `${name} has not loaded ${module}`);
    }
    assertEquals((await lab.exec(name, ["pgrep", "wireguard-go"])).code, 1);
    const ports = await onHost(lab, name, "ovs-appctl -t /run/mobula/ovs/vswitchd.ctl dpif/show");
    assertMatch(ports, /system@ovs-system/);
    assertMatch(ports, /geneve/);
    const neighbours = await onHost(lab, name, "cat /proc/sys/net/ipv[46]/neigh/default/gc_thresh3");
    assertEquals(neighbours.trim().split("\n"), ["16384", "16384"]);
    assertEquals(
      await onHost(lab, name, "ip -n mobula -br link show ens3").then(firstWord),
      "ens3",
    );
  }
});

function firstWord(text: string): string {
  return text.split(/\s/)[0] ?? "";
}

proof("mixed fleet: kernel machines and a userspace container reach each other, every pair", async (lab) => {
  await checkNetwork(lab);
});

proof("mixed fleet: verify says the mode of each, and answers 0", async (lab, { program }) => {
  const result = await timed("verify", () => verify(lab, program, "--wait", "60"));
  expectCode(result, 0, "the verification");
  assertMatch(result.stdout, new RegExp(`mode: ${KERNEL} on ${MACHINES.join(", ")}$`, "m"));
  assertMatch(result.stdout, new RegExp(`mode: ${USERSPACE} on ${CONTAINER}$`, "m"));
});

proof("machines: pushed again, nothing is changed", async (lab, { program }) => {
  const again = await timed("second push", () => push(lab, program));
  expectCode(again, 0, "the second push");
  for (const name of NAMES) {
    assertMatch(
      again.stdout,
      new RegExp(`✓ ${name} \\(id \\d+\\): nothing to change, (?!.*(sent|rebooted))`),
    );
  }
});

declareLacking(proof);
declareOutside(proof);
declareVlans(proof);
declareNeighbours(proof);
declareMtu(proof);
declareShortcut(proof);
declareTree(proof);
declareSwitch(proof);
declareRepairs(proof);
const { afterReboot } = declareCompany(proof);

proof("machines: all rebooted at once, the network is back by itself", async (lab, pushed) => {
  await timed("reboot of all", () => Promise.all(NAMES.map((name) => lab.reboot(name))));
  await timed("network after the reboot", () => waitForNetwork(lab));
  await checkNetwork(lab);
  for (const name of MACHINES) {
    assertEquals(await onHost(lab, name, "systemctl --failed --plain --no-legend"), "");
  }
  const everything = allInnerAddresses(lab.state.hosts);
  const laptop = await ensureClient(lab, pushed);
  await waitForAnswers("everybody, from the client", () => laptop, everything, NETWORK_DEADLINE_MS);
  const judged = await timed("verify after the reboot", () => verify(lab, pushed.program, "--wait", "60"));
  expectCode(judged, 0, "the verification after the reboot");
});

afterReboot();
