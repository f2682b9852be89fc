/**
 * What comes from other hosts for this host's own intrawire address, led straight from WireGuard to the host, as orders for `tc -batch`.
 * Pure.
 */
import { hostAddresses, hostMac, TRANSLATED_PORT } from "../address.ts";
import { LINK } from "../net/network.ts";

/** IANA's protocol numbers. */
const PROTOCOLS = { tcp: 6, udp: 17 } as const;

/**
 * Routing, packet filter and neighbours of the gateway would let such a packet pass unchanged: the filter accepts whatever comes that way,
 * and nobody keeps track of it (`renderNftables`). So it is given the header that it would get, and put on the host's link. Left to the
 * usual way are what answers a translated packet, whose port says so, parts of larger packets, and packets with options, whose ports are
 * elsewhere. Offsets are those of IPv4 and of TCP and UDP: RFC 791, 3.1, RFC 9293, 3.1.
 */
export function renderShortcut(id: number): string {
  const { intrawire } = hostAddresses(id);
  const link = `dev ${LINK.wireguard}`;
  const header = `dst_mac ${hostMac(id, "mo-dir-hs")} src_mac ${hostMac(id, "mo-dir-gw")}`;
  const lines = Object.values(PROTOCOLS).flatMap((protocol, index) => {
    const filter = (preference: number) =>
      `filter add ${link} ingress prio ${preference} protocol ip u32 match u8 ${protocol} 0xff at 9`;
    const whole = "match u8 0x45 0xff at 0 match u16 0 0x3fff at 6";
    const own = `match ip dst ${intrawire}/32`;
    const translated = `match u16 ${hex(TRANSLATED_PORT)} ${hex(TRANSLATED_PORT)} at 22`;
    const lead =
      `action vlan push_eth ${header} pipe action mirred egress redirect dev ${LINK.intrawireGateway}`;
    const first = 2 * index + 1;
    return [
      `${filter(first)} ${translated} ${whole} action pass`,
      `${filter(first + 1)} ${own} ${whole} ${lead}`,
    ];
  });
  return `${[`qdisc add ${link} clsact`, ...lines].join("\n")}\n`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
