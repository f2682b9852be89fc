/**
 * Disks for virtual machines: the lab's images with Debian's own kernel in them, as an ext4 file system made without mounting it.
 * Runs `mke2fs` (over an overlay in a mount namespace of its own) and `chroot`; writes below the lab's cache directory only.
 *
 * A cache entry beside those of the lab's images:
 *   disk-<bare|prepared>-<suite>-<hash>/{disk.img,vmlinuz,initrd,kernel}
 */
import {
  ensureEntry,
  ensureImage,
  hash,
  type Image,
  type ImageKind,
  type ImageVariant,
  type Suite,
} from "../lab/images.ts";
import { type CommandResult, must } from "../lab/process.ts";
import { waitFor } from "../lab/wait.ts";
import { acceleration } from "./acceleration.ts";
import { AGENT_PORTS, MACHINE_ENVIRONMENT, runOnMachine } from "./agent.ts";
import { PROGRAM, qemuArguments, requireQemu } from "./qemu.ts";

/** Counted up when disks must be made anew although nothing below has changed. */
const RECIPE = 1;

/** Small, so that it is read and unpacked soon: the disk, its file system, and what they need. */
const INITRD_MODULES = ["virtio_pci", "virtio_blk", "ext4"];

/**
 * Unpacks the second disk, an archive with what makes this host, into the root; only once, because the host may change those files.
 * Runs in the initrd, so that systemd finds host name, machine id and network as if they had always been there.
 */
const PERSONALITY_SCRIPT = `#!/bin/sh
[ "$1" = prereqs ] && exit 0
[ -e "$rootmnt/etc/lab-host" ] && exit 0
chroot "$rootmnt" /bin/tar -xpf - </dev/vdb
: >"$rootmnt/etc/lab-host"
`;

const INITRD_HOOK = `#!/bin/sh
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules ${INITRD_MODULES.join(" ")}
`;

const AGENT_UNIT = `[Unit]
Description=Commands from the machine below
DefaultDependencies=no
After=systemd-udevd.service
Conflicts=shutdown.target
Before=shutdown.target

[Service]
ExecStart=/usr/bin/perl /usr/local/lib/lab-agent.pl ${AGENT_PORTS}
Restart=always
OOMScoreAdjust=-900
TasksMax=infinity

[Install]
WantedBy=sysinit.target
`;

/** Its security archive announces a kernel that it no longer holds. */
const BULLSEYE_SOURCES = ["deb http://deb.debian.org/debian bullseye main"];

async function variant(suite: Suite): Promise<ImageVariant> {
  return {
    ...(suite === "bullseye" ? { sources: BULLSEYE_SOURCES } : {}),
    name: "vm",
    packages: [
      ...["linux-image-cloud-amd64", "initramfs-tools", "apparmor", "apparmor-profiles", "kmod"],
      // What the guests behind a host run, and what the tests send streams with.
      ...["busybox", "fping", "keepalived", "socat"],
      // Providers' images have it for cloud-init. An emulated machine would compile it for minutes.
      "python3",
    ],
    files: [
      { path: "etc/initramfs-tools/conf.d/lab", text: "MODULES=list\n" },
      { path: "etc/initramfs-tools/hooks/lab", text: INITRD_HOOK, executable: true },
      { path: "etc/initramfs-tools/scripts/init-bottom/lab", text: PERSONALITY_SCRIPT, executable: true },
      { path: "etc/modules-load.d/lab.conf", text: "virtio_console\n" },
      { path: "etc/systemd/system/lab-agent.service", text: AGENT_UNIT },
      {
        path: "usr/local/lib/lab-agent.pl",
        text: await Deno.readTextFile(new URL("agent.pl", import.meta.url)),
      },
    ],
    masked: [
      ...["systemd-pstore.service", "systemd-update-utmp.service", "serial-getty@.service"],
      // It would have every boot wait until the network is online.
      "keepalived.service",
    ],
    enabled: ["lab-agent.service"],
  };
}

/** Room for what a host installs and keeps, beside what the image holds. */
const DISK_SIZE = "3G";

/** Lays the image's layers over each other, and makes a file system of what is seen then. */
const DISK_SCRIPT = `
layers=$1 root=$2 disk=$3
mkdir "$root"
case $layers in
  *:*) mount -t overlay overlay -o "lowerdir=$layers" "$root" ;;
  *) mount --bind "$layers" "$root" ;;
esac
cp "$root"/boot/vmlinuz-* "\${disk%/*}/vmlinuz"
cp "$root"/boot/initrd.img-* "\${disk%/*}/initrd"
basename "$root"/boot/vmlinuz-* | sed s/vmlinuz-// >"\${disk%/*}/kernel"
truncate -s ${DISK_SIZE} "$disk"
mke2fs -q -F -t ext4 -m 0 -E lazy_itable_init=1,nodiscard -O ^metadata_csum -d "$root" "$disk"
umount "$root"
rmdir "$root"
`;

/** Asked early, systemd cannot be asked yet. */
const BOOTED_SCRIPT = `
until state=$(systemctl is-system-running --wait) || [ "$state" = degraded ]; do sleep 1; done
`;

/** Whatever tells one host from another, or one boot from the next. */
const TIDY_SCRIPT = `
rm -f /etc/lab-host /etc/machine-id /var/lib/systemd/random-seed /var/lib/dbus/machine-id
rm -rf /var/log/journal/* /var/lib/systemd/timers
sync
`;

const FIRST_BOOT_DEADLINE_MS = 500_000;

/** Boots the new disk once: what Debian makes at a first boot (compiled AppArmor profiles above all) is then there for every host. */
async function bootOnce(directory: string): Promise<void> {
  const image = { kernel: `${directory}/vmlinuz`, initrd: `${directory}/initrd` };
  const disks = [`file=${directory}/disk.img,format=raw,cache=unsafe`];
  const argv = qemuArguments(
    { name: "image", directory, image: directory, disks },
    await acceleration(image),
  );
  const machine = new Deno.Command("setpriv", {
    args: ["--pdeathsig", "KILL", PROGRAM, ...argv],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  let ended = false;
  machine.status.then(() => ended = true);
  const options = { deadlineMs: FIRST_BOOT_DEADLINE_MS };
  try {
    await waitFor("QEMU", () => ended || Deno.statSync(`${directory}/agent.0.sock`), options);
    await onImage(directory, BOOTED_SCRIPT);
    await onImage(directory, TIDY_SCRIPT);
    await onImage(directory, "systemctl poweroff");
    await waitFor("the image to be off", () => ended, options);
  } catch (error) {
    console.error(await Deno.readTextFile(`${directory}/console.log`).catch(() => "(no console)"));
    throw error;
  } finally {
    if (!ended) machine.kill("SIGKILL");
    await machine.status;
  }
  for (const { name } of Deno.readDirSync(directory)) {
    if (/\.(sock|log|lock)$/.test(name)) await Deno.remove(`${directory}/${name}`);
  }
}

function onImage(directory: string, script: string): Promise<CommandResult> {
  const argv = ["sh", "-c", script];
  return runOnMachine(directory, { argv, env: MACHINE_ENVIRONMENT, timeoutMs: FIRST_BOOT_DEADLINE_MS });
}

/** Makes the disk of this image, or finds it in the cache; its one layer is the directory of the disk. */
export async function ensureDisk(suite: Suite, kind: ImageKind): Promise<Image> {
  await requireQemu();
  const image = await ensureImage(suite, kind, await variant(suite));
  const key = await hash(JSON.stringify([RECIPE, image.layers, DISK_SCRIPT, TIDY_SCRIPT]));
  const path = await ensureEntry(`disk-${kind}-${suite}-${key}`, async (directory) => {
    const script = ["sh", "-eu", "-c", DISK_SCRIPT, "sh", image.layers.join(":")];
    const places = [`${directory}/root`, `${directory}/disk.img`];
    await must(["unshare", "--mount", "--propagation", "private", ...script, ...places]);
    await bootOnce(directory);
  });
  return { ...image, layers: [path] };
}
