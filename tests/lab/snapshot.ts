/**
 * What runs on a host, in a form that can be compared before and after a push. Asks the host, changes nothing.
 */
import type { Lab } from "./lab.ts";

/** Units of ours that run as long as the host does. */
export const DAEMONS = ["ovsdb", "vswitchd", "dnsmasq", "wireguard"] as const;

/** One of the daemons. */
export type Daemon = typeof DAEMONS[number];

/** A WireGuard peer as `wg show … dump` tells it. */
export interface LivePeer {
  readonly endpoint: string;
  readonly allowedIps: string;
  /** Seconds since 1970; 0 for never. */
  readonly latestHandshake: number;
}

/** The state of a host. */
export interface Snapshot {
  readonly publicKey: string;
  /** By public key. */
  readonly peers: ReadonlyMap<string, LivePeer>;
  /** Identity of each port of the switch, by name. */
  readonly switchPorts: ReadonlyMap<string, string>;
  readonly mainPids: Readonly<Record<Daemon, number>>;
  /** The firewall with its handles, which change whenever it is loaded. */
  readonly firewall: string;
  /** Names and indexes of the gateway's links: an index changes when a link is moved or made anew. */
  readonly links: string;
}

/** Takes the snapshot. */
export async function snapshot(lab: Lab, host: string): Promise<Snapshot> {
  const gateway = (...argv: string[]) => ask(lab, host, argv, "mobula");
  const [wireguard, ports, pids, firewall, links] = await Promise.all([
    gateway("wg", "show", "mo-wg-gw", "dump"),
    ask(lab, host, [...VSCTL, "--format=csv", "--no-headings", "--columns=name,_uuid", "list", "Port"]),
    mainPids(lab, host),
    gateway("nft", "-a", "list", "ruleset"),
    gateway("ip", "-o", "link", "show"),
  ]);
  const [own = "", ...peers] = wireguard.trimEnd().split("\n");
  return {
    publicKey: own.split("\t")[1] ?? "",
    peers: new Map(peers.map(parsePeer)),
    switchPorts: new Map(ports.trimEnd().split("\n").map((line) => line.split(",") as [string, string])),
    mainPids: pids,
    firewall,
    links: links.split("\n").map((line) => line.split(": ").slice(0, 2).join(" ")).join("\n"),
  };
}

const VSCTL = ["ovs-vsctl", "--db=unix:/run/mobula/ovs/db.sock", "--timeout=5"];

function parsePeer(line: string): [string, LivePeer] {
  const [key = "", , endpoint = "", allowedIps = "", handshake = "0"] = line.split("\t");
  return [key, { endpoint, allowedIps, latestHandshake: Number(handshake) }];
}

/** The main process of each daemon. */
export async function mainPids(lab: Lab, host: string): Promise<Record<Daemon, number>> {
  const units = DAEMONS.map((name) => `mobula-${name}.service`);
  const said = await ask(lab, host, ["systemctl", "show", "--property=MainPID", "--value", ...units]);
  const pids = said.split("\n").filter((line) => line !== "").map(Number);
  return Object.fromEntries(DAEMONS.map((name, index) => [name, pids[index] ?? 0])) as Record<Daemon, number>;
}

/** Runs a command on a host that must succeed; gives what it said. */
export async function ask(
  lab: Lab,
  host: string,
  argv: readonly string[],
  namespace?: string,
): Promise<string> {
  const { code, stdout, stderr } = await lab.exec(host, argv, { namespace });
  if (code === 0) return stdout;
  throw new Error(`Cannot ask ${host}: "${argv.join(" ")}" ended with ${code}; expected 0\n  ${stderr}`);
}
