/**
 * Three virtual machines with mobula on them, each with two cards that mobula knows nothing of. Makes a lab and removes it.
 */
import { executable } from "../../tests/lab/executables.ts";
import { writeInventory } from "../../tests/lab/inventory.ts";
import { type HostOptions, type Lab, type LabHost, withLab } from "../../tests/lab/lab.ts";
import { must } from "../../tests/lab/process.ts";
import { expectCode, mobula } from "../../tests/lab/proof.ts";
import { BRIDGE, ipBatch } from "../../tests/lab/underlay.ts";
import { waitFor } from "../../tests/lab/wait.ts";
import { orderMachine } from "../../tests/vm/machine.ts";
import { type Nic, NICS, SECOND_NIC } from "./nics.ts";

const LAB = "bench-data";

/** Nobody but us configures these cards: a network manager would give them the first one's address. */
const FILES = {
  "/etc/systemd/network/00-bench.network": `[Match]\nName=${
    NICS.map(({ name }) => name).join(" ")
  }\n\n[Link]\nUnmanaged=yes\n`,
};

const HOSTS: readonly HostOptions[] = ["alpha", "beta", "gamma"].map((name, index) => ({
  name,
  address: `198.51.100.${index + 2}`,
  suite: "trixie",
  image: "bench",
  kind: "machine",
  files: FILES,
}));

/** An emulated machine at its limit misses a hello of 100 ms, and its traffic would take another way than the one that is measured. */
const VARS = { mobula_bfd_interval: 1000 };
/** An emulated machine is ten to twenty times slower. */
const PUSH_TIMEOUT_MS = 15 * 60_000;
const CONFIRM_TIMEOUT_S = 900;
const SCRIPT_TIMEOUT_MS = 120_000;

/** One machine under test. */
export interface Guest {
  readonly name: string;
  readonly id: number;
  /** Of the second card. */
  readonly address: string;
  /** Runs a shell script there, which must end well; gives what it wrote. */
  readonly sh: (script: string, options?: ScriptOptions) => Promise<string>;
  /** Seconds of processor time that its QEMU has used on this machine. */
  readonly machineSeconds: () => number;
}

interface ScriptOptions {
  readonly args?: readonly string[];
  readonly stdin?: string;
}

/** Makes the machines, pushes, plugs the other cards in, hands the machines over and removes them whatever happens. */
export async function withGuests<T>(
  tell: (line: string) => void,
  use: (guests: readonly Guest[]) => Promise<T>,
): Promise<T> {
  const program = await executable("compiled");
  tell("three machines: start");
  return await withLab(LAB, HOSTS, async (lab) => {
    tell("push");
    await writeInventory(lab, { vars: VARS });
    const pushing = { executable: program, timeoutMs: PUSH_TIMEOUT_MS };
    const options = ["--no-reboot", "--confirm-timeout", String(CONFIRM_TIMEOUT_S)];
    expectCode(await mobula(lab, pushing, "push", ...options), 0, "the push of three virtual machines");
    return await use(await plugGuests(lab));
  });
}

/** Plugs the other cards in. */
export async function plugGuests(lab: Lab): Promise<readonly Guest[]> {
  const guests = lab.state.hosts.map((host) => guestOf(lab, host));
  for (const nic of NICS) {
    await Promise.all(lab.state.hosts.map((host) => plugNic(lab, host, nic)));
    await Promise.all(guests.map((guest) => addressNic(guest, nic)));
  }
  return guests;
}

function guestOf(lab: Lab, host: LabHost): Guest {
  return {
    name: host.name,
    id: host.id,
    address: `${SECOND_NIC.network}.${host.id}`,
    sh: async (script, { args = [], stdin } = {}) => {
      const argv = ["sh", "-eu", "-c", script, "sh", ...args];
      const result = await lab.exec(host.name, argv, { stdin, timeoutMs: SCRIPT_TIMEOUT_MS });
      expectCode(result, 0, `"${script.trim().split("\n")[0]} …" on ${host.name}`);
      return result.stdout;
    },
    machineSeconds: () => processSeconds(host.process?.pid ?? 0),
  };
}

/** Fields 14 and 15 of `/proc/<pid>/stat`, in hundredths of a second; the second field may hold spaces and brackets. */
function processSeconds(pid: number): number {
  const text = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function plugNic({ state }: Lab, host: LabHost, { slot, name }: Nic): Promise<void> {
  const tap = `${slot}-${host.name}`;
  await must(["ip", "-n", state.namespace, "tuntap", "add", tap, "mode", "tap"]);
  await ipBatch(state.namespace, [`link set ${tap} master ${BRIDGE} up`]);
  const netdev = { type: "tap", id: name, ifname: tap, script: "no", downscript: "no" };
  await orderMachine(host, "netdev_add", netdev);
  const place = slot.toString(16).padStart(2, "0");
  const mac = `52:54:00:33:${place}:${host.id.toString(16).padStart(2, "0")}`;
  const nic = { driver: "virtio-net-pci", id: `${name}-nic`, netdev: name, mac, romfile: "" };
  await orderMachine(host, "device_add", { ...nic, addr: `0x${place}` });
}

async function addressNic(guest: Guest, { name, network }: Nic): Promise<void> {
  const script = 'ip address replace "$1/24" dev "$2"; ip link set "$2" up';
  await waitFor(`the card ${name} of ${guest.name}`, async () => {
    await guest.sh(script, { args: [`${network}.${guest.id}`, name] });
    return true;
  });
}
