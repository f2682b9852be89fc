/**
 * Files that make the host's network managers let go of the external interface and leave our links alone. Pure.
 */
import type { Baseline } from "../facts.ts";
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
  ifupdown: renderIfupdown,
} as const;

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

/** The words of interfaces(5) that begin a stanza, and so end the one before. */
const STANZA = /^(iface|auto|mapping|source|source-directory|rename|no-auto-down|no-scripts|allow-.+)$/;

/** interfaces(5): the stanzas of the external interface and its aliases become comments; everything else stays. */
function renderIfupdown({ interface: nic, interfaces }: Baseline): WantedFile[] {
  if (interfaces === undefined) return [];
  const isNic = (name = "") => name === nic || name.startsWith(`${nic}:`);
  let inside = false;
  const lines = extendedLines(interfaces).flatMap((lines) => {
    const [keyword = "", ...names] = wordsOf(lines);
    if (keyword === "" || keyword.startsWith("#")) return lines;
    if (STANZA.test(keyword)) inside = keyword === "iface" && isNic(names[0]);
    if (/^(auto|allow-.+)$/.test(keyword) && names.some(isNic)) {
      const others = names.filter((name) => !isNic(name));
      if (others.length > 0) return [[keyword, ...others].join(" ")];
      return lines.map(commentOut);
    }
    return inside ? lines.map(commentOut) : lines;
  });
  return [{ path: "/etc/network/interfaces", content: lines.join("\n") }];
}

/** A backslash at its end extends a line, unless that is a comment. */
function extendedLines(text: string): string[][] {
  const groups: string[][] = [];
  let open = false;
  for (const line of text.split("\n")) {
    if (open) groups.at(-1)?.push(line);
    else groups.push([line]);
    open = line.endsWith("\\") && (open || !/^\s*#/.test(line));
  }
  return groups;
}

function wordsOf(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(/\\$/, "")).join("").trim().split(/\s+/);
}

function commentOut(line: string): string {
  return `#mobula# ${line}`;
}
