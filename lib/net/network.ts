/**
 * The network of one host as data: the same shape for what is wanted and for what is seen. Types, names, and who is whose peer.
 */
import { oncePer } from "../remember.ts";
import type { Namespace } from "../step.ts";

/** The network namespace an object lives in. */
export type Scope = "root" | Namespace;

/** All scopes in the order in which they are looked at. */
export const SCOPES: readonly Scope[] = ["root", "mobula", "mobula-sw"];

/** Names of our links and bridges. */
export const LINK = {
  access: "veth_fac0",
  intrawire: "mo-dir-hs",
  externalBridge: "mo-ext-gw",
  externalMiddle: "mo-mid-gw",
  intrawireGateway: "mo-dir-gw",
  wireguard: "mo-wg-gw",
  accessPort: "mo-fac-ovs",
  switch: "ovsbr-mobula",
  gatewayPort: "mo-gw-ovs",
  relay: "mo-relay",
  underlayGateway: "mo-und-gw",
  underlaySwitch: "mo-und-sw",
  underlayBridge: "br-und",
} as const;

/** The host's end of the veth pair into the external bridge: `veth_` and the last ten characters of the NIC's name. */
export function externalVeth(nic: string): string {
  return `veth_${nic.slice(-10)}`;
}

/** The switch's port on the direct path to a peer; its name holds the peer's id. */
export function directPort(peer: number): string {
  return `mo-path-${peer}`;
}

/** The switch's port towards a peer in the tree; its name holds the peer's id, and no more than the ten characters `rstp/show` prints. */
export function treePort(peer: number): string {
  return `mo-t-${peer}`;
}

/** How many third hosts are thought of before the tree. */
const RELAYS = 3;

/** Who may help towards a peer, in order: those that come next after it, so that not everybody asks the same ones. Peers by ascending id. */
export function relaysOf(peer: number, peers: readonly number[]): number[] {
  return relaysAt(peers.indexOf(peer), peers);
}

/** The same for the peer at index `place`. */
export function relaysAt(place: number, peers: readonly number[]): number[] {
  const next = peers.slice(place + 1, place + 1 + RELAYS);
  return [...next, ...peers.slice(0, Math.min(Math.max(place, 0), RELAYS - next.length))];
}

/** The reverse: the indexes, ascending, of those towards whom the host at index `place` of `count` may help. */
export function relayedAt(place: number, count: number): number[] {
  const before = Array.from({ length: Math.min(RELAYS, count - 1) }, (_, index) => place - 1 - index);
  return before.map((other) => (other + count) % count).sort((a, b) => a - b);
}

/** Ids of all hosts that have a place in the mesh, in the order of the list. */
export const meshIds = oncePer((hosts: readonly { readonly id: number; readonly publicKey?: string }[]) =>
  hosts.filter(({ publicKey }) => publicKey !== undefined).map(({ id }) => id)
);

/** Whether `host` has a place in the mesh of host `self`: its key is known. */
export function isMeshPeer(
  host: { readonly id: number; readonly publicKey?: string },
  self: number,
): boolean {
  return host.id !== self && host.publicKey !== undefined;
}

/** Marks packets that leave by another host's gateway while their own has no way out; its routing table is in run-egress's hands. */
export const EGRESS = { mark: "0x6d6f", table: 109 } as const;

/** A link's place: two namespaces may have links of one name. */
export interface LinkRef {
  readonly scope: Scope;
  readonly name: string;
}

/** One link. Undefined properties are left as they are. */
export interface Link extends LinkRef {
  /** `foreign`: made by somebody else (the NIC, Open vSwitch, wireguard-go); it is configured here, not created. */
  readonly kind: "veth" | "bridge" | "wireguard" | "nic" | "foreign";
  readonly mac?: string;
  /** Bytes. */
  readonly mtu?: number;
  readonly up?: boolean;
  /** The bridge it is a port of. */
  readonly master?: string;
  /** Other end of a veth pair; only the first end of a pair has it. */
  readonly peer?: LinkRef & { readonly mac: string };
  /** IPv4 and IPv6 addresses in CIDR notation; undefined: not ours to say. */
  readonly addresses?: readonly string[];
  /** Transmit checksum offload. */
  readonly txChecksum?: boolean;
}

/** One route. */
export interface Route {
  readonly scope: Scope;
  readonly family: "inet" | "inet6";
  readonly table: number;
  readonly destination: string;
  readonly device: string;
  readonly via?: string;
  readonly source?: string;
  readonly metric?: number;
  readonly onlink?: boolean;
}

/** One permanent neighbour entry. */
export interface Neighbour extends LinkRef {
  readonly address: string;
  readonly mac: string;
}

/** One policy rule of the root namespace. */
export interface Rule {
  readonly priority: number;
  readonly from?: string;
  readonly to?: string;
  /** Number of the IP protocol, and the packet's own port. */
  readonly protocol?: number;
  readonly sport?: number;
  readonly table: number;
  /** The table's default route does not count. */
  readonly withoutDefault?: boolean;
}

/** One kernel setting, `key` in sysctl's dotted form. */
export interface Sysctl {
  readonly scope: Scope;
  readonly key: string;
  readonly value: string;
  /** Set only where the kernel has it at all. */
  readonly optional?: boolean;
  /** A number; a greater one of somebody else stays. */
  readonly atLeast?: boolean;
}

/** One WireGuard peer. */
export interface WireguardPeer {
  readonly publicKey: string;
  /** `address:port`; clients have none. */
  readonly endpoint?: string;
  readonly allowedIps: readonly string[];
  /** For messages: a host name or a client's address. */
  readonly label: string;
  /** While keys are being replaced: all that the host may be using, this one among them, the newest last. */
  readonly keys?: readonly string[];
}

/** The WireGuard device. */
export interface Wireguard {
  readonly publicKey: string;
  readonly listenPort: number;
  readonly peers: readonly WireguardPeer[];
}

/** One port of an Open vSwitch bridge; `columns` are ovs-vsctl's `table.column[:key]` settings of Port and Interface. */
export interface SwitchPort {
  readonly bridge: string;
  readonly name: string;
  readonly port: Readonly<Record<string, string>>;
  readonly interface: Readonly<Record<string, string>>;
}

/** One Open vSwitch bridge with its columns. */
export interface SwitchBridge {
  readonly name: string;
  readonly columns: Readonly<Record<string, string>>;
}

/** Open vSwitch's part. */
export interface Switch {
  readonly bridges: readonly SwitchBridge[];
  readonly ports: readonly SwitchPort[];
  /** Userspace mode: route and neighbour that Open vSwitch's own tunnel code uses. */
  readonly tunnel?: {
    readonly network: string;
    readonly bridge: string;
    readonly via: string;
    readonly mac: string;
  };
}

/** What is loaded as one text. */
export interface Loaded {
  readonly text: string;
}

/** Everything of the network that is ours. */
export interface Network {
  readonly namespaces: readonly Namespace[];
  readonly sysctls: readonly Sysctl[];
  readonly links: readonly Link[];
  readonly routes: readonly Route[];
  readonly neighbours: readonly Neighbour[];
  readonly rules: readonly Rule[];
  readonly wireguard: Wireguard;
  readonly switch: Switch;
  /** Flows, groups and meters of `ovsbr-mobula`, as `renderFlows` writes them. */
  readonly flows: Loaded;
  /** The nftables ruleset of the gateway, as `renderNftables` writes it. */
  readonly firewall: Loaded;
  /** What is done to packets that come out of WireGuard, as `renderShortcut` writes it. */
  readonly shortcut: Loaded;
  /** systemd units that must run. */
  readonly units: readonly string[];
}
