/**
 * The lab: hosts on an underlay of their own with a world around it, on one machine, as root. Makes and removes namespaces, mounts,
 * processes and the lab's directory, all of which carry the lab's name.
 */
import { machineDriver } from "../vm/machine.ts";
import { containerDriver } from "./container.ts";
import type { HostDriver, HostExecOptions } from "./driver.ts";
import { requireRoot } from "./packages.ts";
import {
  type CommandResult,
  endGroup,
  groupMembers,
  killProcess,
  must,
  run,
  type RunOptions,
} from "./process.ts";
import {
  type HostKind,
  type HostOptions,
  type LabHost,
  type LabNode,
  LABS_DIRECTORY,
  type LabState,
  loadState,
  newState,
  saveState,
} from "./state.ts";
import {
  addNode,
  address6,
  DEPLOYER,
  FOREIGN,
  inNamespace,
  makeUnderlay,
  namespacesOf,
  NETWORK,
  removeNamespaces,
  ROUTER,
  ROUTER6,
  sshGreets,
  startWorld,
  WORLD,
} from "./underlay.ts";
import { waitFor } from "./wait.ts";

export type { CommandResult, RunOptions } from "./process.ts";
export type { HostKind, HostOptions, LabHost, LabNode } from "./state.ts";

/** A place where commands run. */
export interface Place {
  /** The command line that runs this machine's program there. */
  readonly enter: (argv: readonly string[]) => string[];
  /** Runs a command; its outcome is returned whatever it is. */
  readonly exec: (argv: readonly string[], options?: RunOptions) => Promise<CommandResult>;
}

/** A running lab. Hosts are named by host name or address. */
export interface Lab {
  readonly state: LabState;
  readonly directory: string;
  /** What `ssh -F` and `mobula --ssh-config` take. */
  readonly sshConfig: string;
  /** The Internet: router, DNS, web and package server, on the underlay itself. */
  readonly world: Place;
  /** The admin's laptop. */
  readonly deployer: Place;
  readonly host: (name: string) => LabHost;
  /** Adds a host and waits until its SSH server greets. */
  readonly addHost: (options: HostOptions) => Promise<LabHost>;
  /** Adds a namespace with an address on the underlay. */
  readonly addNode: (name: string, address: string) => Promise<LabNode & Place>;
  /** Runs a command on a host, entering it past its network. */
  readonly exec: (host: string, argv: readonly string[], options?: HostExecOptions) => Promise<CommandResult>;
  /** A host's network (or a named namespace of it), for programs of this machine such as tcpdump: they see this machine's files. */
  readonly network: (host: string, namespace?: string) => Place;
  /** Runs a shell command on a host from the deployer, through its SSH server. */
  readonly ssh: (host: string, command: string, options?: RunOptions) => Promise<CommandResult>;
  /** Reboots a host from within, and waits until its SSH server greets again. */
  readonly reboot: (host: string) => Promise<void>;
  /** Takes a host's power away. */
  readonly kill: (host: string) => Promise<void>;
  /** Switches a host on again, and waits until its SSH server greets. */
  readonly start: (host: string) => Promise<void>;
  /** Takes a host's power away for good and forgets it. */
  readonly removeHost: (host: string) => Promise<void>;
  /** Removes the lab and every trace of it. */
  readonly down: () => Promise<void>;
}

const DRIVERS: Readonly<Record<HostKind, HostDriver>> = {
  container: containerDriver,
  machine: machineDriver,
};

/** Makes the images of these hosts, or finds them in the cache: whoever measures a lab's start has them made before. */
export async function ensureImages(
  hosts: readonly HostOptions[],
  kind: HostKind = "container",
): Promise<void> {
  const ensure = ({ suite = DEFAULTS.suite, image = DEFAULTS.image, kind: own = kind }: HostOptions) =>
    driverOf({ kind: own }).ensureImage(suite, image);
  await allOrFirstError(hosts.map(ensure));
}

/** What a host is that does not say. */
const DEFAULTS = { suite: "trixie", image: "prepared" } as const;

/** Makes a lab with these hosts, all started at the same time; nothing is left when that fails. The kind is that of hosts that do not say. */
export async function up(
  name: string,
  hosts: readonly HostOptions[],
  kind: HostKind = "container",
): Promise<Lab> {
  requireRoot();
  const state = newState(name);
  if (loadState(name) !== undefined) {
    throw new Error(
      `Cannot make the lab "${name}": it exists; expected none, run "deno task lab down ${name}" first`,
    );
  }
  try {
    await raiseLimits();
    await prepareDirectory(state);
    await makeUnderlay(state);
    await addNode(state, "deployer", DEPLOYER);
    const lab = open(state);
    await allOrFirstError([startWorld(state), ...hosts.map((host) => lab.addHost({ kind, ...host }))]);
    saveState(state);
    return lab;
  } catch (error) {
    await down(name);
    throw error;
  }
}

/**
 * What this machine's kernel gives to all namespaces together, and how much of it a lab needs at least. Every container's systemd and
 * daemons watch files, all on the account of this machine's root, whose usual limit serves a dozen. Every gateway knows the addresses of
 * all others, and the kernel's usual 1024 neighbours are those of a dozen hosts: beyond, packets of any of them are lost.
 */
const LIMITS: readonly [path: string, least: number][] = [
  ["fs/inotify/max_user_instances", 1024],
  ["net/ipv4/neigh/default/gc_thresh3", 16384],
  ["net/ipv4/neigh/default/gc_thresh2", 8192],
  ["net/ipv4/neigh/default/gc_thresh1", 4096],
];

async function raiseLimits(): Promise<void> {
  for (const [path, least] of LIMITS) {
    const file = `/proc/sys/${path}`;
    const found = await Deno.readTextFile(file).catch(() => undefined);
    if (found !== undefined && Number(found) < least) await Deno.writeTextFile(file, `${least}\n`);
  }
}

/** Unlike `Promise.all` waits for all of them: what still goes on would otherwise add to the lab that is being removed. */
async function allOrFirstError(work: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((outcome) => outcome.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

/** Why a host did not come up, or does not answer any more, stands at the end of its console. */
export function consoleEnd({ directory }: Pick<LabHost, "directory">, lines = 30): string {
  try {
    return Deno.readTextFileSync(`${directory}/console.log`).trimEnd().split("\n").slice(-lines).join("\n");
  } catch {
    return "(nothing)";
  }
}

/** Prints the end of each virtual machine's console to standard error: a kernel that has given up has no journal. */
export function printConsoles(lab: Lab, lines = 15): void {
  for (const host of lab.state.hosts.filter(({ kind }) => kind === "machine")) {
    console.error(`---- console of ${host.name}\n${consoleEnd(host, lines)}`);
  }
}

/** Opens a lab that another process has made. */
export function openLab(name: string): Lab {
  const state = loadState(name);
  if (state === undefined) {
    throw new Error(
      `Cannot open the lab "${name}": there is none; expected one, run "deno task lab up ${name}" first`,
    );
  }
  return open(state);
}

/** Removes the lab of this name and every trace of it, also one that was left half-made or broken. */
export async function down(name: string): Promise<void> {
  requireRoot();
  const blank = newState(name);
  const state = readableState(name) ?? blank;
  for (const process of [...state.processes, ...state.hosts.flatMap((host) => host.process ?? [])]) {
    killProcess(process);
  }
  await endGroup(blank.cgroup, `lab ${name}`);
  await removeNamespaces(name);
  await must(["rm", "-rf", "--one-file-system", blank.directory]);
  for (const parent of [LABS_DIRECTORY, blank.cgroup.slice(0, blank.cgroup.lastIndexOf("/"))]) {
    removeIfEmpty(parent);
  }
}

/** What is left of a lab, as far as it can be found by its name: nothing after `down`. */
export function traces(name: string): string[] {
  const { directory, cgroup } = newState(name);
  const mounts = Deno.readTextFileSync("/proc/self/mounts").split("\n").filter((line) =>
    line.includes(`${directory}/`)
  );
  const directories = [directory, cgroup].filter(isDirectory);
  return [
    ...mounts,
    ...directories,
    ...namespacesOf(name),
    ...groupMembers(cgroup).map((pid) => `process ${pid}`),
  ];
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** A lab that was killed while it wrote its state must still be removable. */
function readableState(name: string): LabState | undefined {
  try {
    return loadState(name);
  } catch {
    return undefined;
  }
}

function removeIfEmpty(directory: string): void {
  try {
    Deno.removeSync(directory);
  } catch {
    // Another lab is using it, or it is not there.
  }
}

async function prepareDirectory(state: LabState): Promise<void> {
  await Deno.mkdir(state.directory, { recursive: true });
  await Deno.chmod(state.directory, 0o700);
  saveState(state);
  await Deno.mkdir(state.cgroup, { recursive: true });
  await generateKey(`${state.directory}/id_ed25519`, "lab");
  await Deno.writeTextFile(`${state.directory}/known_hosts`, "");
  writeSshConfig(state);
}

async function generateKey(path: string, comment: string): Promise<void> {
  await must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path]);
}

function writeSshConfig({ directory, hosts }: LabState): void {
  const aliases = hosts.map(({ name, address }) => `Host ${name}\n  HostName ${address}\n`).join("");
  const all = [
    "Host *",
    "User root",
    `IdentityFile ${directory}/id_ed25519`,
    "IdentitiesOnly yes",
    "IdentityAgent none",
    `UserKnownHostsFile ${directory}/known_hosts`,
    "GlobalKnownHostsFile /dev/null",
    "StrictHostKeyChecking yes",
    "ConnectTimeout 10",
  ];
  // In one go: several hosts are added at the same time, and the last one to write must know them all.
  Deno.writeTextFileSync(`${directory}/ssh_config`, `${aliases}${all.join("\n  ")}\n`);
}

function open(state: LabState): Lab {
  const host = (name: string) => findHost(state, name);
  const place = (namespace: string): Place => placeOf(state, (argv) => inNamespace(namespace, argv));
  const deployer = place(`${state.namespace}.deployer`);
  const sshConfig = `${state.directory}/ssh_config`;
  return {
    state,
    directory: state.directory,
    sshConfig,
    world: place(state.namespace),
    deployer,
    host,
    addHost: (options) => addHost(state, options),
    addNode: async (name, address) => {
      const node = await addNode(state, name, address);
      saveState(state);
      return { ...node, ...place(node.namespace) };
    },
    exec: (name, argv, options = {}) => driverOf(host(name)).exec(host(name), argv, options),
    network: (name, namespace) =>
      placeOf(state, (argv) => driverOf(host(name)).enterNetwork(host(name), namespace, argv)),
    ssh: (name, command, options) =>
      deployer.exec(["ssh", "-F", sshConfig, host(name).address, command], options),
    reboot: (name) => reboot(state, host(name)),
    kill: (name) => cut(state, host(name)),
    start: (name) => startHost(state, host(name)),
    removeHost: (name) => removeHost(state, host(name)),
    down: () => down(state.name),
  };
}

/** A place made of a command line; what is left running there ends with the lab. */
export function placeOf(state: LabState, enter: Place["enter"]): Place {
  return { enter, exec: (argv, options) => run(enter(argv), { ...options, cgroup: state.cgroup }) };
}

function findHost(state: LabState, name: string): LabHost {
  const host = state.hosts.find((one) => one.name === name || one.address === name);
  if (host !== undefined) return host;
  const known = state.hosts.map((one) => one.name).join(", ");
  throw new Error(`Cannot find the host "${name}" in the lab "${state.name}"; expected one of: ${known}`);
}

function driverOf({ kind }: Pick<LabHost, "kind">): HostDriver {
  return DRIVERS[kind];
}

async function addHost(state: LabState, options: HostOptions): Promise<LabHost> {
  const { name, address, suite = DEFAULTS.suite, image = DEFAULTS.image } = options;
  const kind = options.kind ?? state.hosts[0]?.kind ?? "container";
  const id = options.id ?? Number(address.split(".")[3]);
  const driver = driverOf({ kind });
  const { layers, repository } = await driver.ensureImage(suite, image);
  const directory = `${state.directory}/hosts/${name}`;
  const host: LabHost = {
    name,
    address,
    kind,
    suite,
    image,
    id,
    layers,
    directory,
    cgroup: `${state.cgroup}/${name}`,
    ...options.diskMiB === undefined ? {} : { diskMiB: options.diskMiB },
    ...(options.mtu === undefined ? {} : { mtu: options.mtu }),
    ...(options.kernelArguments === undefined ? {} : { kernelArguments: options.kernelArguments }),
  };
  await Deno.mkdir(`${state.directory}/www`, { recursive: true });
  await publish(repository, `${state.directory}/www/${suite}`, kind);
  await Deno.mkdir(directory, { recursive: true });
  await driver.create(host, { ...await hostFiles(state, host, options), ...options.files });
  state.hosts.push(host);
  state.hosts.sort((a, b) => a.id - b.id);
  await Deno.writeTextFile(`${state.directory}/known_hosts`, await knownHost(host), { append: true });
  writeSshConfig(state);
  await startHost(state, host);
  return host;
}

/** One repository for each suite: the containers' one, which holds more, because machines have more to begin with. */
async function publish(repository: string, path: string, kind: HostKind): Promise<void> {
  if (kind === "container") await Deno.remove(path).catch(() => {});
  await Deno.symlink(repository, path).catch((error) => {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  });
}

async function knownHost(host: LabHost): Promise<string> {
  const [type, key] = (await Deno.readTextFile(`${host.directory}/ssh_host_ed25519_key.pub`)).split(" ");
  return `${host.name},${host.address} ${type} ${key}\n`;
}

/** What makes a host of an image: name, identity, network, and the keys to get in. */
async function hostFiles(
  state: LabState,
  host: LabHost,
  { mtu }: HostOptions,
): Promise<Record<string, string>> {
  const key = `${host.directory}/ssh_host_ed25519_key`;
  await generateKey(key, host.name);
  return {
    "/etc/hostname": `${host.name}\n`,
    "/etc/hosts": `127.0.0.1 localhost\n127.0.1.1 ${host.name}\n::1 localhost ip6-localhost ip6-loopback\n`,
    "/etc/machine-id": `${crypto.randomUUID().replaceAll("-", "")}\n`,
    "/etc/systemd/network/10-host0.network": networkFile(host, mtu),
    "/etc/ssh/ssh_host_ed25519_key": await Deno.readTextFile(key),
    "/etc/ssh/ssh_host_ed25519_key.pub": await Deno.readTextFile(`${key}.pub`),
    "/root/.ssh/authorized_keys": await Deno.readTextFile(`${state.directory}/id_ed25519.pub`),
  };
}

/** systemd.network(5): both families, and what an admin with a second provider has. */
function networkFile({ address, kind }: LabHost, mtu: number | undefined): string {
  const { table, priority } = FOREIGN;
  return [
    `[Match]\nName=${driverOf({ kind }).nicPattern}\n`,
    ...mtu === undefined ? [] : [`[Link]\nMTUBytes=${mtu}\n`],
    `[Network]\nAddress=${address}/24\nAddress=${address6(address)}/64`,
    `Gateway=${ROUTER}\nGateway=${ROUTER6}\nDNS=${WORLD}\nIPv6AcceptRA=no\n`,
    `[Route]\nDestination=${NETWORK}\nScope=link\nTable=${table}\n`,
    `[Route]\nGateway=${ROUTER}\nTable=${table}\n`,
    `[RoutingPolicyRule]\nFrom=${address}\nTable=${table}\nPriority=${priority}\n`,
  ].join("\n");
}

async function startHost(state: LabState, host: LabHost): Promise<void> {
  host.process = await driverOf(host).start(state, host);
  saveState(state);
  await greeting(state, host);
}

async function greeting(state: LabState, host: LabHost): Promise<void> {
  const { bootDeadlineMs, hopeless } = driverOf(host);
  const greets = () => sshGreets(state, host.address);
  const options = { deadlineMs: bootDeadlineMs, intervalMs: 300 };
  const why = await waitFor(
    `the SSH server of ${host.name}`,
    async () => await greets() ? "it greets" : hopeless?.(host),
    options,
  ).catch((error: Error) => error.message);
  if (why === "it greets") return;
  throw new Error(
    `Cannot start ${host.name}: ${why}; expected its SSH server to greet. Its console ends with\n${
      consoleEnd(host)
    }`,
  );
}

async function reboot(state: LabState, host: LabHost): Promise<void> {
  const driver = driverOf(host);
  const before = driver.bootMark(host);
  // Whoever is going down may no longer answer; what counts is that it comes back.
  const answer = await driver.exec(host, ["systemctl", "reboot"], {}).then(
    ({ code, stderr }) => `${code}: ${stderr.trim()}`,
    (error: Error) => error.message,
  );
  const again = () => {
    const mark = driver.bootMark(host);
    return mark !== undefined && mark !== before;
  };
  await waitFor(`${host.name} to start again ("systemctl reboot" said ${answer})`, again, {
    deadlineMs: driver.bootDeadlineMs,
  });
  await greeting(state, host);
}

async function cut(state: LabState, host: LabHost): Promise<void> {
  await driverOf(host).cut(state, host);
  delete host.process;
  saveState(state);
}

async function removeHost(state: LabState, host: LabHost): Promise<void> {
  await cut(state, host);
  state.hosts.splice(state.hosts.indexOf(host), 1);
  await must(["rm", "-rf", "--one-file-system", host.directory]);
  writeSshConfig(state);
  saveState(state);
}

/** Makes a lab, hands it to the function, and removes it whatever happens, also on SIGINT and SIGTERM. */
export async function withLab<T>(
  name: string,
  hosts: readonly HostOptions[],
  use: (lab: Lab) => Promise<T>,
): Promise<T> {
  // Twice: what was under way during the first time may have added to the lab.
  const interrupted = () => void down(name).then(() => down(name)).finally(() => Deno.exit(130));
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, interrupted);
  try {
    const lab = await up(name, hosts);
    try {
      return await use(lab);
    } catch (error) {
      await printJournals(lab);
      throw error;
    } finally {
      await lab.down();
    }
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.removeSignalListener(signal, interrupted);
  }
}

/** Prints the end of each running host's journal, and of each virtual machine's console, to standard error. */
export async function printJournals(lab: Lab, lines = 40): Promise<void> {
  printConsoles(lab);
  for (const { name } of lab.state.hosts) {
    const journal = await lab.exec(name, ["journalctl", "--no-pager", "-n", String(lines)]).catch((
      error,
    ) => ({ stdout: `${error}` }));
    console.error(`---- journal of ${name}\n${journal.stdout}`);
  }
}
