/**
 * The resolver of the host and that of the gateway. Pure.
 */
import { hostAddresses } from "../address.ts";
import type { Baseline } from "../facts.ts";
import type { HostConfig } from "../fleet.ts";
import type { WantedFile } from "../step.ts";
import { HEADER } from "./header.ts";

/** Path of resolved's drop-in; a change there needs a restart of systemd-resolved. */
export const RESOLVED_DROP_IN = "/etc/systemd/resolved.conf.d/90-mobula.conf";

/** The gateway's tools keep the resolvers of before; the host asks its gateway, if its access is configured by us. */
export function renderResolvers(config: HostConfig, baseline: Baseline): WantedFile[] {
  const gateway: WantedFile = {
    path: "/etc/netns/mobula/resolv.conf",
    content: resolvConf(baseline.resolvers, baseline.search),
  };
  if (config.access !== "auto") return [gateway];
  const { gateway: server } = hostAddresses(config.self);
  if (/systemd\/resolve/.test(baseline.resolvConf.link ?? "")) {
    const content = `${HEADER}\n[Resolve]\nDNS=${server}\nDomains=~.\nDNSSEC=no\n`;
    return [gateway, { path: RESOLVED_DROP_IN, content }];
  }
  return [gateway, { path: "/etc/resolv.conf", content: resolvConf([server], baseline.search) }];
}

/** resolv.conf(5) */
function resolvConf(servers: readonly string[], search: readonly string[]): string {
  return [
    HEADER,
    ...servers.map((address) => `nameserver ${address}`),
    // A resolver that restarts is away for a moment: ask again sooner than after the usual five seconds.
    "options timeout:2 attempts:3",
    ...(search.length > 0 ? [`search ${search.join(" ")}`] : []),
    "",
  ].join("\n");
}
