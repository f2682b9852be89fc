/**
 * What one host is told of the configuration, and the same checked again when it arrives there. Pure.
 */
import * as z from "zod";
import { inNetwork, MAX_HOST_ID, MIN_HOST_ID, NETWORKS } from "./address.ts";
import {
  BFD_INTERVAL,
  BFD_MULTIPLIER,
  FLOOD_LIMIT,
  isAccessAddress,
  isExternalAddress,
  isHostname,
} from "./config/kinds.ts";
import { DEFAULT_SWITCHING } from "./config/switching.ts";
import { HostError } from "./errors.ts";
import type { Fleet, HostConfig, PeerHost } from "./fleet.ts";
import { portOf } from "./forward.ts";
import { isKey } from "./keys.ts";
import { oncePer } from "./remember.ts";
import "./zod_english.ts";

/** Smallest and largest underlay MTU (bytes) that a network is built on. */
const UNDERLAY_MTU = [1280, 65535] as const;

/** What every host is told of the others: one list for all hosts of a fleet, so that what depends on it alone is computed once. */
const peersOf = oncePer((pubkeys: Pubkeys) =>
  oncePer((hosts: Fleet["hosts"]): readonly PeerHost[] =>
    hosts.map(({ address, id, hostname, access, pinnedKeys }) => {
      const publicKey = pinnedKeys?.publicKey ?? pubkeys.get(address)?.publicKey;
      return {
        address,
        id,
        hostname,
        ...(publicKey === undefined ? {} : { publicKey }),
        ...(access === "none" ? { access } : {}),
      };
    })
  )
);

/** Public keys by external address. */
type Pubkeys = ReadonlyMap<string, { readonly publicKey: string }>;

/**
 * What host `id` is told: everything public of the fleet. Pinned keys win over `pubkeys` (by external address), `mobula_mtu` wins
 * over `underlayMtu` (the smallest of the fleet, bytes). Neither `fleet` nor `pubkeys` may be changed
 * afterwards: what is the same for all hosts is computed once.
 */
export function hostConfigFor(
  fleet: Fleet,
  id: number,
  pubkeys: Pubkeys,
  underlayMtu: number,
): HostConfig {
  const self = fleet.hosts.find((host) => host.id === id);
  if (!self) throw new RangeError(`Cannot configure host: id ${id}; expected the id of a host of the fleet`);
  return {
    schema: 1,
    self: id,
    access: self.access,
    underlayMtu: fleet.underlayMtu ?? underlayMtu,
    switching: fleet.switching,
    hosts: peersOf(pubkeys)(fleet.hosts),
    extraHosts: fleet.extraHosts,
    extraWires: fleet.extraWires,
    ...(self.forward ? { forward: self.forward } : {}),
    ...(self.preserveServices ? { preserveServices: true } : {}),
    ...(self.egress ? { egress: self.egress } : {}),
  };
}

const hostId = z.int().min(MIN_HOST_ID).max(MAX_HOST_ID);
const hostname = z.string().refine(isHostname, "expected a host name");
const publicKey = z.string().refine(isKey, "expected a WireGuard key");
const inside = (network: string) =>
  z.string().refine((text) => inNetwork(text, network), `expected inside ${network}`);

const port = z.int().min(1).max(65535);

const SWITCHING = z.object({
  mode: z.enum(["direct", "tree"]),
  bfdInterval: z.int().min(BFD_INTERVAL[0]).max(BFD_INTERVAL[1]),
  bfdMultiplier: z.int().min(BFD_MULTIPLIER[0]).max(BFD_MULTIPLIER[1]),
  floodLimit: z.int().min(FLOOD_LIMIT[0]).max(FLOOD_LIMIT[1]),
});

const HOST_CONFIG = z.object({
  schema: z.literal(1),
  self: hostId,
  access: z.enum(["none", "auto"]),
  underlayMtu: z.int().min(UNDERLAY_MTU[0]).max(UNDERLAY_MTU[1]),
  // A generation from before there was a choice.
  switching: SWITCHING.default({ ...DEFAULT_SWITCHING, mode: "tree" }),
  hosts: z.array(z.object({
    address: z.string().refine(isExternalAddress, "expected an external IPv4 address"),
    id: hostId,
    hostname,
    publicKey: publicKey.optional(),
    access: z.literal("none").optional(),
  })),
  extraHosts: z.array(z.object({
    address: z.string().refine(isAccessAddress, `expected inside ${NETWORKS.access}`),
    hostname,
  })),
  extraWires: z.array(z.object({ address: inside(NETWORKS.extrawire), publicKey })),
  forward: z.array(z.object({ external: port, internal: port, protocol: z.enum(["tcp", "udp"]) }))
    .optional(),
  preserveServices: z.boolean().optional(),
  egress: z.object({
    probes: z.array(z.string().refine(isExternalAddress, "expected an external IPv4 address")).min(1).max(4),
  }).optional(),
}).superRefine((config, context) => {
  const unique = (what: string, values: readonly (string | number)[]) => {
    if (new Set(values).size < values.length) context.addIssue(`expected each ${what} once`);
  };
  const { hosts, extraHosts, extraWires, forward = [] } = config;
  if (!hosts.some(({ id }) => id === config.self)) context.addIssue("expected this host among hosts");
  unique("id", hosts.map(({ id }) => id));
  unique("forwarded port", forward.map(portOf));
  unique("address", [...hosts, ...extraHosts, ...extraWires].map(({ address }) => address));
  unique("host name", [...hosts, ...extraHosts].map(({ hostname }) => hostname.toLowerCase()));
  unique("key", [...hosts, ...extraWires].flatMap(({ publicKey }) => publicKey ?? []));
});

/** Checks a configuration as it arrives on a host; a HostError says everything that is wrong. What a newer version has added is left out. */
export function parseHostConfig(json: unknown): HostConfig {
  const result = HOST_CONFIG.safeParse(json);
  if (result.success) return result.data;
  const wrong = result.error.issues.slice(0, 10).map(({ path, message }) => [...path, message].join(": "));
  throw new HostError(
    `Cannot read host configuration: ${wrong.join("; ")}; push again with one version of mobula`,
  );
}
