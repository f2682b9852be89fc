/**
 * The gateway's dnsmasq: its configuration and its hosts file. Pure.
 */
import { hostAddresses } from "../address.ts";
import type { Baseline } from "../facts.ts";
import type { HostConfig } from "../fleet.ts";
import { LINK } from "../net/network.ts";
import { RUN_DIR } from "../net/seen.ts";
import { HEADER } from "./header.ts";

/** Where the configuration files of our daemons lie on a host. */
export const ETC_DIR = "/opt/mobula/etc";

/** Asked where the host had no resolver of its own. */
const FALLBACK_RESOLVERS = ["9.9.9.9", "1.1.1.1"];

/** dnsmasq's configuration: answers on the gateway's access address alone, asks the resolvers that the host had before. */
export function renderDnsmasq(id: number, baseline: Pick<Baseline, "resolvers">): string {
  const upstream = baseline.resolvers.length > 0 ? baseline.resolvers : FALLBACK_RESOLVERS;
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
    "no-resolv",
    "no-poll",
    ...upstream.map((address) => `server=${address}`),
    "domain-needed",
    "bogus-priv",
    "cache-size=2000",
    `pid-file=${RUN_DIR}/dnsmasq.pid`,
    "",
  ].join("\n");
}

/** The names of the network: every host's at its access address, and the extra ones. */
export function renderHosts(config: HostConfig): string {
  return [
    HEADER,
    ...config.hosts.map(({ id, hostname }) => `${hostAddresses(id).access} ${hostname}`),
    ...config.extraHosts.map(({ address, hostname }) => `${address} ${hostname}`),
    "",
  ].join("\n");
}
