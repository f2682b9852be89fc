/**
 * The address plan: every address and MAC of a host follows from its id. Pure arithmetic, no effects.
 */

/** Smallest and largest host id; an id takes 15 bits of the two last address bytes. */
export const MIN_HOST_ID = 1;
export const MAX_HOST_ID = 32767;

/** Bounds of the underlay's MTU, bytes: what IPv6 needs, and what NICs can do. */
export const MTU_RANGE = [1280, 9216] as const;
/** Bytes: a fleet takes no less than this from the NIC of a single host, unless hosts.yml says so. */
export const LEAST_TAKEN_MTU = 1400;

/** UDP port of WireGuard on every host's external address. */
export const WIREGUARD_PORT = 51820;

/** UDP port of the geneve tunnels; not the assigned 6081, so that other users of geneve never meet ours. */
export const GENEVE_PORT = 6254;

/** TCP port on which hosts and gateways listen to each other while a verification goes on, and only then. */
export const VERIFY_PORT = 6255;

/** UDP port of the tunnels in which a third host takes frames on: a port of its own, because their key says whom they are for. */
export const RELAY_PORT = 6256;

/** The three networks and the block of the tunnel endpoints, in CIDR notation. */
export const NETWORKS = {
  access: "10.31.0.0/16",
  intrawire: "10.30.0.0/17",
  extrawire: "10.30.128.0/17",
  /** Intrawire and extrawire together. */
  wire: "10.30.0.0/16",
  tunnel: "169.254.0.0/17",
} as const;

/** All addresses of one host, as dotted quads without a prefix length. */
export interface HostAddresses {
  /** The gateway's address on the access network. */
  readonly gateway: string;
  /** The host's own address on the access network (`veth_fac0`). */
  readonly access: string;
  /** The host's address on the intrawire network (`mo-dir-hs`). */
  readonly intrawire: string;
  /** The tunnel's inner end on the WireGuard link, never seen outside the gateway. */
  readonly tunnel: string;
}

/** The addresses of host `id` (1..32767); a RangeError for anything else. */
export function hostAddresses(id: number): HostAddresses {
  return known.get(id) ?? remember(id, computeAddresses(id));
}

/** Every host of a fleet asks for every other one's addresses: computed once each, at most 32767 times. */
const known = new Map<number, HostAddresses>();

function remember(id: number, addresses: HostAddresses): HostAddresses {
  known.set(id, addresses);
  return addresses;
}

function computeAddresses(id: number): HostAddresses {
  const [hi, lo] = idBytes(id);
  return {
    gateway: `10.31.${hi}.${lo}`,
    access: `10.31.${hi + 128}.${lo}`,
    intrawire: `10.30.${hi}.${lo}`,
    tunnel: `169.254.${hi}.${lo}`,
  };
}

/** Our links by role; the number is the last byte of the link's MAC. */
const MAC_ROLES = {
  gateway: 0x01,
  veth_fac0: 0x02,
  "mo-fac-ovs": 0x03,
  "mo-dir-hs": 0x04,
  "mo-dir-gw": 0x05,
  veth_ext: 0x06,
  "mo-mid-gw": 0x07,
  "mo-und-sw": 0x08,
  "mo-und-gw": 0x09,
  "br-und": 0x0a,
  "mo-gw-ovs": 0x0b,
  bridge: 0x0c,
} as const;

/** A link that has a MAC of ours. */
export type MacRole = keyof typeof MAC_ROLES;

/** The locally administered MAC of a link: `02:6d:6f:<hi>:<lo>:<role>`, so adding a link never changes another's. */
export function hostMac(id: number, role: MacRole): string {
  return [0x02, 0x6d, 0x6f, ...idBytes(id), MAC_ROLES[role]]
    .map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** Parses a dotted quad strictly (no leading zeros, four parts) into its 32 bits, or undefined. */
export function parseIpv4(text: string): number | undefined {
  if (!/^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/.test(text)) return undefined;
  const bytes = text.split(".").map(Number);
  if (bytes.some((byte) => byte > 255)) return undefined;
  return bytes.reduce((sum, byte) => sum * 256 + byte, 0);
}

/** A block of addresses: its first one, and how many there are. */
export interface Block {
  readonly first: number;
  readonly size: number;
}

/** Parses CIDR notation (an address alone is a block of one), or undefined. */
export function parseBlock(cidr: string): Block | undefined {
  const [base = "", bits = "32"] = cidr.split("/");
  const address = parseIpv4(base);
  const size = 2 ** (32 - Number(bits));
  return address === undefined ? undefined : { first: Math.floor(address / size) * size, size };
}

/** Whether the address (its 32 bits) lies in the block. */
export function inBlock(address: number, { first, size }: Block): boolean {
  return Math.floor(address / size) * size === first;
}

/** Whether `address` (dotted quad) lies in `cidr`; false for text that is not an address. */
export function inNetwork(address: string, cidr: string): boolean {
  const [number, block] = [parseIpv4(address), parseBlock(cidr)];
  return number !== undefined && block !== undefined && inBlock(number, block);
}

/** Bytes WireGuard adds to a packet whose endpoint is IPv4 or IPv6 (outer headers, type, counter, tag). */
const WIREGUARD_OVERHEAD = { ipv4: 60, ipv6: 80 } as const;
/** Bytes of geneve over IPv4 (IP 20, UDP 8, geneve 8, inner Ethernet 14) and of one VLAN tag. */
const GENEVE_OVERHEAD = 50;
const VLAN_TAG = 4;

/** The MTUs (bytes) that follow from the smallest underlay MTU of the fleet. */
export interface Mtus {
  readonly wireguard: number;
  readonly access: number;
}

/** Computes the inner MTUs, so that a VLAN-tagged frame of full size is never fragmented. */
export function innerMtus(underlay: number, endpoint: "ipv4" | "ipv6" = "ipv4"): Mtus {
  const wireguard = underlay - WIREGUARD_OVERHEAD[endpoint];
  return { wireguard, access: wireguard - GENEVE_OVERHEAD - VLAN_TAG };
}

function idBytes(id: number): [number, number] {
  if (!Number.isInteger(id) || id < MIN_HOST_ID || id > MAX_HOST_ID) {
    throw new RangeError(
      `Cannot number host: id ${id}; expected a whole number from ${MIN_HOST_ID} to ${MAX_HOST_ID}`,
    );
  }
  return [id >> 8, id & 255];
}
