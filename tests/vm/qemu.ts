/**
 * The command line of QEMU for a lab's machine. Pure, but for asking whether QEMU is there.
 */
import { run } from "../lab/process.ts";
import type { Acceleration } from "./acceleration.ts";
import { AGENT_PORTS } from "./agent.ts";

export const PROGRAM = "qemu-system-x86_64";

/** What a virtual machine needs on this machine beside the lab's own packages. */
export const VM_PACKAGES: readonly string[] = ["qemu-system-x86", "qemu-utils"];

const MEMORY_MB = 768;

/**
 * The emulated processor. Its AVX is slower than what programs use without: ChaCha20 of OpenSSL 11 MB/s and not 42, SHA-256 15 and not
 * 33 (QEMU 7.2).
 */
const EMULATED = "max,-avx,-avx2";

/** Names of the NIC and of its far end, for `device_del` and `device_add`. */
export const NIC_DEVICE = "nic";
export const NIC_NETDEV = "net";

/** Slot of the NIC on the first bus: the guest calls it `ens3`. */
export const NIC_SLOT = 3;
/** Slots of the other devices: where they are not told, they take the NIC's while it is out. */
const SLOTS = { disk: 16, random: 24, serial: 25 } as const;

/** A machine as QEMU is told of it. */
export interface Machine {
  readonly name: string;
  /** Holds its sockets and logs. */
  readonly directory: string;
  /** Holds `vmlinuz` and `initrd`. */
  readonly image: string;
  /** Further words for its kernel. */
  readonly kernelArguments?: string;
  /** QEMU's options of its disks, the root first. */
  readonly disks: readonly string[];
  /** Without one it has no network. */
  readonly nic?: {
    readonly tap: string;
    readonly mac: string;
    /** Without one the cable is there and the card is not. */
    readonly slot?: number;
  };
}

/** Says which package brings what is missing. */
export async function requireQemu(): Promise<void> {
  for (const [program, name] of [[PROGRAM, "qemu-system-x86"], ["qemu-img", "qemu-utils"]]) {
    if ((await run(["sh", "-c", 'command -v "$1"', "sh", program ?? ""])).code === 0) continue;
    throw new Error(
      `Cannot make virtual machines: no ${program}; expected the package ${name}, install it with "apt-get install ${name}"`,
    );
  }
}

/** Emulated machines gain most by the first; the others keep the boot short, and its console to what goes wrong. */
const KERNEL_ARGUMENTS = "mitigations=off root=/dev/vda rw console=ttyS0 quiet systemd.show_status=auto";

/** The arguments of QEMU. */
export function qemuArguments(
  { name, directory, image, kernelArguments = "", disks, nic }: Machine,
  accel: Acceleration,
): string[] {
  return [
    ...["-name", name, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc"],
    ...["-accel", accel === "kvm" ? "kvm" : "tcg,thread=multi,tb-size=256"],
    ...["-cpu", accel === "kvm" ? "host" : EMULATED, "-smp", "1", "-m", String(MEMORY_MB)],
    ...["-kernel", `${image}/vmlinuz`, "-initrd", `${image}/initrd`, "-append"],
    `${KERNEL_ARGUMENTS} ${kernelArguments}`.trimEnd(),
    ...(nic === undefined ? [] : nicArguments(nic)),
    ...disks.flatMap((options, index) => [
      ...["-drive", `id=disk${index},if=none,${options}`],
      ...["-device", `virtio-blk-pci,drive=disk${index},addr=${slotAddress(SLOTS.disk + index)}`],
    ]),
    ...["-device", `virtio-rng-pci,addr=${slotAddress(SLOTS.random)}`],
    ...["-device", `virtio-serial-pci,max_ports=${AGENT_PORTS + 2},addr=${slotAddress(SLOTS.serial)}`],
    ...serialPort("boot", "file", `path=${directory}/boot.log,append=on`),
    ...Array.from(
      { length: AGENT_PORTS },
      (_, port) => serialPort(`${port}`, "socket", `path=${directory}/agent.${port}.sock,server=on,wait=off`),
    ).flat(),
    ...["-chardev", `file,id=console,path=${directory}/console.log,append=on`, "-serial", "chardev:console"],
    ...["-qmp", `unix:${qmpSocket(directory)},server=on,wait=off`],
  ];
}

function nicArguments({ tap, mac, slot }: NonNullable<Machine["nic"]>): string[] {
  const cable = ["-netdev", `tap,id=${NIC_NETDEV},ifname=${tap},script=no,downscript=no`];
  if (slot === undefined) return cable;
  const properties = Object.entries(nicProperties(mac, slot)).map(([key, value]) => `${key}=${value}`);
  return [...cable, "-device", properties.join(",").replace("driver=", "")];
}

/** The NIC as `device_add` takes it. */
export function nicProperties(mac: string, slot: number): Record<string, string> {
  const addr = slotAddress(slot);
  return { driver: "virtio-net-pci", id: NIC_DEVICE, netdev: NIC_NETDEV, mac, romfile: "", addr };
}

function slotAddress(slot: number): string {
  return `0x${slot.toString(16)}`;
}

function serialPort(name: string, kind: string, options: string): string[] {
  return [
    ...["-chardev", `${kind},id=port-${name},${options}`],
    ...["-device", `virtserialport,chardev=port-${name},name=lab.${name}`],
  ];
}

/** Where the machine takes orders. */
export function qmpSocket(directory: string): string {
  return `${directory}/qmp.sock`;
}
