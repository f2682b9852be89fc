/**
 * Configuration, baseline and capabilities of a host → its wanted network. Pure.
 */
import {
  GENEVE_PORT,
  hostAddresses,
  hostMac,
  innerMtus,
  NETWORKS,
  RELAY_PORT,
  WIREGUARD_PORT,
} from "../address.ts";
import type { Baseline, Capabilities } from "../facts.ts";
import type { Forward, HostConfig, PeerHost, Switching } from "../fleet.ts";
import { forwardsOf } from "../forward.ts";
import type { KnownKeys } from "../known_keys.ts";
import { oncePer } from "../remember.ts";
import type { Namespace } from "../step.ts";
import { renderFlows } from "../render/flows.ts";
import { renderShortcut } from "../render/shortcut.ts";
import { renderNftables } from "../render/nftables.ts";
import {
  directPort,
  externalVeth,
  isMeshPeer,
  LINK,
  type Link,
  type Loaded,
  meshIds,
  type Neighbour,
  type Network,
  type Route,
  type Rule,
  type Switch,
  type SwitchPort,
  type Sysctl,
  treePort,
  type Wireguard,
  type WireguardPeer,
} from "./network.ts";

/** All that a host's network is a function of. */
export interface HostInput {
  readonly config: HostConfig;
  readonly baseline: Baseline;
  readonly capabilities: Capabilities;
  /** While keys are being replaced. */
  readonly knownKeys?: KnownKeys;
}

/** Routing table of the intrawire on the host, and the priorities of the rules that lead there. */
const INTRAWIRE_TABLE = 10;
export const RULE_PRIORITIES = {
  fromIntrawire: 10030,
  toIntrawire: 10031,
  nearAnswer: 10032,
  forwardedAnswer: 10033,
} as const;
/** Its number: hosts without /etc/protocols do not know the name. */
const UDP = 17;
const MAIN_TABLE = 254;

/** The small network between gateway and switch in userspace mode. */
const UNDERLAY = { gateway: "169.254.200.1", bridge: "169.254.200.2", bits: 30 } as const;

/** The wanted network; equal input, equal value. */
export function wantedNetwork(input: HostInput): Network {
  const { config, baseline, capabilities } = input;
  const forwards = forwardsOf(config, baseline);
  return {
    namespaces: namespacesOf(capabilities),
    sysctls: wantedSysctls(),
    links: wantedLinks(input),
    routes: wantedRoutes(input),
    neighbours: wantedNeighbours(input),
    rules: wantedRules(config.self, forwards),
    wireguard: wantedWireguard(config, input.knownKeys),
    switch: wantedSwitch(config, capabilities),
    flows: { text: renderFlows(config, capabilities) },
    firewall: wantedFirewall(input),
    shortcut: { text: renderShortcut(config.self) },
    units: wantedUnits(input),
  };
}

/** The gateway's ruleset alone. */
export function wantedFirewall({ config, baseline, capabilities }: HostInput): Loaded {
  const forwards = forwardsOf(config, baseline);
  const egress = config.egress ? { egress: config.hosts.map(({ id }) => id) } : {};
  return { text: renderNftables({ id: config.self, baseline, capabilities, forwards, ...egress }) };
}

/** The namespaces that the host needs: in userspace mode the switch has one of its own. */
export function namespacesOf(capabilities: Capabilities): readonly Namespace[] {
  return capabilities.datapath === "netdev" ? ["mobula", "mobula-sw"] : ["mobula"];
}

/** The namespace in which ovs-vswitchd runs. */
export function switchNamespace(capabilities: Capabilities): Namespace {
  return capabilities.datapath === "netdev" ? "mobula-sw" : "mobula";
}

function wantedUnits({ capabilities, config, knownKeys }: HostInput): string[] {
  return [
    ...["mobula-ovsdb.service", "mobula-vswitchd.service"],
    ...["mobula-paths.service", "mobula-dnsmasq.service"],
    ...(config.egress ? ["mobula-egress.service"] : []),
    ...(capabilities.wireguard === "userspace" ? ["mobula-wireguard.service"] : []),
    ...(knownKeys === undefined ? [] : ["mobula-follow.service"]),
  ];
}

function wantedSysctls(): Sysctl[] {
  const gateway = {
    "net.ipv4.ip_forward": "1",
    // Packets of the intrawire come in by another way than the answers go out.
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
    "net.ipv6.conf.default.accept_ra": "0",
  };
  // Docker switches these on wherever it runs; our bridged frames must not pass our own forward chain.
  const bridges = ["iptables", "ip6tables", "arptables"].map((table) => `net.bridge.bridge-nf-call-${table}`);
  return [
    ...neighbourLimits(),
    ...Object.entries(gateway).map(([key, value]) => ({
      ...{ scope: "mobula" as const, key, value },
      // Not there with `ipv6.disable=1`.
      ...(key.startsWith("net.ipv6.") ? { optional: true } : {}),
    })),
    ...bridges.map((key) => ({ scope: "mobula" as const, key, value: "0", optional: true })),
  ];
}

/**
 * The kernel's neighbours of all namespaces together (arp(7), gc_thresh): with the usual 1024 it forgets some hundred hosts, which are
 * up to five neighbours each, and the machines behind them, and loses what is sent to them meanwhile. A container has no such setting.
 */
function neighbourLimits(): Sysctl[] {
  const limits = { gc_thresh3: 16384, gc_thresh2: 8192, gc_thresh1: 4096 };
  return ["ipv4", "ipv6"].flatMap((family) =>
    Object.entries(limits).map(([name, value]) => ({
      scope: "root" as const,
      key: `net.${family}.neigh.default.${name}`,
      value: String(value),
      optional: true,
      atLeast: true,
    }))
  );
}

/** The links alone. */
export function wantedLinks(input: HostInput): Link[] {
  const { baseline, capabilities, config } = input;
  const { self: id } = config;
  const host = hostAddresses(id);
  const mtu = innerMtus(config.underlayMtu);
  const netdev = capabilities.datapath === "netdev";
  const gatewayEnd = {
    mac: hostMac(id, "gateway"),
    mtu: mtu.access,
    up: true,
    addresses: [`${host.gateway}/16`],
  };
  const switchScope = switchNamespace(capabilities);
  const links: Link[] = [
    { scope: "mobula", name: "lo", kind: "foreign", up: true },
    {
      scope: "mobula",
      name: LINK.externalBridge,
      kind: "bridge",
      mac: baseline.mac,
      mtu: baseline.mtu,
      up: true,
      addresses: baseline.addresses,
    },
    {
      scope: "mobula",
      name: baseline.interface,
      kind: "nic",
      master: LINK.externalBridge,
      mac: baseline.mac,
      // Nobody else sets it any more: after a boot the card has what its driver thinks of.
      mtu: baseline.mtu,
      up: true,
    },
    {
      scope: "root",
      name: externalVeth(baseline.interface),
      kind: "veth",
      mac: hostMac(id, "veth_ext"),
      mtu: baseline.mtu,
      peer: { scope: "mobula", name: LINK.externalMiddle, mac: hostMac(id, "mo-mid-gw") },
    },
    {
      scope: "mobula",
      name: LINK.externalMiddle,
      kind: "foreign",
      mtu: baseline.mtu,
      master: LINK.externalBridge,
      up: true,
    },
    {
      scope: "root",
      name: LINK.intrawire,
      kind: "veth",
      mac: hostMac(id, "mo-dir-hs"),
      mtu: mtu.wireguard,
      up: true,
      addresses: [`${host.intrawire}/32`],
      peer: { scope: "mobula", name: LINK.intrawireGateway, mac: hostMac(id, "mo-dir-gw") },
    },
    { scope: "mobula", name: LINK.intrawireGateway, kind: "foreign", mtu: mtu.wireguard, up: true },
    {
      scope: "root",
      name: LINK.access,
      kind: "veth",
      mac: hostMac(id, "veth_fac0"),
      mtu: mtu.access,
      ...(config.access === "auto" ? { up: true, addresses: [`${host.access}/16`] } : {}),
      ...(netdev ? { txChecksum: false } : {}),
      peer: { scope: switchScope, name: LINK.accessPort, mac: hostMac(id, "mo-fac-ovs") },
    },
    { scope: switchScope, name: LINK.accessPort, kind: "foreign", mtu: mtu.access, up: true },
    {
      scope: "mobula",
      name: LINK.wireguard,
      kind: capabilities.wireguard === "kernel" ? "wireguard" : "foreign",
      mtu: mtu.wireguard,
      up: true,
      // In userspace mode the tunnel's end is on the switch's own underlay bridge instead.
      addresses: netdev ? [] : [`${host.tunnel}/32`],
    },
  ];
  if (!netdev) {
    return [...links, { scope: "mobula", name: LINK.switch, kind: "foreign", ...gatewayEnd }];
  }
  return [
    ...links,
    { scope: "mobula-sw", name: "lo", kind: "foreign", up: true },
    {
      scope: "mobula",
      name: LINK.switch,
      kind: "veth",
      ...gatewayEnd,
      txChecksum: false,
      peer: { scope: "mobula-sw", name: LINK.gatewayPort, mac: hostMac(id, "mo-gw-ovs") },
    },
    { scope: "mobula-sw", name: LINK.gatewayPort, kind: "foreign", mtu: mtu.access, up: true },
    {
      scope: "mobula",
      name: LINK.underlayGateway,
      kind: "veth",
      mac: hostMac(id, "mo-und-gw"),
      mtu: mtu.wireguard,
      up: true,
      addresses: [`${UNDERLAY.gateway}/${UNDERLAY.bits}`],
      txChecksum: false,
      peer: { scope: "mobula-sw", name: LINK.underlaySwitch, mac: hostMac(id, "mo-und-sw") },
    },
    { scope: "mobula-sw", name: LINK.underlaySwitch, kind: "foreign", mtu: mtu.wireguard, up: true },
    {
      scope: "mobula-sw",
      name: LINK.underlayBridge,
      kind: "foreign",
      mtu: mtu.wireguard,
      up: true,
      addresses: [`${UNDERLAY.bridge}/${UNDERLAY.bits}`, `${host.tunnel}/32`],
    },
  ];
}

function wantedRoutes({ baseline, capabilities, config }: HostInput): Route[] {
  const host = hostAddresses(config.self);
  const inet = { family: "inet", table: MAIN_TABLE } as const;
  const wire = { scope: "mobula", ...inet, device: LINK.wireguard } as const;
  const netdev = capabilities.datapath === "netdev";
  // A next hop outside of the host's subnet is reached by a route of its own, which has to be there first.
  const onlinkFirst = [...baseline.routes].sort((a, b) =>
    Number(a.via !== undefined) - Number(b.via !== undefined)
  );
  const routes: Route[] = [
    ...onlinkFirst.map(({ protocol: _, ...route }) => ({
      scope: "mobula" as const,
      table: MAIN_TABLE,
      device: LINK.externalBridge,
      ...route,
    })),
    { ...wire, destination: NETWORKS.intrawire },
    // A client takes nothing but inner addresses from us: "packet too big" has to come from one.
    { ...wire, destination: NETWORKS.extrawire, source: host.gateway },
    { ...wire, destination: NETWORKS.tunnel, ...(netdev ? {} : { source: host.tunnel }) },
    { scope: "mobula", ...inet, destination: host.intrawire, device: LINK.intrawireGateway },
    {
      scope: "root",
      family: "inet",
      table: INTRAWIRE_TABLE,
      destination: "default",
      via: host.gateway,
      device: LINK.intrawire,
      source: host.intrawire,
      onlink: true,
    },
  ];
  if (netdev) {
    routes.push({ scope: "mobula", ...inet, destination: host.tunnel, device: LINK.underlayGateway });
  }
  if (config.access === "auto") {
    routes.push({ scope: "root", ...inet, destination: "default", via: host.gateway, device: LINK.access });
  }
  return routes;
}

/** The two ends of the intrawire pair know each other for good: no ARP setting of the host can break SSH. */
function wantedNeighbours({ capabilities, config }: HostInput): Neighbour[] {
  const { self: id } = config;
  const host = hostAddresses(id);
  const neighbours: Neighbour[] = [
    { scope: "root", name: LINK.intrawire, address: host.gateway, mac: hostMac(id, "mo-dir-gw") },
    { scope: "mobula", name: LINK.intrawireGateway, address: host.intrawire, mac: hostMac(id, "mo-dir-hs") },
  ];
  if (capabilities.datapath === "netdev") {
    neighbours.push({
      scope: "mobula",
      name: LINK.underlayGateway,
      address: host.tunnel,
      mac: hostMac(id, "br-und"),
    });
  }
  return neighbours;
}

/**
 * A UDP service that is bound to all addresses leaves the choice of its answer's address to the routes: to whom it answers by the
 * default route, it answers from the intrawire address, which the gateway has forwarded the question to.
 */
function wantedRules(id: number, forwards: readonly Forward[]): Rule[] {
  const ports = new Set(
    forwards.filter(({ protocol }) => protocol === "udp").map(({ internal }) => internal),
  );
  const answers = [...ports].flatMap((sport) => [
    { priority: RULE_PRIORITIES.nearAnswer, protocol: UDP, sport, table: MAIN_TABLE, withoutDefault: true },
    { priority: RULE_PRIORITIES.forwardedAnswer, protocol: UDP, sport, table: INTRAWIRE_TABLE },
  ]);
  return [
    { priority: RULE_PRIORITIES.fromIntrawire, from: hostAddresses(id).intrawire, table: INTRAWIRE_TABLE },
    { priority: RULE_PRIORITIES.toIntrawire, to: NETWORKS.wire, table: INTRAWIRE_TABLE },
    ...answers,
  ];
}

/** Addresses of a host that belong to its WireGuard peer. */
export function peerAllowedIps(id: number): string[] {
  const { intrawire, tunnel } = hostAddresses(id);
  return [`${intrawire}/32`, `${tunnel}/32`];
}

function wantedWireguard(config: HostConfig, known?: KnownKeys): Wireguard {
  const own = config.hosts.find((host) => host.id === config.self);
  const peers = config.hosts.filter((host) => isMeshPeer(host, config.self))
    .map((host) => known?.hosts[host.id] ? { ...peerOf(host), ...keysOf(host, known) } : peerOf(host));
  const clients = config.extraWires
    .map(({ address, publicKey }) => ({
      publicKey,
      allowedIps: [`${address}/32`],
      label: `client ${address}`,
    }));
  return {
    publicKey: known?.hold ?? own?.publicKey ?? "",
    listenPort: WIREGUARD_PORT,
    peers: [...peers, ...clients],
  };
}

/** The peer that a host is for all others. */
const peerOf = oncePer(({ id, address, hostname, publicKey = "" }: PeerHost): WireguardPeer => ({
  publicKey,
  endpoint: `${address}:${WIREGUARD_PORT}`,
  allowedIps: peerAllowedIps(id),
  label: hostname,
}));

function keysOf({ id, publicKey = "" }: PeerHost, known?: KnownKeys): { keys?: readonly string[] } {
  const keys = known?.hosts[id];
  if (keys === undefined) return {};
  return { keys: keys.includes(publicKey) ? keys : [...keys, publicKey] };
}

/**
 * The switch: one bridge; per peer a geneve port in the tree, whose loops RSTP cuts, and one on the direct path, which only flows use;
 * in userspace mode also the tunnels' underlay bridge.
 */
function wantedSwitch(config: HostConfig, capabilities: Capabilities): Switch {
  const id = config.self;
  const netdev = capabilities.datapath === "netdev";
  const bridge = {
    name: LINK.switch,
    columns: {
      datapath_type: capabilities.datapath,
      rstp_enable: "true",
      // The most there may be: an agreement that has to wait costs traffic up to a second.
      "other_config:rstp-xmit-hold-count": "10",
      protocols: "OpenFlow10,OpenFlow13",
      "other_config:hwaddr": hostMac(id, netdev ? "bridge" : "gateway"),
      "other_config:mac-table-size": "50000",
      "external_ids:mobula": "switch",
    },
  };
  const ports = [
    edgePort(LINK.switch, LINK.accessPort),
    ...(netdev ? [edgePort(LINK.switch, LINK.gatewayPort)] : []),
    ...tunnelPorts(config),
    ...(config.switching.mode === "direct" ? [relayPort(id)] : []),
  ];
  if (!netdev) return { bridges: [bridge], ports };
  const underlay = {
    name: LINK.underlayBridge,
    columns: {
      datapath_type: "netdev",
      "other_config:hwaddr": hostMac(id, "br-und"),
      "external_ids:mobula": "underlay",
    },
  };
  return {
    bridges: [underlay, bridge],
    ports: [{ bridge: LINK.underlayBridge, name: LINK.underlaySwitch, port: {}, interface: {} }, ...ports],
    tunnel: switchTunnel(id),
  };
}

/** How the tunnels of a switch in userspace mode find the gateway. */
export function switchTunnel(id: number): NonNullable<Switch["tunnel"]> {
  return {
    network: NETWORKS.tunnel,
    bridge: LINK.underlayBridge,
    via: UNDERLAY.gateway,
    mac: hostMac(id, "mo-und-gw"),
  };
}

/** A port towards hosts, VMs or the gateway: forwards at once and takes no part in the tree. */
function edgePort(bridge: string, name: string): SwitchPort {
  return { bridge, name, port: { "other_config:rstp-enable": "false" }, interface: {} };
}

/** Not an origin that `tun_id` may hold (1..32767): frames of the direct path, apart from those of the tree. */
const DIRECT_KEY = 0x6d6f00;
/** No frame has this VLAN: the switch's own forwarding leaves the port alone, so that losing the flows makes no loop. */
const NO_VLAN = "4095";

/** The ports towards all peers. */
function tunnelPorts({ self, hosts, switching }: HostConfig): SwitchPort[] {
  const local = { "options:local_ip": hostAddresses(self).tunnel };
  return portsTowards(switching)(meshIds(hosts)).filter(({ peer }) => peer !== self)
    .flatMap(({ ports }) => ports)
    .map((port) => ({ ...port, interface: { ...port.interface, ...local } }));
}

/** The ports towards each host of a fleet; those of all other hosts differ from these in `options:local_ip` alone. */
const portsTowards = oncePer((switching: Switching) =>
  oncePer((ids: readonly number[]) => ids.map((peer) => ({ peer, ports: peerPorts(switching, peer) })))
);

/** The ports towards a peer. BFD on both: the tree takes a dead tunnel out at once, and so do the flows. */
function peerPorts(switching: Switching, peer: number): SwitchPort[] {
  const geneve = {
    type: "geneve",
    // Replaced by the host's own address; here for its place in the order of the columns.
    "options:local_ip": "",
    "options:remote_ip": hostAddresses(peer).tunnel,
    "options:dst_port": String(GENEVE_PORT),
  };
  const tree = { bridge: LINK.switch, name: treePort(peer), port: {} };
  if (switching.mode === "tree") return [{ ...tree, interface: { ...geneve, "options:key": "flow" } }];
  const interval = String(switching.bfdInterval);
  const bfd = {
    "bfd:enable": "true",
    "bfd:min_tx": interval,
    "bfd:min_rx": interval,
    "bfd:mult": String(switching.bfdMultiplier),
  };
  return [
    { ...tree, interface: { ...geneve, ...bfd, "options:key": "flow" } },
    {
      bridge: LINK.switch,
      name: directPort(peer),
      port: { "other_config:rstp-enable": "false", trunks: NO_VLAN },
      interface: { ...geneve, ...bfd, "options:key": String(DIRECT_KEY) },
    },
  ];
}

/** One port to and from all hosts: the flows say to whom. */
function relayPort(self: number): SwitchPort {
  return {
    bridge: LINK.switch,
    name: LINK.relay,
    port: { "other_config:rstp-enable": "false", trunks: NO_VLAN },
    interface: {
      type: "geneve",
      "options:local_ip": hostAddresses(self).tunnel,
      "options:remote_ip": "flow",
      "options:dst_port": String(RELAY_PORT),
      "options:key": "flow",
    },
  };
}
