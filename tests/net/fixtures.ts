/**
 * Made-up hosts for tests: fleets, baselines, capabilities, and the live state that a carried-out plan leaves. Pure.
 */
import { DEFAULT_SWITCHING } from "../../lib/config/switching.ts";
import { Buffer } from "node:buffer";
import type { Baseline, Capabilities, Policy } from "../../lib/facts.ts";
import type { Fleet } from "../../lib/fleet.ts";
import { hostConfigFor } from "../../lib/host_config.ts";
import type { Link, Network } from "../../lib/net/network.ts";
import type { Seen, SeenLink, SeenRow } from "../../lib/net/seen.ts";
import type { HostInput } from "../../lib/net/wanted.ts";

/** The three combinations of what a kernel can do, by the name that tests and golden files give them. */
export const MODES = {
  kernel: { wireguard: "kernel", datapath: "system" },
  userspace: { wireguard: "userspace", datapath: "netdev" },
  mixed: { wireguard: "kernel", datapath: "netdev" },
} as const satisfies Record<string, Capabilities>;

/** Name of a combination. */
export type Mode = keyof typeof MODES;

/** A public key that is the same in every run: 32 bytes made of the number. */
export function keyOf(number: number): string {
  const bytes = Buffer.alloc(32, 1);
  bytes.writeUInt32BE(number, 0);
  return bytes.toString("base64");
}

/** MAC of the made-up network card. */
export const NIC_MAC = "52:54:00:00:00:01";

/** A host with one card, a static address and a default route, as systemd-networkd leaves it. */
export function baselineOf(address: string, more: Partial<Baseline> = {}): Baseline {
  return {
    schema: 1,
    interface: "enp1s0",
    mac: NIC_MAC,
    mtu: 1500,
    addresses: [`${address}/24`],
    routes: [{ family: "inet", destination: "default", via: address.replace(/\d+$/, "254") }],
    resolvers: ["192.0.2.53"],
    search: ["example.net"],
    resolvConf: { text: "nameserver 192.0.2.53\nsearch example.net\n" },
    sshPort: 22,
    managers: ["networkd"],
    ...more,
  };
}

/** The input of one host of a fleet in which every host has a key. */
export function inputFor(
  fleet: Fleet,
  id: number,
  mode: Mode,
  more: Partial<Baseline> = {},
): HostInput {
  const pubkeys = new Map(fleet.hosts.map((host) => [host.address, { publicKey: keyOf(host.id) }]));
  const config = hostConfigFor(fleet, id, pubkeys, 1500);
  const address = fleet.hosts.find((host) => host.id === id)?.address ?? "198.51.100.1";
  return { config, baseline: baselineOf(address, more), capabilities: MODES[mode] };
}

/** A fleet of hosts with these ids, all with `mobula_access: auto`. */
export function fleetOf(ids: readonly number[], more: Partial<Fleet> = {}): Fleet {
  const hosts = ids.map((id) => {
    const address = `192.0.${id >> 8}.${id & 255}`;
    return {
      address,
      id,
      hostname: `host-${id}`,
      access: "auto",
      ssh: { host: address, become: false },
    } as const;
  });
  return { hosts, extraHosts: [], extraWires: [], keepKeys: true, switching: DEFAULT_SWITCHING, ...more };
}

/** No rules, and no routes in other tables. */
export const NO_POLICY: Policy = { tableRoutes: [], rules: [] };

/** A host that mobula has never touched: the card in the root namespace and nothing else. */
export function blankSeen({ baseline }: Pick<HostInput, "baseline">): Seen {
  const nic: SeenLink = {
    scope: "root",
    name: baseline.interface,
    mac: baseline.mac,
    mtu: baseline.mtu,
    up: true,
    addresses: baseline.addresses,
  };
  return {
    namespaces: [],
    sysctls: [],
    links: [nic],
    routes: [],
    neighbours: [],
    rules: [],
    activeUnits: [],
  };
}

/** The live state of a host on which all that is wanted is there. */
export function seenOf(wanted: Network): Seen {
  return {
    namespaces: wanted.namespaces,
    sysctls: wanted.sysctls,
    links: [...wanted.links.map(seenLink), ...wanted.links.flatMap(seenPeer(wanted))],
    routes: wanted.routes.map((route) => ({ ...route, protocol: "boot" })),
    neighbours: wanted.neighbours,
    rules: wanted.rules.map((rule) => ({ ...rule, table: String(rule.table) })),
    wireguard: {
      publicKey: wanted.wireguard.publicKey,
      listenPort: wanted.wireguard.listenPort,
      peers: new Map(wanted.wireguard.peers.map((peer) => [peer.publicKey, peer])),
    },
    switch: seenSwitch(wanted.switch),
    firewall: wanted.firewall.text,
    flows: wanted.flows.text,
    shortcut: wanted.shortcut.text,
    activeUnits: wanted.units,
  };
}

function seenLink(link: Link): SeenLink {
  return {
    scope: link.scope,
    name: link.name,
    mac: link.mac ?? "",
    mtu: link.mtu ?? 1500,
    up: link.up ?? false,
    addresses: link.addresses ?? [],
    ...(link.master === undefined ? {} : { master: link.master }),
    ...(link.txChecksum === undefined ? {} : { txChecksum: link.txChecksum }),
  };
}

/** The second ends that are not configured as links of their own. */
function seenPeer({ links }: Network): (link: Link) => SeenLink[] {
  return ({ peer }) => {
    if (!peer || links.some(({ scope, name }) => scope === peer.scope && name === peer.name)) return [];
    return [{ ...peer, mtu: 1500, up: false, addresses: [] }];
  };
}

function seenSwitch(wanted: Network["switch"]): NonNullable<Seen["switch"]> {
  const row = (kind: string, name: string, columns: Readonly<Record<string, string>>): SeenRow => ({
    uuid: `${kind} ${name}`,
    name,
    columns,
  });
  const { bridges, ports, tunnel } = wanted;
  return {
    bridges: bridges.map(({ name, columns }) => ({
      ...row("bridge", name, columns),
      ports: [name, ...ports.filter(({ bridge }) => bridge === name).map((port) => port.name)]
        .map((port) => `port ${port}`),
    })),
    ports: [
      ...bridges.map(({ name }) => row("port", name, {})),
      ...ports.map(({ name, port }) => row("port", name, port)),
    ],
    interfaces: ports.map((port) => row("interface", port.name, port.interface)),
    tunnelRoutes: tunnel
      ? `User: ${tunnel.network} dev ${tunnel.bridge} GW ${tunnel.via} SRC 169.254.200.2\n`
      : "",
    tunnelNeighbours: tunnel ? `${tunnel.via}   ${tunnel.mac}   ${tunnel.bridge}\n` : "",
  };
}
