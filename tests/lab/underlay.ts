/**
 * The lab's Internet: a namespace with a bridge that hosts and nodes hang on, and the world on it (router, DNS server, web server,
 * package repository). The namespace has no way out, so no packet can leave it. Makes namespaces and links, starts processes.
 */
import { type CommandResult, must, run, type RunOptions, start } from "./process.ts";
import type { LabNode, LabState } from "./state.ts";
import { waitFor } from "./wait.ts";

/** The bridge that every external interface of the lab hangs on. */
export const BRIDGE = "underlay";
/**
 * Its MAC, which is that of the world's servers and the router. A bridge without one takes the lowest of its ports', so it would change
 * when a host comes or goes, and whoever knew the old one would reach nobody for the ten seconds that it takes to ask again.
 */
export const BRIDGE_MAC = "02:00:5e:00:00:fe";
/** Of all hosts and nodes. */
export const NETWORK = "198.51.100.0/24";
export const ROUTER = "198.51.100.254";
/** The router's other address. */
export const ROUTER6 = "2001:db8::254";
/** DNS server and package repository. */
export const WORLD = "198.51.100.253";
/** The admin's laptop. */
export const DEPLOYER = "198.51.100.250";
/** A web server beyond the router: `http://www.world.example/` answers with the client's address. */
export const WEB_SERVER = "203.0.113.80";
export const WEB_NAME = "www.world.example";

/** The IPv6 address of a host; that of IPv4 says which. */
export function address6(address: string): string {
  return `2001:db8::${address.split(".")[3]}`;
}

/** The table in which every host has routes of its own for what it sends from its external address, and the rule's priority. */
export const FOREIGN = { table: 100, priority: 20_000 } as const;

/** The command line that runs a command in a network namespace; the control groups stay visible, unlike with `ip netns exec`. */
export function inNamespace(namespace: string, argv: readonly string[]): string[] {
  return ["nsenter", `--net=/run/netns/${namespace}`, "--", ...argv];
}

/** Runs a command in one of the lab's namespaces; what it leaves running ends with the lab. */
export function execInNamespace(
  state: LabState,
  namespace: string,
  argv: readonly string[],
  options: RunOptions = {},
): Promise<CommandResult> {
  return run(inNamespace(namespace, argv), { ...options, cgroup: state.cgroup });
}

/** Makes the namespace with its bridge and addresses. */
export async function makeUnderlay(state: LabState): Promise<void> {
  await must(["ip", "netns", "add", state.namespace]);
  await ipBatch(state.namespace, [
    "link set lo up",
    `address add ${WEB_SERVER}/32 dev lo`,
    `link add ${BRIDGE} address ${BRIDGE_MAC} type bridge forward_delay 0 mcast_snooping 0`,
    `address add ${WORLD}/24 dev ${BRIDGE}`,
    `address add ${ROUTER}/24 dev ${BRIDGE}`,
    `address add ${ROUTER6}/64 dev ${BRIDGE} nodad`,
    `link set ${BRIDGE} up`,
  ]);
  // With Docker on the machine its filter rules would otherwise see the frames on this bridge.
  const unfilter = "for f in iptables ip6tables arptables; do p=/proc/sys/net/bridge/bridge-nf-call-$f; " +
    "if [ -e $p ]; then echo 0 >$p; fi; done";
  await must(inNamespace(state.namespace, ["sh", "-c", unfilter]));
}

/** Runs several `ip` commands in a namespace. */
export async function ipBatch(namespace: string, lines: readonly string[]): Promise<void> {
  await must(["ip", "-n", namespace, "-batch", "-"], { stdin: lines.join("\n") + "\n" });
}

/** Starts the world's servers and waits until they answer. */
export async function startWorld(state: LabState): Promise<void> {
  await Deno.mkdir(`${state.directory}/www`, { recursive: true });
  const options = { cgroup: state.cgroup, log: `${state.directory}/world.log` };
  const servers = [dnsServer(state), webServer(state)];
  for (const argv of servers) state.processes.push(await start(inNamespace(state.namespace, argv), options));
  await waitFor("the world's DNS server", () => accepts(state, WORLD, 53));
  await waitFor("the world's web server", () => accepts(state, WEB_SERVER, 80));
}

function dnsServer(state: LabState): string[] {
  return [
    "dnsmasq",
    "--keep-in-foreground",
    "--conf-file=/dev/null",
    "--no-resolv",
    "--no-hosts",
    "--user=root",
    `--pid-file=${state.directory}/dnsmasq.pid`,
    "--bind-interfaces",
    `--listen-address=${WORLD}`,
    `--address=/${WEB_NAME}/${WEB_SERVER}`,
    `--host-record=packages.world.example,${WORLD}`,
    `--host-record=router.world.example,${ROUTER}`,
    "--local=/example/",
    "--log-queries",
    "--log-facility=-",
  ];
}

function webServer(state: LabState): string[] {
  const script = new URL("world_server.ts", import.meta.url).pathname;
  const www = `${state.directory}/www`;
  return [Deno.execPath(), "run", "--no-config", "--no-prompt", "--allow-net", "--allow-read", script, www];
}

/** Whether a TCP port answers, seen from the underlay. */
export async function accepts(state: LabState, address: string, port: number): Promise<boolean> {
  const probe = ["timeout", "2", "bash", "-c", `exec 3<>/dev/tcp/${address}/${port}`];
  return (await execInNamespace(state, state.namespace, probe)).code === 0;
}

/** Whether an SSH server greets, seen from the underlay. */
export async function sshGreets(state: LabState, address: string): Promise<boolean> {
  const probe = [
    "timeout",
    "2",
    "bash",
    "-c",
    `exec 3<>/dev/tcp/${address}/22 && read -r -u 3 line && [[ $line == SSH-* ]]`,
  ];
  return (await execInNamespace(state, state.namespace, probe)).code === 0;
}

/** Adds a namespace that hangs on the underlay's bridge with an address of its own, and the router as its default route. */
export async function addNode(state: LabState, name: string, address: string): Promise<LabNode> {
  const namespace = `${state.namespace}.${name}`;
  const node = { name, namespace, address };
  await must(["ip", "netns", "add", namespace]);
  await ipBatch(state.namespace, [
    `link add n-${name.slice(0, 13)} type veth peer name eth0 netns ${namespace}`,
    `link set n-${name.slice(0, 13)} master ${BRIDGE} up`,
  ]);
  await ipBatch(namespace, [
    "link set lo up",
    "link set eth0 up",
    `address add ${address}/24 dev eth0`,
    `route add default via ${ROUTER}`,
  ]);
  state.nodes.push(node);
  return node;
}

/** Removes the lab's namespaces, whatever state they are in; their links go with them. */
export async function removeNamespaces(name: string): Promise<void> {
  for (const namespace of namespacesOf(name)) await must(["ip", "netns", "delete", namespace]);
}

/** Names of the namespaces that belong to a lab. */
export function namespacesOf(name: string): string[] {
  try {
    return [...Deno.readDirSync("/run/netns")].map((entry) => entry.name)
      .filter((namespace) => namespace === `mobula-${name}` || namespace.startsWith(`mobula-${name}.`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
