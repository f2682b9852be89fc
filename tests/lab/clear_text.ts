/**
 * What must never be on the underlay in clear: tunnels' packets, inner addresses, inner frames, the payload of a probe. Pure.
 */
import { GENEVE_PORT, inNetwork, NETWORKS } from "../../lib/address.ts";
import type { Frame } from "./capture.ts";

/** The payload of every probe; ping(8) takes 16 bytes. */
export const MARKER = "mobula-marker-16";

/** The same in the form of ping's option -p. */
export const MARKER_HEX = [...new TextEncoder().encode(MARKER)].map((byte) =>
  byte.toString(16).padStart(2, "0")
)
  .join("");

/** The standard's port, should anything ever fall back to it (RFC 8926). */
const TUNNEL_PORTS = [GENEVE_PORT, 6081];
const INNER_NETWORKS = [NETWORKS.wire, NETWORKS.access, "169.254.0.0/16"];

const IPV4 = 0x0800;
const ARP = 0x0806;
const UDP = 17;

/** What of ours is in a frame for everybody to read, in words; empty for nothing. */
export function clearText(frame: Frame): string[] {
  const { type, payload } = frame;
  const { addresses, udpPorts } = type === IPV4
    ? readIpv4(payload)
    : { addresses: arpAddresses(frame), udpPorts: [] };
  const inner = addresses.filter((address) => INNER_NETWORKS.some((network) => inNetwork(address, network)));
  const ports = udpPorts.filter((port) => TUNNEL_PORTS.includes(port));
  const bytes = latin1(payload);
  return [
    ...inner.length === 0 ? [] : [`the addresses ${addresses.join(" > ")}`],
    ...ports.length === 0 ? [] : [`UDP port ${ports[0]} (${addresses.join(" > ")})`],
    ...bytes.includes(MARKER) ? [`the probe's payload (${addresses.join(" > ")})`] : [],
    ...hasInnerMac(bytes) ? [`an inner MAC address (${addresses.join(" > ")})`] : [],
  ];
}

/** Addresses and UDP ports that tell of mobula on the underlay; empty for nothing. */
export function restOfOurs(frame: Frame): string[] {
  const { addresses, udpPorts } = frame.type === IPV4
    ? readIpv4(frame.payload)
    : { addresses: [], udpPorts: [] };
  const wireguard = udpPorts.includes(WIREGUARD) ? [`WireGuard (${addresses.join(" > ")})`] : [];
  return [...clearText(frame), ...wireguard];
}

const WIREGUARD = 51820;

/** `02:6d:6f:<hi>:<lo>:<role>` of the lab's hosts: six bytes, too many to come about by chance in what is encrypted. */
function hasInnerMac(bytes: string): boolean {
  return bytes.split("\x02mo\x00").slice(1).some((rest) => {
    const [lo = 0, role = 0] = [rest.charCodeAt(0), rest.charCodeAt(1)];
    return lo >= 2 && lo <= 8 && role >= 1 && role <= 16;
  });
}

function latin1(bytes: Uint8Array): string {
  return new TextDecoder("latin1").decode(bytes);
}

/** RFC 791, RFC 768; only the first fragment has ports. */
function readIpv4(payload: Uint8Array): { addresses: string[]; udpPorts: number[] } {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  if (payload.length < 20) return { addresses: [], udpPorts: [] };
  const addresses = [ipv4(payload, 12), ipv4(payload, 16)];
  const header = (payload[0]! & 15) * 4;
  const isFirst = (view.getUint16(6) & 0x1fff) === 0;
  if (payload[9] !== UDP || !isFirst || payload.length < header + 8) return { addresses, udpPorts: [] };
  return { addresses, udpPorts: [view.getUint16(header), view.getUint16(header + 2)] };
}

/** RFC 826: sender and target. */
function arpAddresses({ type, payload }: Frame): string[] {
  return type === ARP && payload.length >= 28 ? [ipv4(payload, 14), ipv4(payload, 24)] : [];
}

function ipv4(bytes: Uint8Array, at: number): string {
  return bytes.subarray(at, at + 4).join(".");
}
