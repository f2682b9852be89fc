/**
 * The external interface is found by its permanent address: pulled out, plugged in elsewhere, late, under another name. One virtual
 * machine. Needs root and QEMU; `deno task test:vm --all`.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { executable } from "../../lab/executables.ts";
import { writeInventory } from "../../lab/inventory.ts";
import type { HostOptions, Lab } from "../../lab/lab.ts";
import { expectCode, mobula, setStage } from "../../lab/proof.ts";
import { ask } from "../../lab/snapshot.ts";
import { waitFor } from "../../lab/wait.ts";
import { machineDriver, nicMac, plugNic, setNicSlot, unplugNic } from "../machine.ts";
import { NIC_SLOT, VM_PACKAGES } from "../qemu.ts";

/** Not what the card has by itself: mobula has to give it. */
const MTU = 1450;
const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie", mtu: MTU },
];
const NAME = `ens${NIC_SLOT}`;
const OTHER_SLOT = 9;
const OTHER_NAME = `ens${OTHER_SLOT}`;

/** An emulated machine is ten to twenty times slower. */
const PUSH_TIMEOUT_MS = 9 * 60_000;
const BACK_DEADLINE_MS = 240_000;
const BOOT_DEADLINE_MS = 300_000;

const { proof } = setStage<string>({
  name: "nic-vm",
  hosts: HOSTS,
  kind: "machine",
  packages: VM_PACKAGES,
  prepare: async (lab) => {
    await writeInventory(lab);
    const program = await executable("compiled");
    const options = { executable: program, timeoutMs: PUSH_TIMEOUT_MS };
    const pushed = await mobula(lab, options, "push", "--no-reboot", "--confirm-timeout", "900");
    expectCode(pushed, 0, "the push of one virtual machine");
    return program;
  },
});

function sh(lab: Lab, script: string): Promise<string> {
  return ask(lab, "alpha", ["sh", "-c", script]).then((said) => said.trim());
}

/** Name, MTU and state of the bridge's ports, but for mobula's own. */
async function portsOfGateway(lab: Lab): Promise<string[]> {
  const said = await sh(lab, "ip -n mobula -o link show master mo-ext-gw");
  return said.split("\n").filter((line) => line !== "" && !line.includes("mo-mid-gw"))
    .map((line) => line.replace(/^\d+: (\S+): <(\S+)> mtu (\d+) .*$/, "$1 mtu $3 $2"));
}

async function answers(lab: Lab): Promise<boolean> {
  return (await lab.ssh("alpha", "uname -n", { timeoutMs: 15_000 })).stdout.trim() === "alpha";
}

/** Nothing is run by hand: the SSH session is the first to ask. */
async function expectBack(lab: Lab, name: string, deadlineMs = BACK_DEADLINE_MS): Promise<void> {
  await waitFor(`SSH to alpha by ${name}`, () => answers(lab), { deadlineMs });
  assertEquals(await portsOfGateway(lab), [`${name} mtu ${MTU} BROADCAST,MULTICAST,UP,LOWER_UP`]);
  const failed = "systemctl --failed --plain --no-legend";
  await waitFor("no failed unit", async () => await sh(lab, failed) === "");
}

async function pullOut(lab: Lab): Promise<void> {
  await unplugNic(lab.host("alpha"));
  await waitFor("the card to be in no namespace", async () => {
    const links = await sh(lab, "ip -o link show; ip -n mobula -o link show 2>/dev/null; :");
    return !/: ens\d/.test(links);
  });
  assertEquals(await answers(lab), false);
}

proof("nic: virtio, by its predictable name and its permanent address", async (lab) => {
  const mac = nicMac(lab.host("alpha"));
  const baseline = JSON.parse(await sh(lab, "cat /opt/mobula/baseline.json"));
  assertEquals({ interface: baseline.interface, mac: baseline.mac, mtu: baseline.mtu }, {
    interface: NAME,
    mac,
    mtu: MTU,
  });
  const driver = `ip netns exec mobula readlink /sys/class/net/${NAME}/device/driver`;
  assertMatch(await sh(lab, driver), /\/virtio_net$/);
  assertMatch(await sh(lab, `ip netns exec mobula ethtool -P ${NAME}`), new RegExp(mac));
  await expectBack(lab, NAME);
});

proof("nic: pulled out and plugged in again at run time, it comes back into the gateway", async (lab) => {
  await pullOut(lab);
  await plugNic(lab.host("alpha"));
  await expectBack(lab, NAME);
});

proof("nic: plugged into another slot, it comes back under its new name", async (lab) => {
  await pullOut(lab);
  await plugNic(lab.host("alpha"), OTHER_SLOT);
  await expectBack(lab, OTHER_NAME);
});

proof("nic: in another slot from one boot to the next, it is found", async (lab) => {
  await lab.kill("alpha");
  setNicSlot(lab.host("alpha"), OTHER_SLOT);
  await lab.start("alpha");
  await expectBack(lab, OTHER_NAME);
  const began = await sh(lab, "systemctl show --property=ActiveState,SubState mobula.service");
  assertEquals(began, "ActiveState=active\nSubState=exited");
});

proof("nic: in its place only after the boot has given up, it is taken all the same", async (lab) => {
  const host = lab.host("alpha");
  await lab.kill("alpha");
  setNicSlot(host, "none");
  host.process = await machineDriver.start(lab.state, host);
  const state = "systemctl show --property=ActiveState mobula.service";
  await waitFor("the boot to give up", async () => await sh(lab, state) === "ActiveState=failed", {
    deadlineMs: BOOT_DEADLINE_MS,
    intervalMs: 1000,
  });
  await plugNic(host, OTHER_SLOT);
  await expectBack(lab, OTHER_NAME);
  await waitFor("the unit to say so", async () => await sh(lab, state) === "ActiveState=active");
});

proof("nic: uninstall gives it back, and it stays when it is plugged in again", async (lab, program) => {
  // The host's own settings name the card as it was called before.
  await pullOut(lab);
  await plugNic(lab.host("alpha"));
  await expectBack(lab, NAME);
  const options = { executable: program, timeoutMs: PUSH_TIMEOUT_MS };
  expectCode(await mobula(lab, options, "uninstall"), 0, "the uninstallation");
  await waitFor("SSH to alpha", () => answers(lab), { deadlineMs: BACK_DEADLINE_MS });
  const own = `ip -4 -o addr show dev ${NAME}`;
  assertMatch(await sh(lab, own), /198\.51\.100\.2\/24/);
  const events = "udevadm settle; ls -A /etc/udev/rules.d; ip netns list; ls -d /opt/mobula 2>/dev/null; :";
  assertEquals(await sh(lab, events), "");
  await unplugNic(lab.host("alpha"));
  await waitFor("the card to be out", async () => !/: ens\d/.test(await sh(lab, "ip -o link show")));
  await plugNic(lab.host("alpha"));
  await waitFor("SSH to alpha", () => answers(lab), { deadlineMs: BACK_DEADLINE_MS });
  assertMatch(await sh(lab, own), /198\.51\.100\.2\/24/);
  assertEquals(await sh(lab, events), "");
});
