/**
 * All files of a host, in one list. Pure.
 */
import type { HostInput } from "../net/wanted.ts";
import type { WantedFile } from "../step.ts";
import { renderBridgeFilterRule } from "./bridge_filter.ts";
import { ETC_DIR, renderDnsmasq, renderHosts } from "./dnsmasq.ts";
import { renderHandover } from "./handover.ts";
import { HEADER } from "./header.ts";
import { EGRESS_FILE, renderEgress } from "./egress.ts";
import { renderManagers } from "./managers.ts";
import { renderResolvers } from "./resolver.ts";
import { renderRestore } from "./restore.ts";
import { renderRestoreNic } from "./restore_nic.ts";
import { renderNicRule } from "./udev.ts";
import { HANDOVER_FILE, RESTORE_FILE } from "./switch_programs.ts";
import { renderUnits } from "./units.ts";

/** Every file that mobula owns or changes on a host, sorted by path; equal input, equal bytes. */
export function renderFiles(input: HostInput): WantedFile[] {
  const { config, baseline, capabilities } = input;
  const files = [
    ...renderUnits(capabilities),
    renderRestoreNic(baseline),
    { path: `${ETC_DIR}/dnsmasq.conf`, content: renderDnsmasq(config, baseline) },
    { path: EGRESS_FILE, content: renderEgress(config, baseline) },
    { path: HANDOVER_FILE, content: renderHandover(config) },
    { path: `${ETC_DIR}/hosts`, content: renderHosts(config) },
    { path: RESTORE_FILE, content: renderRestore(input) },
    ...renderManagers(baseline, config.access),
    ...renderResolvers(config, baseline),
    ...renderModules(capabilities),
    renderNicRule(baseline),
    renderBridgeFilterRule(),
  ];
  return files.sort((a, b) => a.path < b.path ? -1 : 1);
}

function renderModules({ wireguard, datapath }: HostInput["capabilities"]): WantedFile[] {
  const modules = [
    ...(wireguard === "kernel" ? ["wireguard"] : []),
    ...(datapath === "system" ? ["openvswitch", "geneve"] : []),
  ];
  if (modules.length === 0) return [];
  return [{ path: "/etc/modules-load.d/mobula.conf", content: [HEADER, ...modules, ""].join("\n") }];
}
