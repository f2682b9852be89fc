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
  `${
    OFCTL([...options, "--no-stats dump-flows"].join(" "))
  } | sed -e '/actions=/!d' -e '/^ *\\(cookie=[^ ]* *\\)\\{0,1\\}table=[^${FLOW_TABLES}]/d'`;

/**
 * Prints all flows, groups and meters. Ports by their names: one that was deleted and is made again has another number, and the flows still
 * have the old one, which nobody is called by.
 */
export const LIST_FLOWS = `${OFCTL("--names --no-stats dump-flows")}; ${OFCTL("--names dump-groups")}; ${
  OFCTL("dump-meters")
}`;
/** What it prints and nobody has written: learned flows, and the first line of an answer. */
const UNWRITTEN = new RegExp(`^ *(cookie=\\S* *)?table=[^${FLOW_TABLES}]|^OFPST|^NXST`);

/**
 * What is loaded as one text: the file that keeps the text (older versions look there, too), what must be there to ask for what came of it,
 * and what prints that, in the gateway's namespace unless said otherwise; of packets that come out of WireGuard nothing at all, where the
 * kernel or `tc` cannot lead them.
 */
const LOADED = {
  firewall: {
    text: "firewall.nft",
    list: "nft -s list ruleset",
  },
  flows: { text: "flows.text", list: LIST_FLOWS },
  shortcut: { text: "shortcut.text", list: `tc filter show dev ${LINK.wireguard} ingress 2>/dev/null || :` },
} as const;
type LoadedName = keyof typeof LOADED;
const LOADED_NAMES = Object.keys(LOADED) as LoadedName[];

/** Shell, in the folder of what is loaded: forgets that anything was. */
export const forget = (what: LoadedName) => `[ ! -e ${what}.listing ] || rm -f ${what}.listing`;

/** Shell, there, with -e, in the namespace that the list is for: remembers what loading the text made, so that a change by hand is noticed. */
export const remember = (what: LoadedName) =>
  `{ ${LOADED[what].list}; } >${what}.new
mv ${what}.new ${what}.listing`;

/** Files of what is loaded: the texts, and what loading them made. */
const textFile = (what: LoadedName) => `${RUN_DIR}/${LOADED[what].text}`;
const listingFile = (what: LoadedName) => `${RUN_DIR}/${what}.listing`;
/** All of them: what `parseSeen` needs beside the script's output to tell whether what is live is what was loaded. */
export const LOADED_FILES: readonly string[] = LOADED_NAMES.flatMap((
  what,
) => [textFile(what), listingFile(what)]);

/** Shell: prints what is live of something that was loaded. */
const tellLive = (what: LoadedName) =>
  `if [ -e ${listingFile(what)} ]; then echo "@@live ${what}"; { ${LOADED[what].list}; } 2>/dev/null; fi`;

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

/** The links whose offloads are ours to set, by scope. */
const OFFLOADED: Readonly<Record<Scope, readonly string[]>> = {
  root: [LINK.access],
  mobula: [LINK.switch, LINK.underlayGateway],
  "mobula-sw": [],
};

/** Shell, in a namespace: what the links there leave to the hardware. The gateway has few links: newer versions tell all at once. */
function tellOffloads(scope: Scope): string[] {
  const links = OFFLOADED[scope];
  const each = links.map((link) => `[ ! -e /sys/class/net/${link} ] || ethtool -k ${link} 2>/dev/null`);
  if (links.length < 2) return each.flatMap((line) => [`echo "@@offloads ${scope}"`, line]);
  return [`echo "@@offloads ${scope}"; ethtool -k '*' 2>/dev/null || {`, ...each, "}"];
}

/** Shell, in a namespace: the values of settings that are there. A shell's own `read` asks for single bytes, and gets the first alone. */
function tellSysctls(scope: Scope, sysctls: readonly Sysctl[]): string[] {
  const paths = sysctls.filter((setting) => setting.scope === scope)
    .map(({ key }) => `/proc/sys/${key.replaceAll(".", "/")}`);
  return paths.length === 0 ? [] : [`echo "@@sysctls ${scope}"; grep -sH '' ${paths.join(" ")}`];
}

/** Shell: prints links, neighbours, rules and routes of both families. One process: each command's list is a line of its own. */
const tellObjects = (scope: Scope, enter = "") =>
  `echo "@@objects ${scope}"
ip ${enter}-j -d -force -batch - <<'BATCH'
addr show
neigh show nud permanent
${scope === "root" ? "rule show\n" : ""}route show table all
BATCH`;

/** Shell, in the gateway: `wg` prints the private key first; it does not leave this shell. */
export const TELL_WIREGUARD = `if [ -e /sys/class/net/${LINK.wireguard} ]; then
  told=$(wg show ${LINK.wireguard} dump) && printf '@@wireguard\\n%s\\n' "\${told#*\t}"
fi`;

/** For the gateway's namespace: the WireGuard device alone; `parseSeenWireguard` takes what it prints. */
export const WIREGUARD_SCRIPT = `PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH LC_ALL=C
${TELL_WIREGUARD}
exit 0
`;

/** Shell, in a namespace: all that is asked there. */
function tellScope(scope: Scope, sysctls: readonly Sysctl[]): string {
  return [
    ...(scope === "root" ? [] : [`echo "@@namespace ${scope}"`]),
    tellObjects(scope),
    ...tellOffloads(scope),
    ...tellSysctls(scope, sysctls),
    ...(scope === "mobula" ? [TELL_WIREGUARD, tellLive("firewall"), tellLive("shortcut")] : []),
  ].join("\n");
}

/** Shell: all that is asked in the gateway, which is entered once. */
const tellGateway = (sysctls: readonly Sysctl[]) =>
  `if [ -e /run/netns/mobula ]; then
ip netns exec mobula sh -s <<'INSIDE'
${tellScope("mobula", sysctls)}
INSIDE
fi`;

/** Shell: of the switch's namespace there are only objects to ask for. */
const TELL_SWITCH_SCOPE = `if [ -e /run/netns/mobula-sw ]; then
echo "@@namespace mobula-sw"
${tellObjects("mobula-sw", "-n mobula-sw ")}
fi`;

/** The read-only script whose output `parseSeen` takes: sections that start with a line `@@<name> [<scope>]`. */
export function lookScript(
  sysctls: readonly Sysctl[],
  units: readonly string[],
  files: readonly string[] = [],
): string {
  return `
PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH LC_ALL=C
${tellScope("root", sysctls)}
${tellGateway(sysctls)}
${TELL_SWITCH_SCOPE}
if [ -S ${RUN_DIR}/ovs/db.sock ]; then
  told=$(ovs-vsctl --db=${SWITCH_DB} --timeout=5 --format=json -- list Bridge -- list Port -- list Interface -- --if-exists get Open_vSwitch . other_config:flow-restore-wait 2>/dev/null) && printf '@@switch\\n%s\\n' "$told"
  appctl="ovs-appctl --timeout=5 -t ${SWITCH_CONTROL}"
  echo "@@tunnel routes"; $appctl ovs/route/show 2>/dev/null
  echo "@@tunnel neighbours"; $appctl tnl/neigh/show 2>/dev/null
fi
[ ! -S ${FLOW_CONTROL} ] || ${tellLive("flows")}
${files.length > 0 ? `echo "@@modes"; stat -L -c '%a %u:%g %n' ${files.join(" ")} 2>/dev/null` : ":"}
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

/**
 * Parses the script's output; `units` in the order in which the script asked for them, `files` are the texts of `LOADED_FILES`: without
 * them nothing counts as loaded.
 */
export function parseSeen(
  output: string,
  units: readonly string[],
  files: ReadonlyMap<string, string | undefined> = new Map(),
): Seen {
  const sections = splitSections(output);
  const objects = SCOPES.map((scope) =>
    [scope, parseObjects(sections.get(`objects ${scope}`) ?? "")] as const
  );
  const scoped = <T>(kind: ObjectKind, parse: (list: JsonObject[], scope: Scope) => T[]): T[] =>
    objects.flatMap(([scope, lists]) => parse(lists[kind], scope));
  const states = (sections.get("units") ?? "").trim().split("\n");
  const wireguard = parseWireguard(sections.get("wireguard"));
  const seenSwitch = parseSwitch(sections);
  return {
    namespaces: SCOPES.filter((scope) => sections.has(`namespace ${scope}`)),
    sysctls: SCOPES.flatMap((scope) => parseSysctls(sections.get(`sysctls ${scope}`) ?? "", scope)),
    links: scoped("links", (list, scope) => parseLinks(list, scope, sections)),
    routes: [
      ...scoped("routes", (list, scope) => parseRoutes(list, scope, "inet")),
      ...scoped("routes6", (list, scope) => parseRoutes(list, scope, "inet6")),
    ],
    neighbours: scoped("neighbours", parseNeighbours),
    rules: scoped("rules", parseRules),
    activeUnits: units.filter((_, index) => states[index] === "active"),
    ...(wireguard ? { wireguard } : {}),
    ...(seenSwitch ? { switch: seenSwitch } : {}),
    ...Object.fromEntries(LOADED_NAMES.flatMap((what) => {
      const text = files.get(textFile(what));
      return text !== undefined && isAsLoaded(what, sections, files) ? [[what, text]] : [];
    })),
  };
}

/** The device and its peers; undefined where there is none. */
export function parseSeenWireguard(output: string): Seen["wireguard"] {
  return parseWireguard(splitSections(output).get("wireguard"));
}

/** Whether what is live is still exactly what loading the text made. */
function isAsLoaded(
  what: LoadedName,
  sections: ReadonlyMap<string, string>,
  files: ReadonlyMap<string, string | undefined>,
): boolean {
  const [live, listing] = [sections.get(`live ${what}`), files.get(listingFile(what))];
  if (live === undefined || listing === undefined) return false;
  const own = { firewall: ownTables, flows: sortedFlows, shortcut: (text: string) => [text.trimEnd()] }[what];
  return own(live).join("\n") === own(listing).join("\n");
}

/** Our tables of a ruleset, in one order, each with its closing brace. */
function ownTables(text: string): string[] {
  return text.split(/^(?=table )/m).map((table) => table.trimEnd()).filter((table) =>
    /^table \w+ mobula \{/.test(table)
  ).sort();
}

/** Without the learned ones. The order in which they are told means nothing. */
function sortedFlows(text: string): string[] {
  return text.split("\n").filter((line) => line !== "" && !UNWRITTEN.test(line)).sort();
}

function splitSections(output: string): Map<string, string> {
  const sections = new Map<string, string>();
  for (const part of `\n${output}`.split("\n@@").slice(1)) {
    const end = part.indexOf("\n");
    sections.set(end < 0 ? part.trim() : part.slice(0, end).trim(), end < 0 ? "" : part.slice(end + 1));
  }
  return sections;
}

type JsonObject = Record<string, unknown>;
type ObjectKind = "links" | "neighbours" | "rules" | "routes" | "routes6";

/** Lists of `ip -j`, each of which begins a line, or nothing at all where there is nothing. What an object is, its keys tell. */
function parseObjects(text: string): Readonly<Record<ObjectKind, JsonObject[]>> {
  const objects: Record<ObjectKind, JsonObject[]> = {
    links: [],
    neighbours: [],
    rules: [],
    routes: [],
    routes6: [],
  };
  for (const list of text.split(/^(?=\[)/m)) {
    if (!list.startsWith("[")) continue;
    for (const object of JSON.parse(list) as JsonObject[]) {
      const kind = kindOf(object);
      if (kind) objects[kind].push(object);
    }
  }
  return objects;
}

/** The kernel tells the preference (RFC 4191) of IPv6 routes alone. A route of another family has a label in place of the address. */
function kindOf(object: JsonObject): ObjectKind | undefined {
  if ("ifname" in object) return "links";
  if ("priority" in object) return "rules";
  if ("lladdr" in object || "state" in object) return "neighbours";
  if ("pref" in object) return "routes6";
  return object.dst === "default" || /^[\d.]+(\/\d+)?$/.test(String(object.dst)) ? "routes" : undefined;
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

function parseLinks(
  list: readonly JsonObject[],
  scope: Scope,
  sections: ReadonlyMap<string, string>,
): SeenLink[] {
  const offloads = parseOffloads(sections.get(`offloads ${scope}`) ?? "");
  return list.map((entry) => {
    const name = String(entry.ifname);
    const txChecksum = OFFLOADED[scope].includes(name) ? offloads.get(name) : undefined;
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
      ...(txChecksum === undefined ? {} : { txChecksum }),
    };
  });
}

/** ethtool(8), -k: "Features for <link>:", then a feature a line → whether the link leaves checksums of what it sends to the hardware. */
function parseOffloads(text: string): ReadonlyMap<string, boolean> {
  return new Map(
    text.split(/^Features for /m).slice(1).map((part) => [
      part.slice(0, part.indexOf(":\n")),
      /^tx-checksumming: on/m.test(part),
    ]),
  );
}

const TABLES: Readonly<Record<string, number>> = { default: 253, main: 254, local: 255 };

function parseRoutes(list: readonly JsonObject[], scope: Scope, family: "inet" | "inet6"): SeenRoute[] {
  return list.filter((entry) => entry.type === undefined || entry.type === "unicast").map(
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

function parseNeighbours(list: readonly JsonObject[], scope: Scope) {
  return list.map((entry) => ({
    scope,
    name: String(entry.dev),
    address: String(entry.dst),
    mac: String(entry.lladdr ?? ""),
  }));
}

/** `ipproto` is a name only where /etc/protocols has it. */
const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17 };

function parseRules(list: readonly JsonObject[]): SeenRule[] {
  const network = (address: unknown, bits: unknown) =>
    address === undefined || address === "all"
      ? undefined
      : `${address}${bits === undefined ? "" : `/${bits}`}`;
  return list.map((entry) => {
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

/** One peer of `wg show <link> dump`. */
export interface DumpedPeer {
  readonly publicKey: string;
  readonly endpoint?: string;
  readonly allowedIps: readonly string[];
  /** Seconds since 1970 by the host's clock; 0 for never. */
  readonly handshake: number;
  /** Bytes. */
  readonly received: number;
  readonly sent: number;
}

/** `wg show <link> dump` (wg(8)) without its first field, the private key: public key, port, mark; then a peer a line. */
export function parseWireguardDump(
  dump: string,
): { publicKey: string; listenPort: number; peers: readonly DumpedPeer[] } {
  const [[publicKey = "", listenPort] = [], ...rows] = dump.trimEnd().split("\n").map((line) =>
    line.split("\t")
  );
  const peers = rows.map(([key = "", , endpoint = "", allowed = "", handshake, received, sent]) => ({
    publicKey: key,
    ...(endpoint && endpoint !== "(none)" ? { endpoint } : {}),
    allowedIps: allowed === "(none)" ? [] : allowed.split(","),
    handshake: Number(handshake ?? 0),
    received: Number(received ?? 0),
    sent: Number(sent ?? 0),
  }));
  return { publicKey, listenPort: Number(listenPort), peers };
}

function parseWireguard(dump: string | undefined): Seen["wireguard"] {
  if (dump === undefined) return undefined;
  const { publicKey, listenPort, peers } = parseWireguardDump(dump);
  return {
    publicKey,
    listenPort,
    peers: new Map(peers.map(({ publicKey, endpoint, allowedIps, handshake }) => [publicKey, {
      allowedIps,
      ...(endpoint ? { endpoint } : {}),
      ...(handshake ? { latestHandshake: handshake } : {}),
    }])),
  };
}

/** One table a line, as they were asked for, and whether it waits. */
function parseSwitch(sections: ReadonlyMap<string, string>): Seen["switch"] {
  const text = sections.get("switch");
  if (text === undefined) return undefined;
  const [bridges = "", ports = "", interfaces = "", waits = ""] = text.split("\n");
  return {
    bridges: parseRows(bridges).map(({ row, cells }) => ({ ...row, ports: uuids(cells.ports) })),
    ports: parseRows(ports).map(({ row }) => row),
    interfaces: parseRows(interfaces).map(({ row }) => row),
    tunnelRoutes: sections.get("tunnel routes") ?? "",
    tunnelNeighbours: sections.get("tunnel neighbours") ?? "",
    ...(waits.includes("true") ? { waits: true } : {}),
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
