/**
 * What is live on a host: one read-only script, and the parser of what it says. Pure; the script runs elsewhere.
 */
import type { Rule, Scope } from "./network.ts";
import { LINK, SCOPES, type Sysctl } from "./network.ts";

/** Where our Open vSwitch and WireGuard can be talked to. */
export const RUN_DIR = "/run/mobula";
export const SWITCH_DB = `unix:${RUN_DIR}/ovs/db.sock`;
export const SWITCH_CONTROL = `${RUN_DIR}/ovs/vswitchd.ctl`;

/** Where the bridge's flows can be talked about, and the version of OpenFlow that every Open vSwitch in question speaks. */
export const FLOW_CONTROL = `${RUN_DIR}/ovs/${LINK.switch}.mgmt`;
export const OFCTL = (verb: string, ...args: string[]) =>
  ["ovs-ofctl -O OpenFlow13 --timeout=20", verb, `unix:${FLOW_CONTROL}`, ...args].join(" ");
/** The tables that are written; what the switch learns by itself is in the others. */
export const FLOW_TABLES = "0345689";
/** Asks for all flows in one call, and prints those of the tables that are written. Of table 0 it is not told that it is. */
export const dumpFlows = (...options: string[]) =>
  `${OFCTL([...options, "--no-stats dump-flows"].join(" "))} | grep actions= | ` +
  `grep -v '^ *\\(cookie=[^ ]* *\\)\\?table=[^${FLOW_TABLES}]'`;
/**
 * Prints all flows but the learned ones, groups and meters. The order in which they are told means nothing. Ports by their names: one that
 * was deleted and is made again has another number, and the flows still have the old one, which nobody is called by.
 */
export const LIST_FLOWS = `{ ${dumpFlows("--names")}; ${OFCTL("--names dump-groups")}; ${
  OFCTL("dump-meters")
}; } | grep -v -e '^OFPST' -e '^NXST' | sort`;

/**
 * What is loaded as one text: the file that keeps the text (older versions look there, too), what must be there to ask for what came of it,
 * and what prints that; of packets that come out of WireGuard nothing at all, where the kernel or `tc` cannot lead them.
 */
const LOADED = {
  firewall: {
    text: "firewall.nft",
    needs: "-e /run/netns/mobula",
    list: "ip netns exec mobula sh -c 'nft -s list table inet mobula && nft -s list table ip mobula'",
  },
  flows: { text: "flows.text", needs: `-S ${FLOW_CONTROL}`, list: LIST_FLOWS },
  shortcut: {
    text: "shortcut.text",
    needs: "-e /run/netns/mobula",
    list: `{ ip netns exec mobula tc filter show dev ${LINK.wireguard} ingress 2>/dev/null || :; }`,
  },
} as const;
type LoadedName = keyof typeof LOADED;

/** Shell, in the folder of what is loaded: forgets that anything was. */
export const forget = (what: LoadedName) => `rm -f ${what}.listing`;

/** Shell, there: remembers what loading the text made, so that a change by hand is noticed, or that all of it is gone. */
export const remember = (what: LoadedName) =>
  `${LOADED[what].list} >${what}.new
mv ${what}.new ${what}.listing`;

/** Shell: tells the text that was loaded, if what is live is still exactly what loading it made. */
const recall = (what: LoadedName) => {
  const { text, needs, list } = LOADED[what];
  return `if [ -e ${RUN_DIR}/${what}.listing ] && [ ${needs} ]; then
  live=$(${list} 2>/dev/null)
  [ "$live" = "$(cat ${RUN_DIR}/${what}.listing)" ] && { echo "@@${what}"; cat ${RUN_DIR}/${text}; }
fi`;
};

/** A live link. */
export interface SeenLink {
  readonly scope: Scope;
  readonly name: string;
  readonly mac: string;
  /** The address burnt in, where the driver tells it. */
  readonly permanentMac?: string;
  /** Further names that it answers to. */
  readonly altNames?: readonly string[];
  readonly mtu: number;
  readonly up: boolean;
  readonly master?: string;
  /** `info_kind`: veth, bridge, wireguard, tun, …; undefined for a plain device. */
  readonly kind?: string;
  readonly addresses: readonly string[];
  readonly txChecksum?: boolean;
}

/** A live route of IPv4 or IPv6. */
export interface SeenRoute {
  readonly scope: Scope;
  readonly family: "inet" | "inet6";
  readonly table: number;
  readonly destination: string;
  readonly device?: string;
  readonly via?: string;
  readonly source?: string;
  readonly metric?: number;
  /** IPv4 only: older kernels do not tell it of IPv6. */
  readonly onlink?: boolean;
  /** What nobody but an admin gives a route of ours, as words: `mtu 1300`, `tos 4`. */
  readonly extras?: string;
  readonly protocol: string;
}

/** A live row of an Open vSwitch table, its columns flattened as ovs-vsctl writes them: `column` or `column:key`. */
export interface SeenRow {
  readonly uuid: string;
  readonly name: string;
  readonly columns: Readonly<Record<string, string>>;
}

/** A live policy rule; the table is called as `ip` calls it. */
export interface SeenRule extends Omit<Rule, "table"> {
  readonly table: string;
}

/** The whole live state, as far as it can concern us. */
export interface Seen {
  readonly namespaces: readonly string[];
  readonly sysctls: readonly Sysctl[];
  readonly links: readonly SeenLink[];
  readonly routes: readonly SeenRoute[];
  readonly neighbours: readonly { scope: Scope; name: string; address: string; mac: string }[];
  readonly rules: readonly SeenRule[];
  readonly wireguard?: {
    readonly publicKey: string;
    readonly listenPort: number;
    /** By public key. */
    readonly peers: ReadonlyMap<
      string,
      {
        readonly endpoint?: string;
        readonly allowedIps: readonly string[];
        /** Seconds since 1970; missing before the first. */
        readonly latestHandshake?: number;
      }
    >;
  };
  readonly switch?: {
    readonly bridges: readonly (SeenRow & { readonly ports: readonly string[] })[];
    readonly ports: readonly SeenRow[];
    readonly interfaces: readonly SeenRow[];
    readonly tunnelRoutes: string;
    readonly tunnelNeighbours: string;
    /** The database tells it to wait for its flows when it starts. One that has ceased to wait does not look there again. */
    readonly waits?: true;
  };
  /** The ruleset that was loaded, if the live one is still exactly what loading it made. */
  readonly firewall?: string;
  /** The same for the switch's flows. */
  readonly flows?: string;
  /** The same for the intrawire's shortcut; also where the host's kernel has no such thing, and was found not to. */
  readonly shortcut?: string;
  readonly activeUnits: readonly string[];
}

/** Shell, in the namespace that its argument names: what the links there leave to the hardware. */
const OFFLOADS = `for link in ${LINK.access} ${LINK.switch} ${LINK.underlayGateway}; do
  [ -e "/sys/class/net/$link" ] || continue
  echo "@@offload $1 $link"; ethtool -k "$link" 2>/dev/null | grep "^tx-checksumming"
done`;

/** The read-only script whose output `parseSeen` takes: sections that start with a line `@@<name> [<scope>]`. */
export function lookScript(
  sysctls: readonly Sysctl[],
  units: readonly string[],
  files: readonly string[] = [],
): string {
  const reads = SCOPES.flatMap((scope) => {
    const keys = sysctls.filter((setting) => setting.scope === scope).map(({ key }) => key);
    if (keys.length === 0) return [];
    const paths = keys.map((key) => `/proc/sys/${key.replaceAll(".", "/")}`).join(" ");
    const enter = scope === "root" ? "" : `[ -e /run/netns/${scope} ] && ip netns exec ${scope} `;
    return [`echo "@@sysctls ${scope}"; ${enter}grep -s '' ${paths}`];
  });
  return `
PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH LC_ALL=C
for ns in ${SCOPES.join(" ")}; do
  if [ "$ns" = root ]; then n=; x=; else
    ip -n "$ns" link show lo >/dev/null 2>&1 || continue
    n="-n $ns"; x="ip netns exec $ns"; echo "@@namespace $ns"
  fi
  echo "@@links $ns"; ip $n -j -d addr show
  echo "@@routes $ns"; ip $n -4 -j route show table all
  echo "@@routes6 $ns"; ip $n -j -6 route show table all
  echo "@@neighbours $ns"; ip $n -j neigh show nud permanent
  $x sh -c '${OFFLOADS}' sh "$ns"
done
echo "@@rules"; ip -j rule show
${reads.join("\n")}
if ip -n mobula link show ${LINK.wireguard} >/dev/null 2>&1; then
  ip netns exec mobula sh -c 'for what in public-key listen-port endpoints allowed-ips latest-handshakes; do
    echo "@@wireguard $what"; wg show ${LINK.wireguard} "$what"
  done'
fi
vsctl="ovs-vsctl --db=${SWITCH_DB} --timeout=5 --format=json"
if [ -S ${RUN_DIR}/ovs/db.sock ] && $vsctl show >/dev/null 2>&1; then
  for table in Bridge Port Interface; do echo "@@switch $table"; $vsctl list "$table"; done
  echo "@@switch waits"; $vsctl --if-exists get Open_vSwitch . other_config:flow-restore-wait
  appctl="ovs-appctl --timeout=5 -t ${SWITCH_CONTROL}"
  echo "@@tunnel routes"; $appctl ovs/route/show 2>/dev/null
  echo "@@tunnel neighbours"; $appctl tnl/neigh/show 2>/dev/null
fi
${recall("firewall")}
echo "@@modes"; stat -L -c '%a %u:%g %n' ${files.join(" ")} 2>/dev/null
${recall("flows")}
${recall("shortcut")}
echo "@@units"; systemctl is-active ${units.join(" ")}
exit 0
`;
}

/** Who may do what with a file, as `stat` tells it. */
export interface SeenMode {
  /** Octal permission bits. */
  readonly mode: number;
  /** `0:0` for root. */
  readonly owner: string;
}

/** The files that the script was asked for and that are there, by path. */
export function parseModes(output: string): ReadonlyMap<string, SeenMode> {
  const lines = (splitSections(output).get("modes") ?? "").split("\n");
  return new Map(lines.flatMap((line): [string, SeenMode][] => {
    const [, mode, owner = "", path = ""] = /^([0-7]+) (\d+:\d+) (.+)$/.exec(line) ?? [];
    return mode === undefined ? [] : [[path, { mode: parseInt(mode, 8), owner }]];
  }));
}

/** Parses the script's output; `units` in the order in which the script asked for them. */
export function parseSeen(output: string, units: readonly string[]): Seen {
  const sections = splitSections(output);
  const scoped = <T>(name: string, parse: (text: string, scope: Scope) => T[]): T[] =>
    SCOPES.flatMap((scope) => parse(sections.get(`${name} ${scope}`) ?? "", scope));
  const states = (sections.get("units") ?? "").trim().split("\n");
  const wireguard = parseWireguard(sections);
  const seenSwitch = parseSwitch(sections);
  const loaded = (Object.keys(LOADED) as LoadedName[]).filter((what) => sections.has(what));
  return {
    namespaces: SCOPES.filter((scope) => sections.has(`namespace ${scope}`)),
    sysctls: scoped("sysctls", parseSysctls),
    links: scoped("links", (text, scope) => parseLinks(text, scope, sections)),
    routes: [
      ...scoped("routes", (text, scope) => parseRoutes(text, scope, "inet")),
      ...scoped("routes6", (text, scope) => parseRoutes(text, scope, "inet6")),
    ],
    neighbours: scoped("neighbours", parseNeighbours),
    rules: parseRules(sections.get("rules") ?? ""),
    activeUnits: units.filter((_, index) => states[index] === "active"),
    ...(wireguard ? { wireguard } : {}),
    ...(seenSwitch ? { switch: seenSwitch } : {}),
    // The line break before the next section's mark is the text's last one.
    ...Object.fromEntries(loaded.map((what) => [what, `${sections.get(what)}\n`])),
  };
}

function splitSections(output: string): Map<string, string> {
  const sections = new Map<string, string>();
  for (const part of `\n${output}`.split("\n@@").slice(1)) {
    const end = part.indexOf("\n");
    sections.set(end < 0 ? part.trim() : part.slice(0, end).trim(), end < 0 ? "" : part.slice(end + 1));
  }
  return sections;
}

/** `ip -j` prints nothing at all where there is nothing. */
function parseJsonList(text: string): Record<string, unknown>[] {
  const value = text.trim() === "" ? [] : JSON.parse(text);
  return (value as Record<string, unknown>[]).filter((entry) => Object.keys(entry).length > 0);
}

function parseSysctls(text: string, scope: Scope): Sysctl[] {
  return text.trim().split("\n").filter((line) => line.includes(":")).map((line) => {
    const colon = line.indexOf(":");
    return {
      scope,
      key: line.slice("/proc/sys/".length, colon).replaceAll("/", "."),
      value: line.slice(colon + 1).trim(),
    };
  });
}

interface IpAddress {
  readonly family: string;
  readonly local: string;
  readonly prefixlen: number;
  readonly scope: string;
}

function parseLinks(text: string, scope: Scope, sections: ReadonlyMap<string, string>): SeenLink[] {
  return parseJsonList(text).map((entry) => {
    const name = String(entry.ifname);
    const offload = sections.get(`offload ${scope} ${name}`);
    const kind = (entry.linkinfo as { info_kind?: string } | undefined)?.info_kind;
    return {
      scope,
      name,
      mac: String(entry.address ?? ""),
      mtu: Number(entry.mtu),
      up: (entry.flags as string[]).includes("UP"),
      addresses: ((entry.addr_info ?? []) as IpAddress[])
        .filter((address) => address.scope === "global" || address.family === "inet")
        .map((address) => `${address.local}/${address.prefixlen}`),
      ...(entry.permaddr ? { permanentMac: String(entry.permaddr) } : {}),
      ...(Array.isArray(entry.altnames) ? { altNames: entry.altnames.map(String) } : {}),
      ...(entry.master ? { master: String(entry.master) } : {}),
      ...(kind ? { kind } : {}),
      ...(offload === undefined ? {} : { txChecksum: / on/.test(offload) }),
    };
  });
}

const TABLES: Readonly<Record<string, number>> = { default: 253, main: 254, local: 255 };

function parseRoutes(text: string, scope: Scope, family: "inet" | "inet6"): SeenRoute[] {
  return parseJsonList(text).filter((entry) => entry.type === undefined || entry.type === "unicast").map(
    (entry) => {
      const table = String(entry.table ?? "main");
      return {
        scope,
        family,
        table: TABLES[table] ?? Number(table),
        destination: String(entry.dst),
        protocol: String(entry.protocol ?? "boot"),
        ...(entry.dev ? { device: String(entry.dev) } : {}),
        ...(entry.gateway ? { via: String(entry.gateway) } : {}),
        ...(entry.prefsrc ? { source: String(entry.prefsrc) } : {}),
        ...(entry.metric ? { metric: Number(entry.metric) } : {}),
        ...(family === "inet" && (entry.flags as string[] | undefined)?.includes("onlink")
          ? { onlink: true }
          : {}),
        ...(family === "inet" ? routeExtras(entry.metrics) : {}),
      };
    },
  );
}

/** `metrics`: a list of maps such as `{"mtu": 1300}`. */
function routeExtras(metrics: unknown): { extras?: string } {
  if (!Array.isArray(metrics)) return {};
  const words = metrics.flatMap((map) =>
    Object.entries(map as object).map(([key, value]) => `${key} ${value}`)
  );
  return words.length > 0 ? { extras: words.join(" ") } : {};
}

function parseNeighbours(text: string, scope: Scope) {
  return parseJsonList(text).map((entry) => ({
    scope,
    name: String(entry.dev),
    address: String(entry.dst),
    mac: String(entry.lladdr ?? ""),
  }));
}

/** `ipproto` is a name only where /etc/protocols has it. */
const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17 };

function parseRules(text: string): SeenRule[] {
  const network = (address: unknown, bits: unknown) =>
    address === undefined || address === "all"
      ? undefined
      : `${address}${bits === undefined ? "" : `/${bits}`}`;
  return parseJsonList(text).map((entry) => {
    const from = network(entry.src, entry.srclen);
    const to = network(entry.dst, entry.dstlen);
    return {
      priority: Number(entry.priority),
      table: String(entry.table),
      ...(from ? { from } : {}),
      ...(to ? { to } : {}),
      ...(entry.ipproto ? { protocol: PROTOCOLS[String(entry.ipproto)] ?? Number(entry.ipproto) } : {}),
      ...(entry.sport ? { sport: Number(entry.sport) } : {}),
      ...(entry.suppress_prefixlen === 0 ? { withoutDefault: true } : {}),
    };
  });
}

function parseWireguard(sections: ReadonlyMap<string, string>): Seen["wireguard"] {
  const publicKey = sections.get("wireguard public-key")?.trim();
  if (publicKey === undefined) return undefined;
  const rows = (name: string) =>
    (sections.get(`wireguard ${name}`) ?? "").trim().split("\n").filter((line) => line !== "").map((line) =>
      line.split("\t")
    );
  const endpoints = new Map(rows("endpoints").map(([key, endpoint]) => [key, endpoint]));
  const handshakes = new Map(rows("latest-handshakes").map(([key, seconds]) => [key, Number(seconds)]));
  const peers = new Map(
    rows("allowed-ips").map(([key = "", allowed = ""]) => {
      const endpoint = endpoints.get(key);
      const allowedIps = allowed === "(none)" ? [] : allowed.split(" ");
      const latestHandshake = handshakes.get(key);
      return [key, {
        allowedIps,
        ...(endpoint && endpoint !== "(none)" ? { endpoint } : {}),
        ...(latestHandshake ? { latestHandshake } : {}),
      }];
    }),
  );
  return { publicKey, listenPort: Number(sections.get("wireguard listen-port")), peers };
}

function parseSwitch(sections: ReadonlyMap<string, string>): Seen["switch"] {
  const text = sections.get("switch Bridge");
  if (text === undefined) return undefined;
  return {
    bridges: parseRows(text).map(({ row, cells }) => ({ ...row, ports: uuids(cells.ports) })),
    ports: parseRows(sections.get("switch Port") ?? "").map(({ row }) => row),
    interfaces: parseRows(sections.get("switch Interface") ?? "").map(({ row }) => row),
    tunnelRoutes: sections.get("tunnel routes") ?? "",
    tunnelNeighbours: sections.get("tunnel neighbours") ?? "",
    ...(sections.get("switch waits")?.includes("true") ? { waits: true } : {}),
  };
}

/** OVSDB's JSON notation (RFC 7047, 5.1): an atom, or `["uuid"|"set"|"map", …]`. */
type Cell = string | number | boolean | readonly [string, unknown];

function parseRows(text: string): { row: SeenRow; cells: Record<string, Cell> }[] {
  if (text.trim() === "") return [];
  const { headings, data } = JSON.parse(text) as { headings: string[]; data: Cell[][] };
  return data.map((line) => {
    const cells = Object.fromEntries(headings.map((heading, index) => [heading, line[index] as Cell]));
    const columns = Object.fromEntries(Object.entries(cells).flatMap(([name, cell]) => flatten(name, cell)));
    return { cells, row: { uuid: uuids(cells._uuid)[0] ?? "", name: String(cells.name), columns } };
  });
}

function flatten(name: string, cell: Cell): [string, string][] {
  if (!Array.isArray(cell)) return cell === "" ? [] : [[name, String(cell)]];
  const [type, value] = cell as [string, unknown];
  if (type === "map") return (value as [Cell, Cell][]).map(([key, item]) => [`${name}:${key}`, String(item)]);
  if (type === "set") {
    const items = (value as Cell[]).map((item) => Array.isArray(item) ? String(item[1]) : String(item))
      .sort();
    return items.length === 0 ? [] : [[name, items.join(",")]];
  }
  return [[name, String(value)]];
}

function uuids(cell: Cell | undefined): string[] {
  if (!Array.isArray(cell)) return [];
  return cell[0] === "uuid" ? [String(cell[1])] : (cell[1] as [string, string][]).map(([, uuid]) => uuid);
}
