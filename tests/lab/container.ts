/**
 * Lab hosts as systemd containers. Makes directories, mounts (in a mount namespace of their own) and processes.
 */
import {
  type CommandResult,
  containerInit,
  endGroup,
  killProcess,
  must,
  type ProcessRecord,
  run,
  start,
} from "./process.ts";
import type { HostDriver, HostExecOptions } from "./driver.ts";
import { ensureImage } from "./images.ts";
import type { LabHost, LabState } from "./state.ts";
import { BRIDGE, inNamespace } from "./underlay.ts";
import { waitFor } from "./wait.ts";

/**
 * Mounts the host's root and runs the container in it, again after each reboot: with `--keep-unit` systemd-nspawn leaves that to its
 * caller and ends with 133. The mounts, and what systemd-nspawn keeps in `/run`, live in this process's own mount namespace; so does
 * the disk of a host that has one of its own, and goes with it.
 */
const SUPERVISOR = `
root=$1 lower=$2 upper=$3 work=$4; shift 4
mount -t tmpfs -o mode=755 tmpfs /run
disk=\${upper%/*}
[ ! -e "$disk.img" ] || mount -o loop "$disk.img" "$disk"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$work" "$root"
while :; do
  "$@" && exit 0
  code=$?
  [ "$code" = 133 ] || exit "$code"
done
`;

/** The driver for systemd containers. */
export const containerDriver: HostDriver = {
  ensureImage,
  nicPattern: "host0",
  bootDeadlineMs: 300_000,
  create,
  start: startContainer,
  exec,
  enterNetwork,
  cut,
  bootMark,
};

async function create(host: LabHost, files: Readonly<Record<string, string>>): Promise<void> {
  const layers = layersDirectory(host);
  for (const path of [`${host.directory}/root`, `${layers}/work`, `${layers}/upper`]) {
    await Deno.mkdir(path, { recursive: true });
  }
  for (const [path, text] of Object.entries(files)) await writeHostFile(host, path, text);
  if (host.diskMiB === undefined) return;
  const image = `${layers}.img`;
  await must(["truncate", "-s", `${host.diskMiB}M`, image]);
  await must(["mkfs.ext4", "-q", "-F", "-m", "0", "-d", layers, image]);
}

/** Holds the host's own layer, and what the overlay needs beside it. */
function layersDirectory({ directory, diskMiB }: LabHost): string {
  return diskMiB === undefined ? directory : `${directory}/disk`;
}

/** Writes a file into the layer of a host that is switched off. Private keys and `/root` are for root only. */
async function writeHostFile(host: LabHost, path: string, text: string): Promise<void> {
  const upper = `${layersDirectory(host)}/upper`;
  const full = `${upper}${path}`;
  const parent = full.slice(0, full.lastIndexOf("/"));
  await Deno.mkdir(parent, { recursive: true, mode: 0o755 });
  if (path.startsWith("/root/")) await Deno.chmod(`${upper}/root`, 0o700);
  await Deno.writeTextFile(full, text, {
    mode: /_key$/.test(path) || path.startsWith("/root/") ? 0o600 : 0o644,
  });
}

async function startContainer(state: LabState, host: LabHost): Promise<ProcessRecord> {
  await Deno.mkdir(host.cgroup, { recursive: true });
  const { directory } = host;
  const layers = layersDirectory(host);
  const mounts = [`${directory}/root`, host.layers.join(":"), `${layers}/upper`, `${layers}/work`];
  const supervisor = [
    "unshare",
    "--mount",
    "--propagation",
    "slave",
    "sh",
    "-eu",
    "-c",
    SUPERVISOR,
    "sh",
    ...mounts,
  ];
  return await start(inNamespace(state.namespace, [...supervisor, ...nspawn(host)]), {
    cgroup: host.cgroup,
    log: `${directory}/console.log`,
    env: { SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: "1", SYSTEMD_NSPAWN_LOCK: "0", TERM: "dumb" },
  });
}

function nspawn(host: LabHost): string[] {
  return [
    "systemd-nspawn",
    "--quiet",
    "--boot",
    "--register=no",
    "--keep-unit",
    `--directory=${host.directory}/root`,
    `--machine=${host.name}`,
    `--network-bridge=${BRIDGE}`,
    "--bind=/dev/net/tun",
    "--capability=all",
    "--resolv-conf=off",
    "--timezone=off",
    "--link-journal=no",
  ];
}

/**
 * Waits for the command in nsenter's place, which stops with a command that is stopped: systemd stops all of them when it shuts down, and
 * the container would wait for ever for the one whose end nobody takes note of. The command runs in a subshell, for only a child is in the
 * host's PID namespace: a `kill` that is built into this shell would hit the processes of the machine.
 */
const WAITING_SHELL = ["sh", "-c", '("$@"); exit "$?"', "sh"];

async function exec(
  host: LabHost,
  argv: readonly string[],
  options: HostExecOptions,
): Promise<CommandResult> {
  const init = runningInit(host);
  const enter = [
    "nsenter",
    "--target",
    String(init),
    "--mount",
    "--uts",
    "--ipc",
    "--net",
    "--pid",
    "--cgroup",
    "--no-fork",
    "--",
    ...WAITING_SHELL,
  ];
  const namespace = options.namespace === undefined ? [] : inNamespace(options.namespace, []);
  // The group of commands that were brought in from outside: systemd inside never sees or cleans it.
  const cgroup = `${host.cgroup}/exec`;
  await Deno.mkdir(cgroup, { recursive: true });
  const env = {
    PATH: HOST_PATH,
    HOME: "/root",
    USER: "root",
    LANG: "C.UTF-8",
    TERM: Deno.env.get("TERM") ?? "dumb",
  };
  return await run([...enter, ...namespace, ...argv], {
    ...options,
    env: { ...env, ...options.env },
    cgroup,
  });
}

function runningInit(host: LabHost): number {
  const init = containerInit(host.cgroup);
  if (init !== undefined) return init;
  throw new Error(`Cannot run a command on ${host.name}: it is switched off; expected a running host`);
}

function enterNetwork(host: LabHost, namespace: string | undefined, argv: readonly string[]): string[] {
  const init = `/proc/${runningInit(host)}`;
  const file = namespace === undefined ? `${init}/ns/net` : `${init}/root/run/netns/${namespace}`;
  return ["nsenter", `--net=${file}`, "--", ...argv];
}

const HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

async function cut(state: LabState, host: LabHost): Promise<void> {
  if (host.process !== undefined) killProcess(host.process);
  await endGroup(host.cgroup, host.name);
  await waitFor(`the cable of ${host.name} to be gone`, () => unplugged(state, host), { intervalMs: 20 });
}

/** The end of the cable in the underlay goes with the container's network namespace, but a little later. */
async function unplugged(state: LabState, host: LabHost): Promise<boolean> {
  const { code } = await run(["ip", "-n", state.namespace, "link", "show", `vb-${host.name}`]);
  return code !== 0;
}

function bootMark(host: LabHost): string | undefined {
  const init = containerInit(host.cgroup);
  return init === undefined ? undefined : String(init);
}
