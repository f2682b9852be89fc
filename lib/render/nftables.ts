/**
 * The gateway's nftables ruleset. Pure.
 */
import { GENEVE_PORT, hostAddresses, NETWORKS, RELAY_PORT, VERIFY_PORT, WIREGUARD_PORT } from "../address.ts";
import type { Baseline, Capabilities } from "../facts.ts";
import type { Forward } from "../fleet.ts";
import { EGRESS, LINK } from "../net/network.ts";
import { HEADER } from "./header.ts";

const TUNNEL_PORTS = `{ ${GENEVE_PORT}, ${RELAY_PORT} }`;

/**
 * Local ports from here on are for connections that are translated to the host's intrawire address. Linux gives its own sockets lower
 * ones (ip_local_port_range, 32768-60999).
 */
export const TRANSLATED_PORT = 61_000;

/** What the ruleset depends on. */
export interface NftablesInput {
  readonly id: number;
  readonly baseline: Baseline;
  readonly capabilities: Capabilities;
  /** Beside SSH. */
  readonly forwards: readonly Forward[];
  /** Ids of all hosts, where default traffic may leave by another host's gateway. */
  readonly egress?: readonly number[];
}

/**
 * One transaction that replaces our two tables. Filter is `inet`; NAT is `ip` with numeric priorities, which every nftables and
 * kernel in question takes, and both NAT hooks are declared because kernels before 4.18 need both. What is meant for the inside
 * never leaves by the external interface, which is where the default route sends it while WireGuard's routes are not there; that is
 * asked where packets are forwarded or begin, so that the encrypted ones, which are most, have left the list by then.
 * Packets of the tunnels, the encrypted ones and what is in them for the switch, and those between two hosts on the intrawire are many
 * and need no translation: the kernel does not keep track of their connections. What answers a translated packet is told by its port.
 * Rules about these come first, and ask for addresses before names: an address costs the kernel a comparison, a name much more.
 */
export function renderNftables({ id, baseline, capabilities, forwards, egress }: NftablesInput): string {
  const host = hostAddresses(id);
  const inside = set([LINK.switch, LINK.intrawireGateway, LINK.wireguard]);
  // The intrawire takes the access network where the direct way is dead (run-paths).
  const wires = set([LINK.wireguard, LINK.switch]);
  // In userspace mode the tunnels' packets are forwarded between WireGuard and the switch's namespace.
  const tunnels = capabilities.datapath === "system"
    ? `"${LINK.wireguard}"`
    : set([LINK.wireguard, LINK.underlayGateway]);
  const external = baseline.addresses.filter((address) => address.includes("."))
    .map((address) => address.replace(/\/\d+$/, ""));
  // One address is compared, several are looked up.
  const outside = external.length === 1 ? external[0] : `{ ${external.join(", ")} }`;
  const stray =
    `oifname "${LINK.externalBridge}" ip daddr { ${NETWORKS.wire}, ${NETWORKS.access}, ${NETWORKS.tunnel} } drop`;
  const fromOutside = `iifname "${LINK.externalBridge}" ip daddr { ${external.join(", ")} }`;
  return `${HEADER}
table inet mobula
delete table inet mobula
table inet mobula {
${egress ? egressMark(egress) : ""}  chain input {
    type filter hook input priority 0; policy drop;
    ip daddr ${outside} udp dport ${WIREGUARD_PORT} accept
    iifname "${LINK.wireguard}" ip saddr ${NETWORKS.tunnel} udp dport ${TUNNEL_PORTS} accept
    ct state established,related accept
    iifname "lo" accept
    icmp type echo-request accept
    icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, packet-too-big } accept
    iifname ${inside} ip daddr ${host.gateway} udp dport 53 accept
    iifname ${inside} ip daddr ${host.gateway} tcp dport { 53, ${VERIFY_PORT} } accept
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
${tunnelRules(capabilities)}    tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
    ip daddr ${host.intrawire} iifname "${LINK.wireguard}" oifname "${LINK.intrawireGateway}" accept
    ip saddr ${host.intrawire} ip daddr ${NETWORKS.intrawire} iifname "${LINK.intrawireGateway}" oifname "${LINK.wireguard}" accept
    iifname ${inside} oifname ${inside} ip daddr { ${NETWORKS.wire}, ${NETWORKS.access} } accept
    ${stray}
    ct state established,related accept
    iifname "${LINK.externalBridge}" ct status dnat accept
    iifname ${set([LINK.switch, LINK.intrawireGateway])} oifname "${LINK.externalBridge}" accept
${egress ? `    meta mark ${EGRESS.mark} iifname "${LINK.switch}" oifname "${LINK.switch}" accept\n` : ""}  }
}
table ip mobula
delete table ip mobula
table ip mobula {
  chain untracked_in {
    type filter hook prerouting priority -300;
    ip daddr ${outside} udp dport ${WIREGUARD_PORT} notrack accept
${
    untrackedRules(host.intrawire)
  }    iifname ${tunnels} ip saddr ${NETWORKS.tunnel} udp dport ${TUNNEL_PORTS} notrack accept
  }
  chain untracked_out {
    type filter hook output priority -300;
    udp sport ${WIREGUARD_PORT} notrack accept
    oifname ${tunnels} ip daddr ${NETWORKS.tunnel} udp dport ${TUNNEL_PORTS} notrack accept
    ${stray}
  }
  chain prerouting {
    type nat hook prerouting priority -100;
    ${fromOutside} tcp dport ${baseline.sshPort} dnat to ${host.intrawire}
${
    forwards.map(({ protocol, external, internal }) =>
      `    ${fromOutside} ${protocol} dport ${external} dnat to ${host.intrawire}:${internal}\n`
    ).join("")
  }  }
  chain postrouting {
    type nat hook postrouting priority 100;
    oifname "${LINK.externalBridge}" ip saddr { ${NETWORKS.wire}, ${NETWORKS.access} } masquerade
${
    translationRules(host.intrawire, wires)
  }    oifname "${LINK.switch}" ip daddr ${NETWORKS.access} ip saddr ${NETWORKS.wire} snat to ${host.gateway}
${egress ? `    meta mark ${EGRESS.mark} oifname "${LINK.switch}" masquerade\n` : ""}  }
}
`;
}

/**
 * What may leave by another host's gateway (run-egress): not what another gateway sends here for the same reason, so that it can never
 * go around in circles. Masquerade forgets a connection as soon as its way out is another one.
 */
function egressMark(hosts: readonly number[]): string {
  const gateways = hosts.map((id) => hostAddresses(id).gateway).join(", ");
  const inner = [NETWORKS.wire, NETWORKS.access, NETWORKS.tunnel, "224.0.0.0/3"].join(", ");
  return `  chain egress {
    type filter hook prerouting priority -150;
    iifname "${LINK.switch}" ip saddr ${NETWORKS.access} ip saddr != { ${gateways} } ip daddr != { ${inner} } meta mark set ${EGRESS.mark}
  }
`;
}

/** Between this host's own address and others': both directions of a connection are told by the port at this end. */
function untrackedRules(self: string): string {
  return ["tcp", "udp"].map((protocol) =>
    `    ip daddr ${self} ip saddr ${NETWORKS.intrawire} ${protocol} dport < ${TRANSLATED_PORT} notrack accept
    ip saddr ${self} ip daddr ${NETWORKS.intrawire} ${protocol} sport < ${TRANSLATED_PORT} notrack accept
`
  ).join("");
}

/** What is not this host's own gets its address, or WireGuard at the other end would drop it. */
function translationRules(self: string, wires: string): string {
  const foreign = `oifname ${wires} ip daddr ${NETWORKS.intrawire} ip saddr != ${self}`;
  return `    ${foreign} meta l4proto tcp snat to ${self}:${TRANSLATED_PORT}-65535
    ${foreign} meta l4proto udp snat to ${self}:${TRANSLATED_PORT}-65535
    ${foreign} snat to ${self}
`;
}

function tunnelRules({ datapath }: Capabilities): string {
  if (datapath === "system") return "";
  const tunnel = `ip saddr ${NETWORKS.tunnel} ip daddr ${NETWORKS.tunnel} udp dport ${TUNNEL_PORTS} accept`;
  return `    iifname "${LINK.wireguard}" oifname "${LINK.underlayGateway}" ${tunnel}
    iifname "${LINK.underlayGateway}" oifname "${LINK.wireguard}" ${tunnel}
`;
}

function set(names: readonly string[]): string {
  return `{ ${names.map((name) => `"${name}"`).join(", ")} }`;
}
