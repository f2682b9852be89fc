/**
 * The network as it was before mobula: what `ip` and the resolver files say → Baseline. Pure.
 */
import { HostError } from "../errors.ts";
import type { Baseline, BaselineRoute, NetworkManager } from "../facts.ts";

/** The read-only script whose output `parseBaseline` takes. */
export const BASELINE_SCRIPT = `
PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH LC_ALL=C
echo "@@links"; ip -j -d addr show
echo "@@routes"; ip -j route show
echo "@@routes6"; ip -j -6 route show
echo "@@link"; readlink /etc/resolv.conf
echo "@@resolv"; cat /etc/resolv.conf 2>/dev/null
echo "@@resolved"; cat /run/systemd/resolve/resolv.conf 2>/dev/null
echo "@@managers"
systemctl is-active --quiet systemd-networkd.service && echo networkd
systemctl is-active --quiet NetworkManager.service && echo NetworkManager
[ -e /etc/network/interfaces ] && command -v ifup >/dev/null && echo ifupdown
echo "@@interfaces"; cat /etc/network/interfaces 2>/dev/null
exit 0
`;

interface IpLink {
  readonly ifname: string;
  readonly address: string;
  readonly permaddr?: string;
  readonly mtu: number;
  readonly linkinfo?: { readonly info_kind?: string };
  readonly addr_info: readonly {
    family: string;
    local: string;
    prefixlen: number;
    scope: string;
    temporary?: boolean;
  }[];
}

interface IpRoute {
  readonly dst: string;
  readonly dev?: string;
  readonly gateway?: string;
  readonly metric?: number;
  readonly protocol?: string;
  readonly flags?: readonly string[];
}

/** Link kinds that cannot be moved into another namespace. */
const IMMOBILE = ["bridge", "bond", "vlan", "team", "openvswitch"];

/** Reads the script's output; HostError where there is no external interface that could move. */
export function parseBaseline(output: string, sshPort: number): Baseline {
  const text = (name: string) => section(output, name);
  const routes = json<IpRoute>(text("routes"));
  const device = routes.find((route) => route.dst === "default")?.dev;
  if (!device) {
    throw new HostError(
      "Cannot find the external interface: no IPv4 default route; expected one through the network card",
    );
  }
  const link = json<IpLink>(text("links")).find(({ ifname }) => ifname === device);
  if (!link) {
    throw new HostError(
      `Cannot find the external interface: ${device} is not among the links; see \`ip link\``,
    );
  }
  const kind = link.linkinfo?.info_kind ?? "";
  if (IMMOBILE.includes(kind)) {
    throw new HostError(
      `Cannot take over the external interface: ${device} is a ${kind}; expected a network card of its own`,
    );
  }
  const resolv = text("resolv");
  return {
    schema: 1,
    interface: device,
    mac: (link.permaddr ?? link.address).toLowerCase(),
    mtu: link.mtu,
    addresses: link.addr_info.filter(({ scope, temporary }) => scope === "global" && !temporary)
      .map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    routes: [
      ...readRoutes(routes, device, "inet"),
      ...readRoutes(json<IpRoute>(text("routes6")), device, "inet6"),
    ],
    resolvers: readResolvers(resolv, text("resolved")),
    search: words(resolv, "search"),
    resolvConf: text("link").trim() === "" ? { text: resolv } : { link: text("link").trim() },
    sshPort,
    managers: text("managers").split("\n").filter((name) => name !== "") as NetworkManager[],
    ...(text("managers").includes("ifupdown") ? { interfaces: text("interfaces") } : {}),
  };
}

function section(output: string, name: string): string {
  const start = `\n@@${name}\n`;
  const from = `\n${output}`.indexOf(start);
  if (from < 0) return "";
  const rest = `\n${output}`.slice(from + start.length);
  const end = rest.search(/^@@[a-z0-9]+$/m);
  return end < 0 ? rest : rest.slice(0, end);
}

function json<T>(text: string): T[] {
  return text.trim() === "" ? [] : JSON.parse(text) as T[];
}

/** What the kernel makes of the addresses by itself is left out. */
function readRoutes(
  routes: readonly IpRoute[],
  device: string,
  family: BaselineRoute["family"],
): BaselineRoute[] {
  return routes.filter((route) =>
    route.dev === device && route.protocol !== "kernel" && !route.dst.startsWith("fe80:")
  )
    .map(({ dst, gateway, metric, flags }) => ({
      family,
      destination: dst,
      ...(gateway ? { via: gateway } : {}),
      ...(metric ? { metric } : {}),
      ...(flags?.includes("onlink") ? { onlink: true } : {}),
    }));
}

/** The resolvers of resolv.conf, or, where these are only a stub on the host itself, those behind systemd-resolved. */
function readResolvers(resolv: string, resolved: string): string[] {
  const usable = (text: string) =>
    words(text, "nameserver").filter((address) =>
      !address.startsWith("127.") && address !== "::1" && !address.includes("%")
    );
  const direct = usable(resolv);
  return direct.length > 0 ? direct : usable(resolved);
}

function words(text: string, keyword: string): string[] {
  return text.split("\n").map((line) => line.trim().split(/\s+/)).filter(([first]) => first === keyword)
    .flatMap((line) => line.slice(1));
}
