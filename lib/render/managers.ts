/**
 * Files that make the host's network managers let go of the external interface and leave our links alone. Pure.
 */
import type { Baseline, NetworkManager } from "../facts.ts";
import type { AccessMode } from "../fleet.ts";
import { externalVeth, LINK } from "../net/network.ts";
import type { WantedFile } from "../step.ts";
import { HEADER } from "./header.ts";

/** The files for every manager found on the host before mobula. */
export function renderManagers(baseline: Baseline, access: AccessMode): WantedFile[] {
  return baseline.managers.flatMap((manager) => RENDERERS[manager](baseline, ourLinks(baseline, access)));
}

const RENDERERS = {
  networkd: renderNetworkd,
  NetworkManager: renderNetworkManager,
  // Its files are the admin's and are only edited: see ifupdown.ts.
  ifupdown: () => [],
} as const;

/** Paths of a manager's files, whatever stands in them. */
export function managerFiles(manager: NetworkManager): string[] {
  const nobody: Baseline = {
    ...{ schema: 1, interface: "", mac: "", mtu: 0, addresses: [], routes: [], resolvers: [], search: [] },
    ...{ resolvConf: {}, sshPort: 22, managers: [manager] },
  };
  return renderManagers(nobody, "auto").map(({ path }) => path);
}

/** Our links on the host; `veth_fac0` only where it is not left to the admin. */
function ourLinks(baseline: Baseline, access: AccessMode): string[] {
  return [LINK.intrawire, externalVeth(baseline.interface), ...(access === "auto" ? [LINK.access] : [])];
}

/** systemd.network(5): the first file that matches wins, hence the 00. */
function renderNetworkd(baseline: Baseline, links: readonly string[]): WantedFile[] {
  return [
    {
      path: "/etc/systemd/network/00-mobula-nic.network",
      content: `${HEADER}\n[Match]\nMACAddress=${baseline.mac}\n\n[Link]\nUnmanaged=yes\n`,
    },
    {
      path: "/etc/systemd/network/00-mobula-links.network",
      content: `${HEADER}\n[Match]\nName=${links.join(" ")}\n\n[Link]\nUnmanaged=yes\n`,
    },
    {
      path: "/etc/systemd/networkd.conf.d/90-mobula.conf",
      content: `${HEADER}\n[Network]\nManageForeignRoutingPolicyRules=no\nManageForeignRoutes=no\n`,
    },
    {
      // Without it the boot waits two minutes for an interface that never comes back.
      path: "/etc/systemd/system/systemd-networkd-wait-online.service.d/zz-mobula.conf",
      content:
        `${HEADER}\n[Service]\nExecStart=\nExecStart=-/lib/systemd/systemd-networkd-wait-online --any --timeout=5\n`,
    },
  ];
}

function renderNetworkManager(baseline: Baseline, links: readonly string[]): WantedFile[] {
  const devices = [`mac:${baseline.mac}`, ...links.map((name) => `interface-name:${name}`)].join(";");
  return [{
    path: "/etc/NetworkManager/conf.d/90-mobula.conf",
    content: `${HEADER}\n[keyfile]\nunmanaged-devices+=${devices}\n`,
  }];
}
