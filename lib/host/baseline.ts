/**
 * The network as it was before mobula: what `ip` and the resolver files say → Baseline. Pure.
 */
import { HostError } from "../errors.ts";
import type { Baseline, BaselineRoute, BaselineRule, NetworkManager, Policy } from "../facts.ts";
import { IMMOBILE } from "../net/external.ts";
import { LINK } from "../net/network.ts";
import { parseServices, SERVICES_SCRIPT } from "../net/services.ts";
import { RULE_PRIORITIES } from "../net/wanted.ts";

/** The part of it whose output `parsePolicy` takes. */
export const POLICY_SCRIPT = `
echo "@@policy routes"; ip -4 -j route show table all
echo "@@policy routes6"; ip -6 -j route show table all
echo "@@policy rules"; ip -4 rule show
echo "@@policy rules6"; ip -6 rule show
`;

/** The read-only script whose output `parseBaseline` takes. */
export const BASELINE_SCRIPT = `
PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH LC_ALL=C
echo "@@links"; ip -j -d addr show
${POLICY_SCRIPT}
# As it is, and one line break.
tell() { while IFS= read -r line; do printf '%s\\n' "$line"; done; printf '%s\\n' "$line"; }
echo "@@link"; readlink /etc/resolv.conf
echo "@@resolv"; { tell </etc/resolv.conf; } 2>/dev/null || echo
echo "@@resolved"; { tell </run/systemd/resolve/resolv.conf; } 2>/dev/null || echo
echo "@@managers"
{ read -r networkd; read -r manager; } <<STATES
$(systemctl is-active systemd-networkd.service NetworkManager.service)
STATES
[ "$networkd" != active ] || echo networkd
[ "$manager" != active ] || echo NetworkManager
[ -e /etc/network/interfaces ] && command -v ifup >/dev/null && echo ifupdown
for file in /etc/network/interfaces /etc/network/interfaces.d/*; do
  [ -f "$file" ] && { echo "@@interfaces $file"; tell <"$file"; }
done
echo "@@services"
told=$(${SERVICES_SCRIPT})
set -f
IFS='
'
[ -z "$told" ] || printf ' %s\\n' $told
exit 0
`;

interface IpLink {
  readonly ifname: string;
  readonly address?: string;
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
  /** Missing for `unicast`. */
  readonly type?: string;
  readonly dst: string;
  /** Missing for the main one. */
  readonly table?: string;
  /** Missing where a route has several next hops. */
  readonly dev?: string;
  readonly gateway?: string;
  readonly prefsrc?: string;
  /** A next hop of another address family. */
  readonly via?: unknown;
  readonly metric?: number;
  readonly protocol?: string;
  readonly flags?: readonly string[];
}

/** All that may stand in a file or a command line of ours; the kernel would take nearly everything. */
const INTERFACE_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,14}$/;
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;
const PROTOCOL = /^[a-z0-9]{1,16}$/;
const TABLE = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$/;
const RULE_WORDS = /^[A-Za-z0-9_:][A-Za-z0-9_.:/@+-]*( [A-Za-z0-9_:][A-Za-z0-9_.:/@+-]*)*$/;
const SEARCH_DOMAIN = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$/;
const MAIN_TABLE = "main";
const MANAGERS: readonly NetworkManager[] = ["networkd", "NetworkManager", "ifupdown"];

/** Reads the script's output; HostError where there is no external interface that could move. Odd values are refused or left out. */
export function parseBaseline(output: string, sshPort: number): Baseline {
  const text = (name: string) => section(output, name);
  const routes = mainRoutes(text("policy routes"));
  const link = externalLink(routes, json<IpLink>(text("links")));
  const resolv = fileText(output, "resolv");
  const managers = text("managers").split("\n");
  return {
    schema: 1,
    interface: link.ifname,
    mac: macOf(link),
    mtu: Number(link.mtu),
    addresses: readAddresses(link),
    routes: [
      ...readRoutes(routes, link.ifname, "inet"),
      ...readRoutes(mainRoutes(text("policy routes6")), link.ifname, "inet6"),
    ],
    ...parsePolicy(output, link.ifname),
    resolvers: readResolvers(resolv, text("resolved")),
    search: readSearch(resolv),
    resolvConf: text("link").trim() === "" ? { text: resolv } : { link: text("link").trim() },
    sshPort,
    managers: MANAGERS.filter((manager) => managers.includes(manager)),
    services: parseServices(text("services").split("\n"), {
      interface: link.ifname,
      addresses: readAddresses(link),
    }).filter(({ port, protocol }) => protocol !== "tcp" || port !== sshPort),
    ...(managers.includes("ifupdown") ? { interfaces: readInterfaces(output) } : {}),
  };
}

/** Reads what `POLICY_SCRIPT` says: the rules that are not ours, and the routes through this card in other tables. */
export function parsePolicy(output: string, card: string): Policy {
  return {
    tableRoutes: [
      ...readTableRoutes(section(output, "policy routes"), card, "inet"),
      ...readTableRoutes(section(output, "policy routes6"), card, "inet6"),
    ],
    rules: [
      ...readRules(section(output, "policy rules"), "inet"),
      ...readRules(section(output, "policy rules6"), "inet6"),
    ],
  };
}

/** Those of the main table, which `ip` does not name. */
function mainRoutes(text: string): IpRoute[] {
  return json<IpRoute>(text).filter(({ table = MAIN_TABLE }) => table === MAIN_TABLE);
}

/** The table that is the kernel's own, `local`, stays out. */
function readTableRoutes(text: string, card: string, family: BaselineRoute["family"]): Policy["tableRoutes"] {
  const routes = json<IpRoute>(text);
  const tables = new Set(routes.flatMap(({ table }) => table ?? []));
  return [...tables].filter((table) => table !== "local" && table !== MAIN_TABLE && TABLE.test(table))
    .flatMap((table) =>
      readRoutes(routes.filter((route) => route.table === table), card, family)
        .map((route) => ({ ...route, table }))
    );
}

const OUR_PRIORITIES: readonly number[] = Object.values(RULE_PRIORITIES);

/** `[detached]`: names a link that is not there; `[unresolved]`: a rule. What `ip` itself would not take again is left out. */
function readRules(text: string, family: BaselineRule["family"]): BaselineRule[] {
  return text.split("\n").flatMap((line) => {
    const [, priority, said = ""] = /^(\d+):\s+(.*)$/.exec(line) ?? [];
    const words = said.replaceAll(/\[(detached|unresolved)\]/g, "").trim().replaceAll(/\s+/g, " ");
    const isOurs = family === "inet" && OUR_PRIORITIES.includes(Number(priority));
    return RULE_WORDS.test(words) && !isOurs ? [{ family, priority: Number(priority), words }] : [];
  });
}

/** The link of the default route, if it is one that can be taken over. */
function externalLink(routes: readonly IpRoute[], links: readonly IpLink[]): IpLink {
  const device = defaultDevice(routes);
  const link = links.find(({ ifname }) => ifname === device);
  if (!link) {
    throw new HostError(
      `Cannot find the external interface: ${device} is not among the links; see \`ip link\``,
    );
  }
  const kind = link.linkinfo?.info_kind ?? "";
  if (IMMOBILE.includes(kind)) throw refusal(`${device} is a ${kind}`);
  if (!MAC.test(macOf(link))) throw refusal(`${device} has no Ethernet address`);
  if (!readAddresses(link).some((address) => address.includes("."))) {
    throw refusal(`${device} has no IPv4 address`);
  }
  return link;
}

/** `ip` lists the route with the smallest metric first. */
function defaultDevice(routes: readonly IpRoute[]): string {
  const route = routes.find(({ dst, type }) => dst === "default" && (type ?? "unicast") === "unicast");
  if (!route) {
    throw new HostError(
      "Cannot find the external interface: no IPv4 default route; expected one through the network card",
    );
  }
  const { dev, via } = route;
  if (!dev || via !== undefined) {
    throw refusal("the IPv4 default route has several next hops, or one that is not IPv4");
  }
  if (!INTERFACE_NAME.test(dev)) throw refusal(`its name is ${JSON.stringify(dev)}`);
  if (Object.values<string>(LINK).includes(dev)) {
    throw refusal(`the IPv4 default route is through ${dev}, which is mobula's own`);
  }
  return dev;
}

function refusal(found: string): HostError {
  return new HostError(
    `Cannot take over the external interface: ${found}; expected a network card of its own`,
  );
}

function macOf({ permaddr, address }: IpLink): string {
  return String(permaddr ?? address ?? "").toLowerCase();
}

function readAddresses({ addr_info }: IpLink): string[] {
  return addr_info.filter(({ scope, temporary }) => scope === "global" && !temporary)
    .map(({ local, prefixlen }) => `${local}/${prefixlen}`).filter(isNetwork);
}

/** Whether a text is an IPv4 or IPv6 address, with or without the length of its prefix. */
function isNetwork(text: string): boolean {
  const [address = "", bits = "0", ...more] = text.split("/");
  return isAddress(address) && /^\d{1,3}$/.test(bits) && more.length === 0;
}

/** An IPv6 address without a zone is what may stand in brackets in a URL; `node:net` takes longer to load than all the rest. */
function isAddress(text: string): boolean {
  const byte = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
  if (new RegExp(`^(?:${byte}\\.){3}${byte}$`).test(text)) return true;
  return /^[\da-fA-F:.]+$/.test(text) && URL.canParse(`http://[${text}]/`);
}

function section(output: string, name: string): string {
  const start = `\n@@${name}\n`;
  const from = `\n${output}`.indexOf(start);
  if (from < 0) return "";
  const rest = `\n${output}`.slice(from + start.length);
  const end = rest.search(/^@@[a-z0-9]+( \S+)?$/m);
  return end < 0 ? rest : rest.slice(0, end);
}

/** The text of a file: the script writes one line break behind it, for the file may end without one. */
function fileText(output: string, name: string): string {
  return section(output, name).replace(/\n$/, "");
}

/** Only names that ifupdown itself would read (interfaces(5), source-directory). */
function readInterfaces(output: string): Record<string, string> {
  const paths = [
    ...output.matchAll(/^@@interfaces (\/etc\/network\/interfaces(?:\.d\/[A-Za-z0-9_.-]+)?)$/gm),
  ];
  return Object.fromEntries(paths.map(([, path = ""]) => [path, fileText(output, `interfaces ${path}`)]));
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
  return routes
    .filter(({ type, dst, dev, gateway, protocol, via }) =>
      dev === device && protocol !== "kernel" && (type ?? "unicast") === "unicast" && via === undefined &&
      !dst.startsWith("fe80:") && (dst === "default" || isNetwork(dst)) &&
      (gateway === undefined || isAddress(gateway))
    )
    .map(({ dst, gateway, prefsrc, metric, flags, protocol = "boot" }) => ({
      family,
      destination: dst,
      ...(gateway ? { via: gateway } : {}),
      ...(prefsrc && isAddress(prefsrc) ? { source: prefsrc } : {}),
      ...(metric ? { metric: Number(metric) } : {}),
      ...(flags?.includes("onlink") ? { onlink: true } : {}),
      ...(protocol !== "boot" && PROTOCOL.test(protocol) ? { protocol } : {}),
    }));
}

/** The resolvers of resolv.conf, or, where these are only a stub on the host itself, those behind systemd-resolved. */
function readResolvers(resolv: string, resolved: string): string[] {
  const usable = (text: string) =>
    lines(text, ["nameserver"]).map(([address = ""]) => address)
      .filter((address) => isAddress(address) && !address.startsWith("127.") && address !== "::1");
  const direct = usable(resolv);
  return direct.length > 0 ? direct : usable(resolved);
}

/** resolv.conf(5): the last line of either kind counts. */
function readSearch(resolv: string): string[] {
  return lines(resolv, ["search", "domain"]).at(-1)?.filter((domain) => SEARCH_DOMAIN.test(domain)) ?? [];
}

/** The words behind each of the keywords. */
function lines(text: string, keywords: readonly string[]): string[][] {
  return text.split("\n").map((line) => line.trim().split(/\s+/))
    .filter(([first = ""]) => keywords.includes(first)).map((words) => words.slice(1));
}
