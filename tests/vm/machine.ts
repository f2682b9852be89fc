/**
 * Lab hosts as virtual machines with a kernel of their own. Makes disks and sockets in the host's directory, a tap in the lab's
 * underlay, and one `qemu-system-x86_64` process for each machine.
 */
import {
  type CommandResult,
  endGroup,
  isAlive,
  killProcess,
  must,
  type ProcessRecord,
  run,
  start,
} from "../lab/process.ts";
import type { HostDriver, HostExecOptions } from "../lab/driver.ts";
import { type LabHost, type LabState, saveState } from "../lab/state.ts";
import { BRIDGE, inNamespace, ipBatch } from "../lab/underlay.ts";
import { waitFor } from "../lab/wait.ts";
import { acceleration } from "./acceleration.ts";
import { agentArgv, MACHINE_ENVIRONMENT, runOnMachine } from "./agent.ts";
import { ensureDisk } from "./images.ts";
import {
  type Machine,
  NIC_DEVICE,
  NIC_SLOT,
  nicProperties,
  PROGRAM,
  qemuArguments,
  qmpSocket,
} from "./qemu.ts";
import { qmp } from "./qmp.ts";

/** The driver for virtual machines. */
export const machineDriver: HostDriver = {
  ensureImage: ensureDisk,
  nicPattern: "en*",
  bootDeadlineMs: 900_000,
  create,
  start: startMachine,
  exec,
  enterNetwork,
  cut,
  hopeless,
  bootMark,
};

/** The throw-away disk over the image's one, and the archive that makes this host of it at its first start. */
async function create(host: LabHost, files: Readonly<Record<string, string>>): Promise<void> {
  const { directory } = host;
  const disk = `${imageOf(host)}/disk.img`;
  await must(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk, `${directory}/disk.qcow2`]);
  for (const [path, text] of Object.entries(files)) await writeHostFile(`${directory}/files${path}`, text);
  const names = Object.keys(files).map((path) => path.slice(1)).join("\n");
  // Files only: a directory in the archive would bring its mode along, and change that of the image's.
  const archive = ["tar", "--create", "--file", `${directory}/host.tar`, "--owner=0", "--group=0"];
  await must([...archive, "--numeric-owner", "--directory", `${directory}/files`, "--files-from=-"], {
    stdin: `${names}\n`,
  });
}

async function writeHostFile(path: string, text: string): Promise<void> {
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  const secret = /_key$/.test(path) || path.includes("/files/root/");
  await Deno.writeTextFile(path, text, { mode: secret ? 0o600 : 0o644 });
}

/** The one layer of a machine is the directory of its image. */
function imageOf(host: LabHost): string {
  const [directory] = host.layers;
  if (directory === undefined) throw new Error(`Cannot find the image of ${host.name}; expected one layer`);
  return directory;
}

async function startMachine(state: LabState, host: LabHost): Promise<ProcessRecord> {
  await Deno.mkdir(host.cgroup, { recursive: true });
  await plugTap(state, host);
  const { directory } = host;
  const image = imageOf(host);
  const accel = await acceleration({ kernel: `${image}/vmlinuz`, initrd: `${image}/initrd` });
  const argv = inNamespace(state.namespace, [PROGRAM, ...qemuArguments(machineOf(host), accel)]);
  await Deno.writeTextFile(consoleOf(host), STARTED, { append: true });
  const process = await start(argv, { cgroup: host.cgroup, log: `${directory}/qemu.log` });
  await waitFor(`${PROGRAM} of ${host.name}`, () => answers(host, process), { intervalMs: 50 });
  return process;
}

/** Stands on the console before everything that a start brings. */
const STARTED = "---- switched on\n";

function consoleOf({ directory }: LabHost): string {
  return `${directory}/console.log`;
}

function hopeless(host: LabHost): string | undefined {
  if (host.process !== undefined && !isAlive(host.process)) return `${PROGRAM} has ended`;
  const said = Deno.readTextFileSync(consoleOf(host));
  return said.slice(said.lastIndexOf(STARTED)).includes("Kernel panic")
    ? "its kernel has given up"
    : undefined;
}

function machineOf(host: LabHost): Machine {
  const { name, directory } = host;
  const disks = [
    `file=${directory}/disk.qcow2,format=qcow2`,
    `file=${directory}/host.tar,format=raw,readonly=on`,
  ];
  const nic = { tap: tapName(host), mac: nicMac(host), slot: nicSlotOf(host) };
  const kernelArguments = host.kernelArguments ?? "";
  return { name, directory, image: imageOf(host), kernelArguments, disks, nic };
}

/** Puts the NIC of a machine that is switched off into another slot, or takes it out: the far end of its cable stays. */
export function setNicSlot(host: LabHost, slot: number | "none"): void {
  Deno.writeTextFileSync(`${host.directory}/nic-slot`, `${slot}`);
}

function nicSlotOf(host: LabHost): number | undefined {
  try {
    const text = Deno.readTextFileSync(`${host.directory}/nic-slot`);
    return text === "none" ? undefined : Number(text);
  } catch {
    return NIC_SLOT;
  }
}

async function answers(host: LabHost, process: ProcessRecord): Promise<boolean> {
  if (!isAlive(process)) {
    const said = (await Deno.readTextFile(`${host.directory}/qemu.log`)).trimEnd();
    throw new Error(`${PROGRAM} has ended: ${said}`);
  }
  return await orderMachine(host, "query-status").then(() => true);
}

/** The NIC's permanent address. */
export function nicMac(host: LabHost): string {
  const last = Number(host.address.split(".")[3]).toString(16).padStart(2, "0");
  return `52:54:00:33:64:${last}`;
}

function tapName(host: LabHost): string {
  return `t-${host.name.slice(0, 13)}`;
}

async function plugTap(state: LabState, host: LabHost): Promise<void> {
  await must(["ip", "-n", state.namespace, "tuntap", "add", tapName(host), "mode", "tap"]);
  await ipBatch(state.namespace, [`link set ${tapName(host)} mtu ${host.mtu ?? 1500} master ${BRIDGE} up`]);
}

/** Has the underlay carry larger or only smaller packets to and from the machine; what the guest does is its own. */
export async function setUnderlayMtu(state: LabState, host: LabHost, mtu: number): Promise<void> {
  host.mtu = mtu;
  saveState(state);
  await ipBatch(state.namespace, [`link set ${tapName(host)} mtu ${mtu}`]);
}

/** Gives the machine's QEMU an order. */
export function orderMachine(host: LabHost, command: string, args?: Readonly<Record<string, unknown>>) {
  return qmp(qmpSocket(host.directory), command, args);
}

/** Pulls the NIC out of the running machine, and waits until the guest has let go of it. */
export async function unplugNic(host: LabHost): Promise<void> {
  await orderMachine(host, "device_del", { id: NIC_DEVICE });
  await waitFor(`the NIC of ${host.name} to be out`, async () => {
    const devices = await orderMachine(host, "qom-list", { path: "/machine/peripheral" });
    return !(devices as { name: string }[]).some(({ name }) => name === NIC_DEVICE);
  });
}

/** Plugs the NIC in again, into this slot; another slot gives it another name. */
export async function plugNic(host: LabHost, slot = NIC_SLOT): Promise<void> {
  await orderMachine(host, "device_add", nicProperties(nicMac(host), slot));
}

async function exec(
  host: LabHost,
  argv: readonly string[],
  options: HostExecOptions,
): Promise<CommandResult> {
  requireRunning(host);
  const { namespace, cwd, env, stdin, inherit, timeoutMs } = options;
  const inDirectory = cwd === undefined ? argv : ["env", `--chdir=${cwd}`, ...argv];
  const full = namespace === undefined ? inDirectory : inNamespace(namespace, inDirectory);
  return await runOnMachine(host.directory, {
    argv: full,
    env: { ...MACHINE_ENVIRONMENT, TERM: Deno.env.get("TERM") ?? "dumb", ...env },
    stdin,
    inherit,
    timeoutMs,
  });
}

function requireRunning(host: LabHost): void {
  if (host.process !== undefined && isAlive(host.process)) return;
  throw new Error(`Cannot run a command on ${host.name}: it is switched off; expected a running host`);
}

/** Another kernel's network can only be entered with that machine's programs: they see the machine's files. */
function enterNetwork(host: LabHost, namespace: string | undefined, argv: readonly string[]): string[] {
  requireRunning(host);
  const full = namespace === undefined ? argv : inNamespace(namespace, argv);
  return agentArgv(host.directory, MACHINE_ENVIRONMENT, full);
}

async function cut(state: LabState, host: LabHost): Promise<void> {
  if (host.process !== undefined) killProcess(host.process);
  await endGroup(host.cgroup, host.name);
  await run(["ip", "-n", state.namespace, "link", "delete", tapName(host)]);
}

/** The guest's agent writes the kernel's boot id there at every start. */
function bootMark(host: LabHost): string | undefined {
  if (host.process === undefined || !isAlive(host.process)) return undefined;
  try {
    return Deno.readTextFileSync(`${host.directory}/boot.log`).trimEnd().split("\n").pop();
  } catch {
    return undefined;
  }
}
