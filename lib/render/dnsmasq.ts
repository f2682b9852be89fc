/**
 * The gateway's dnsmasq: its configuration and its hosts file. Pure.
 */
import { hostAddresses } from "../address.ts";
import type { Baseline } from "../facts.ts";
import type { HostConfig } from "../fleet.ts";
import { LINK } from "../net/network.ts";
import { RUN_DIR } from "../net/seen.ts";
import { oncePer } from "../remember.ts";
import { HEADER } from "./header.ts";

/** Where the configuration files of our daemons lie on a host. */
export const ETC_DIR = "/opt/mobula/etc";

/** Asked where the host had no resolver of its own. */
const FALLBACK_RESOLVERS = ["9.9.9.9", "1.1.1.1"];

/** Whom dnsmasq asks at the moment, where that may be another host's gateway; run-egress writes it. */
export const UPSTREAM_FILE = `${RUN_DIR}/upstream.conf`;

/** Whom dnsmasq asks: the resolvers that the host had before. */
export function upstreamOf({ resolvers }: Pick<Baseline, "resolvers">): readonly string[] {
  return resolvers.length > 0 ? resolvers : FALLBACK_RESOLVERS;
}

/** dnsmasq's configuration: answers on the gateway's access address alone. */
export function renderDnsmasq(
  { self: id, egress }: Pick<HostConfig, "self" | "egress">,
  baseline: Pick<Baseline, "resolvers">,
): string {
  const upstream = upstreamOf(baseline).map((address) => `server=${address}`);
  return [
    HEADER,
    `listen-address=${hostAddresses(id).gateway}`,
    `interface=${LINK.switch}`,
    "except-interface=lo",
    // The address comes and goes with the switch: bind to it whenever it is there, and to nothing else.
    "bind-dynamic",
    "no-dhcp-interface=*",
    "no-hosts",
    `addn-hosts=${ETC_DIR}/hosts`,
    egress ? `resolv-file=${UPSTREAM_FILE}` : "no-resolv",
    "no-poll",
    ...egress ? [] : upstream,
    "domain-needed",
    "bogus-priv",
    "cache-size=2000",
    // Who can write it names the process that root would signal.
    "pid-file=",
    "",
  ].join("\n");
}

/** The names of the network: every host's at its access address, and the extra ones. */
export function renderHosts({ hosts, extraHosts }: Pick<HostConfig, "hosts" | "extraHosts">): string {
  return namesOf(hosts)(extraHosts);
}

/** The same text for all hosts of a fleet. */
const namesOf = oncePer((hosts: HostConfig["hosts"]) =>
  oncePer((extraHosts: HostConfig["extraHosts"]) =>
    [
      HEADER,
      ...hosts.map(({ id, hostname }) => `${hostAddresses(id).access} ${hostname}`),
      ...extraHosts.map(({ address, hostname }) => `${address} ${hostname}`),
      "",
    ].join("\n")
  )
);
