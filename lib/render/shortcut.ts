/**
 * What comes from other hosts for this host's own intrawire address, led straight from WireGuard to the host, as orders for `tc -batch`.
 * Pure.
 */
import { hostAddresses, hostMac, NETWORKS } from "../address.ts";
import { LINK } from "../net/network.ts";

/** IANA's protocol numbers. */
const PROTOCOLS = { tcp: 6, udp: 17 } as const;

/** Ports as value and mask that hold all those of translated connections (61000 and more, see `renderNftables`), and some before. */
const MAY_BE_TRANSLATED = [[0xf000, 0xf000], [0xee00, 0xfe00]] as const;

/** Byte of the TCP header's flags behind an IPv4 header without options, and its SYN. */
const FLAGS = { offset: 20 + 13, syn: 0x02 } as const;

/**
 * Routing, packet filter and neighbours of the gateway would let such a packet of another host pass unchanged: the filter accepts whatever
 * comes that way, and nobody keeps track of it (`renderNftables`). So it is given the header that it would get, and put on the host's link.
 * Left to the usual way are what may answer a translated packet, which its port says, the beginning of a connection, in which the gateway
 * may make the largest segment smaller, parts of larger packets, packets with options, whose ports are elsewhere, and clients, who may send
 * larger packets than the host's link takes. Offsets are those of IPv4 and of TCP and UDP: RFC 791, 3.1, RFC 9293, 3.1.
 */
export function renderShortcut(id: number): string {
  const { intrawire } = hostAddresses(id);
  const link = `dev ${LINK.wireguard}`;
  const header = `dst_mac ${hostMac(id, "mo-dir-hs")} src_mac ${hostMac(id, "mo-dir-gw")}`;
  const whole = "match u8 0x45 0xff at 0 match u16 0 0x3fff at 6";
  const lead =
    `action vlan push_eth ${header} pipe action mirred egress redirect dev ${LINK.intrawireGateway}`;
  const filters = Object.values(PROTOCOLS).flatMap((protocol) => {
    const own = `match u8 ${protocol} 0xff at 9`;
    const begins = `${own} match u8 ${hex(FLAGS.syn)} ${
      hex(FLAGS.syn)
    } at ${FLAGS.offset} ${whole} action pass`;
    return [
      ...(protocol === PROTOCOLS.tcp ? [begins] : []),
      ...MAY_BE_TRANSLATED.map(([port, mask]) =>
        `${own} match u16 ${hex(port)} ${hex(mask)} at 22 ${whole} action pass`
      ),
      `${own} match ip dst ${intrawire}/32 match ip src ${NETWORKS.intrawire} ${whole} ${lead}`,
    ];
  });
  const lines = filters.map((filter, index) =>
    `filter add ${link} ingress prio ${index + 1} protocol ip u32 ${filter}`
  );
  return `${[`qdisc add ${link} clsact`, ...lines].join("\n")}\n`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
