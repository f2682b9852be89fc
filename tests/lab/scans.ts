/**
 * What the fleet shows to a stranger: scans from a node of its own on the underlay, which take a while and so begin all at once.
 */
import { hostAddresses } from "../../lib/address.ts";
import { scanPorts, type ScanResult } from "./client.ts";
import { type Lab, type Place, placeOf } from "./lab.ts";
import { resolveAt } from "./probes.ts";
import { must } from "./process.ts";

/** What the scans find; each is under way. */
export interface Scans {
  /** All TCP ports of one host. */
  readonly everyPort: Promise<ScanResult>;
  /** The usual ports of each host, by host name. */
  readonly usualPorts: Promise<Record<string, ScanResult>>;
  /** Inner addresses of a host, asked for by way of its external one. */
  readonly innerPorts: Promise<Record<string, ScanResult>>;
  /** What name servers answer a stranger: external addresses of all hosts, inner address of one; empty for nothing. */
  readonly names: Promise<Record<string, string>>;
}

/** Ports that scanners and amplifiers try first, those of tunnels, ours among them, and WireGuard's. */
const USUAL_UDP = "53,67,69,111,123,137,161,500,514,1194,1701,1900,4500,4789,5353,6081,6254,11211,51820";

const STRANGER = { name: "stranger", address: "198.51.100.200" };

/** Starts all scans; the first host named is the one that is looked at closely. */
export async function startScans(lab: Lab, close: string): Promise<Scans> {
  const stranger = await strangerIn(lab);
  const { address, id } = lab.host(close);
  const { gateway, access, intrawire } = hostAddresses(id);
  for (const net of ["10.30.0.0/16", "10.31.0.0/16"]) {
    await must(stranger.enter(["ip", "route", "replace", net, "via", address]));
  }
  const addresses = lab.state.hosts.map((host) => [host.name, host.address] as const);
  const inner = [gateway, access, intrawire, hostAddresses(id + 1).gateway].map((one) => [one, one] as const);
  return {
    everyPort: begin(scanPorts(stranger, address, { tcp: "1-65535" })),
    usualPorts: begin(
      forEach(addresses, (one) => scanPorts(stranger, one, { tcp: "1-1024", udp: USUAL_UDP })),
    ),
    innerPorts: begin(
      forEach(inner, (one) => scanPorts(stranger, one, { tcp: "22,53,80,6640,6653", udp: "53,6254" })),
    ),
    names: begin(forEach([...addresses, [gateway, gateway]], (one) => oneName(stranger, one, close))),
  };
}

/** The stranger's namespace, made when first asked for. */
export async function strangerIn(lab: Lab): Promise<Place> {
  const known = lab.state.nodes.find(({ name }) => name === STRANGER.name);
  const { namespace } = known ?? await lab.addNode(STRANGER.name, STRANGER.address);
  return placeOf(lab.state, (argv) => ["nsenter", `--net=/run/netns/${namespace}`, "--", ...argv]);
}

/** Nobody may be waiting yet when it fails; whoever asks later still hears of it. */
function begin<T>(work: Promise<T>): Promise<T> {
  work.catch(() => {});
  return work;
}

async function forEach<T>(
  entries: readonly (readonly [string, string])[],
  ask: (address: string) => Promise<T>,
): Promise<Record<string, T>> {
  return Object.fromEntries(
    await Promise.all(entries.map(async ([name, address]) => [name, await ask(address)] as const)),
  );
}

async function oneName(stranger: Place, server: string, name: string): Promise<string> {
  return (await resolveAt(stranger, server, [name]))[name] ?? "";
}
