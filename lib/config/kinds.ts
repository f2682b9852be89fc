/**
 * The kinds of value that the configuration knows: what each accepts, and how a message names it. Pure.
 */
import {
  inBlock,
  inNetwork,
  MAX_HOST_ID,
  MIN_HOST_ID,
  MTU_RANGE,
  NETWORKS,
  parseBlock,
  parseIpv4,
} from "../address.ts";
import type { AccessMode, Switching } from "../fleet.ts";
import { isKey } from "../keys.ts";
import { Secret } from "../secret.ts";

/** One kind of value. */
export interface Kind<T> {
  /** Completes "expected …". */
  readonly wanted: string;
  /** The checked value, or undefined for one of another kind. */
  readonly parse: (value: unknown) => T | undefined;
  /** Never show the value found. */
  readonly secret?: boolean;
}

/** Bounds of the access network's settings: milliseconds, packets, packets per second. */
export const BFD_INTERVAL = [20, 10_000] as const;
export const BFD_MULTIPLIER = [2, 20] as const;
export const FLOOD_LIMIT = [10, 1_000_000] as const;
/** Blocks that no host can have as its external address, with the reason. */
const NOT_EXTERNAL = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/3",
  NETWORKS.wire,
  NETWORKS.access,
].map((cidr) => parseBlock(cidr)!);

const YES = ["yes", "true", "on", "1"];
const NO = ["no", "false", "off", "0"];

export const hostId: Kind<number> = integer(MIN_HOST_ID, MAX_HOST_ID);
export const mtu: Kind<number> = integer(...MTU_RANGE);
export const switchingMode: Kind<Switching["mode"]> = oneOf("direct", "tree");
export const bfdInterval: Kind<number> = integer(...BFD_INTERVAL);
export const bfdMultiplier: Kind<number> = integer(...BFD_MULTIPLIER);
export const floodLimit: Kind<number> = integer(...FLOOD_LIMIT);
/** Ansible takes a port in quotes, too. */
export const port: Kind<number> = {
  ...integer(1, 65535),
  parse: (value) => integer(1, 65535).parse(isText(value) && /^\d{1,5}$/.test(value) ? Number(value) : value),
};
export const hostname: Kind<string> = text(
  "a host name of letters, digits, hyphens and dots that does not end in a number",
  isHostname,
);
export const accessMode: Kind<AccessMode> = oneOf("none", "auto");
export const egressMode: Kind<"own" | "failover"> = oneOf("own", "failover");
/** So many addresses are asked at most. */
const PROBES = 4;
export const egressProbes: Kind<readonly string[]> = {
  wanted: `a list of 1 to ${PROBES} IPv4 addresses on the Internet that answer a ping`,
  parse: (value) =>
    Array.isArray(value) && value.length >= 1 && value.length <= PROBES &&
      value.every((one) => isText(one) && isExternalAddress(one))
      ? value
      : undefined,
};
export const keysMode: Kind<"keep" | "rotate"> = oneOf("keep", "rotate");
export const externalAddress: Kind<string> = text(
  `an IPv4 address that other hosts can reach, outside of ${NETWORKS.wire} and ${NETWORKS.access}`,
  isExternalAddress,
);
export const publicKey: Kind<string> = text("a WireGuard key (32 bytes in base64, 44 characters)", isKey);
export const privateKey: Kind<Secret> = {
  wanted: publicKey.wanted,
  secret: true,
  parse: (value) => isText(value) && isKey(value) ? new Secret(value) : undefined,
};
/** Stands on a command line of ssh. */
export const sshHost: Kind<string> = text(
  "a host name or an address",
  (value) =>
    /^\w[\w.-]{0,252}$/.test(value) ||
    /^[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*(%[\w.-]{1,15})?$/.test(value),
);
/** Stands on a command line of ssh. */
export const sshUser: Kind<string> = text(
  "a user name of letters, digits, dots, hyphens and underscores",
  (value) => /^\w[\w.-]{0,63}$/.test(value),
);
/** Stands on a command line of ssh. */
export const identityFile: Kind<string> = text(
  "a path of letters, digits and ~/._+@,=:- only",
  (value) => /^[\w.~/][\w.~/+@,=:-]{0,1023}$/.test(value),
);
export const yesNo: Kind<boolean> = {
  wanted: "yes or no",
  parse: (value) => {
    const word = String(value).toLowerCase();
    return YES.includes(word) ? true : NO.includes(word) ? false : undefined;
  },
};

/** Whether a text is a host name after RFC 1123 that cannot be mistaken for an address. */
export function isHostname(name: string): boolean {
  const labels = name.split(".");
  return name.length <= 253 && labels.every((label) => /^[a-z\d]([a-z\d-]{0,61}[a-z\d])?$/i.test(label)) &&
    !/^\d+$/.test(labels.at(-1) ?? "") && labels.at(-1)?.toLowerCase() !== "localhost";
}

/** Whether a text is an IPv4 address that a host can have on the Internet or a private network. */
export function isExternalAddress(address: string): boolean {
  const number = parseIpv4(address);
  return number !== undefined && !NOT_EXTERNAL.some((block) => inBlock(number, block));
}

/** Whether a text is an address inside the access network, neither its first nor its last. */
export function isAccessAddress(address: string): boolean {
  return inNetwork(address, NETWORKS.access) && address !== "10.31.0.0" && address !== "10.31.255.255";
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function text(wanted: string, accepts: (value: string) => boolean): Kind<string> {
  return { wanted, parse: (value) => isText(value) && accepts(value) ? value : undefined };
}

function integer(least: number, most: number): Kind<number> {
  return {
    wanted: `a whole number from ${least} to ${most}`,
    parse: (value) =>
      typeof value === "number" && Number.isInteger(value) && value >= least && value <= most
        ? value
        : undefined,
  };
}

function oneOf<T extends string>(...words: readonly T[]): Kind<T> {
  return { wanted: words.join(" or "), parse: (value) => words.find((word) => word === value) };
}
