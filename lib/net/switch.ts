/**
 * Open vSwitch: wanted bridges and ports against live ones → one ovs-vsctl transaction. Pure.
 */
import type { Step } from "../step.ts";
import type { Link, Switch, SwitchPort } from "./network.ts";
import { type Seen, type SeenRow, SWITCH_CONTROL, SWITCH_DB } from "./seen.ts";

/** Columns of a port or interface that are ours alone: a key there that is not wanted is removed. */
const OWN_COLUMNS = { Port: ["other_config", "trunks", "tag"], Interface: ["options", "bfd"] } as const;

/** The transaction that makes the live switch as wanted, or nothing. */
export function switchSteps(wanted: Switch, seen: Seen["switch"]): Step[] {
  const live = indexSeen(seen);
  const transaction: Transaction = {
    titles: [],
    argv: ["ovs-vsctl", `--db=${SWITCH_DB}`, "--timeout=20"],
  };
  removeStale(wanted, seen, transaction);
  for (const bridge of wanted.bridges) setBridge(bridge, live, transaction);
  for (const port of wanted.ports) setPort(port, live, transaction);
  const { titles, argv } = transaction;
  if (titles.length === 0) return [];
  return [{
    title: titles.length > 4 ? `configure the switch: ${titles.length} changes` : titles.join(", "),
    argv,
    effect: "the access network of these ports, until the tree has settled",
  }];
}

/**
 * A port outside the tree that joins a switch which runs RSTP gets nothing that is sent to all, until the switch starts anew: Open
 * vSwitch decides with RSTP's state whether to flood to it, and asks again only when that changes (seen with 2.15, 3.1 and 3.5).
 */
export function switchRestartSteps(
  { switch: wanted, links }: { readonly switch: Switch; readonly links: readonly Link[] },
  seen: Pick<Seen, "links" | "switch">,
): Step[] {
  const live = indexSeen(seen.switch);
  const isThere = (name: string) => {
    const link = links.find((link) => link.name === name || link.peer?.name === name);
    if (link === undefined) return true;
    const [scope, own] = link.name === name ? [link.scope, name] : [link.peer?.scope, name];
    return seen.links.some((seenLink) => seenLink.scope === scope && seenLink.name === own);
  };
  const late = wanted.ports.filter(({ bridge, name, port, interface: { type } }) =>
    live.bridges.get(bridge)?.columns.rstp_enable === "true" && type === undefined &&
    port["other_config:rstp-enable"] === "false" && !(live.ports.has(name) && isThere(name))
  );
  if (late.length === 0) return [];
  return [{
    title: `restart the switch, for ${late.map(({ name }) => name).join(" and ")}`,
    argv: ["systemctl", "restart", "mobula-vswitchd.service"],
    effect: "the host's access network, about 2 s",
  }];
}

/**
 * A switch that starts waits for its flows (`flow-restore-wait`) until the start of its unit ends that. Where the start has not done so,
 * this does: the flows are there by now.
 */
export function waitSteps({ switch: live, activeUnits }: Pick<Seen, "switch" | "activeUnits">): Step[] {
  if (!live?.waits || !activeUnits.includes("mobula-vswitchd.service")) return [];
  return [{
    title: "let the switch carry again",
    argv: [
      ...["ovs-vsctl", `--db=${SWITCH_DB}`, "--timeout=20"],
      ...["remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait"],
    ],
  }];
}

/** Userspace mode: Open vSwitch's tunnels find their way by a route and a neighbour of its own, lost whenever it restarts. */
export function tunnelSteps(tunnel: Switch["tunnel"], seen: Seen["switch"]): Step[] {
  if (!tunnel) return [];
  const control = ["ovs-appctl", "--timeout=5", "-t", SWITCH_CONTROL];
  const { network, bridge, via, mac } = tunnel;
  const routeLine = new RegExp(`User: ${escape(network)} .*${escape(bridge)} .*${escape(via)}`);
  const neighbourLine = new RegExp(`${escape(via)}\\s+${escape(mac)}\\s+${escape(bridge)}`, "i");
  return [
    ...(routeLine.test(seen?.tunnelRoutes ?? "") ? [] : [{
      title: `route ${network} inside the switch`,
      argv: [...control, "ovs/route/add", network, bridge, via],
    }]),
    ...(neighbourLine.test(seen?.tunnelNeighbours ?? "") ? [] : [{
      title: `pin ${via} to ${mac} inside the switch`,
      argv: [...control, "tnl/neigh/set", bridge, via, mac],
    }]),
  ];
}

/** The transaction as it grows. In a fleet of 1,000 hosts it has 50,000 words, so they are appended without lists in between. */
interface Transaction {
  /** What is done to each thing. */
  readonly titles: string[];
  readonly argv: string[];
}

/** Live rows by name. */
interface Live {
  readonly bridges: ReadonlyMap<string, SeenRow>;
  readonly ports: ReadonlyMap<string, SeenRow>;
  readonly interfaces: ReadonlyMap<string, SeenRow>;
}

function indexSeen(seen: Seen["switch"]): Live {
  const byName = (rows: readonly SeenRow[] = []) => new Map(rows.map((row) => [row.name, row]));
  return { bridges: byName(seen?.bridges), ports: byName(seen?.ports), interfaces: byName(seen?.interfaces) };
}

/** Ports and bridges that nobody wants any more. The database is ours alone, so everything in it is ours. */
function removeStale(wanted: Switch, seen: Seen["switch"], { titles, argv }: Transaction): void {
  if (!seen) return;
  const bridges = new Set(wanted.bridges.map(({ name }) => name));
  const ports = new Set([...bridges, ...wanted.ports.map(({ name }) => name)]);
  for (const bridge of seen.bridges) {
    if (!bridges.has(bridge.name)) {
      titles.push(`remove switch ${bridge.name}`);
      argv.push("--", "--if-exists", "del-br", bridge.name);
      continue;
    }
    const own = new Set(bridge.ports);
    for (const port of seen.ports) {
      if (!own.has(port.uuid) || ports.has(port.name)) continue;
      titles.push(`remove switch port ${port.name}`);
      argv.push("--", "--if-exists", "del-port", bridge.name, port.name);
    }
  }
}

function setBridge(
  { name, columns }: Switch["bridges"][number],
  { bridges }: Live,
  { titles, argv }: Transaction,
): void {
  const live = bridges.get(name);
  if (!live) {
    titles.push(`add switch ${name}`);
    argv.push("--", "--may-exist", "add-br", name);
  }
  const length = argv.length;
  setColumns("Bridge", name, columns, live, argv);
  if (argv.length > length) titles.push(`set switch ${name}`);
}

function setPort(wanted: SwitchPort, live: Live, { titles, argv }: Transaction): void {
  const { bridge, name } = wanted;
  const port = live.ports.get(name);
  const row = live.interfaces.get(name);
  const length = argv.length;
  if (!port) argv.push("--", "--may-exist", "add-port", bridge, name);
  setColumns("Port", name, wanted.port, port, argv);
  clearColumns("Port", wanted.port, port, argv);
  setColumns("Interface", name, wanted.interface, row, argv);
  clearColumns("Interface", wanted.interface, row, argv);
  if (argv.length > length) titles.push(`${port ? "set" : "add"} switch port ${name}`);
}

/** The columns that differ. */
function setColumns(
  table: keyof typeof OWN_COLUMNS | "Bridge",
  name: string,
  wanted: Readonly<Record<string, string>>,
  live: SeenRow | undefined,
  argv: string[],
): void {
  const length = argv.length;
  for (const key in wanted) {
    const value = wanted[key] ?? "";
    if (live?.columns[key] === value) continue;
    if (argv.length === length) argv.push("--", "set", table, name);
    argv.push(setting(key, value));
  }
}

/** `column=value`, for maps `column:key="value"`. Remembered: the plans of a large fleet have millions of them, few of them different. */
function setting(column: string, value: string): string {
  let words = settings.get(column);
  if (words === undefined) settings.set(column, words = new Map());
  let word = words.get(value);
  if (word === undefined) {
    word = `${column}=${column.includes(":") ? `"${value}"` : value}`;
    words.set(value, word);
  }
  return word;
}

const settings = new Map<string, Map<string, string>>();

/** What is there in our own columns and not wanted. */
function clearColumns(
  table: keyof typeof OWN_COLUMNS,
  wanted: Readonly<Record<string, string>>,
  live: SeenRow | undefined,
  argv: string[],
): void {
  for (const key in live?.columns) {
    const ours = OWN_COLUMNS[table].some((column) => key === column || key.startsWith(`${column}:`));
    if (!ours || key in wanted) continue;
    const [column = "", item] = key.split(/:(.*)/s);
    argv.push("--", item === undefined ? "clear" : "remove", table, live!.name, column);
    if (item !== undefined) argv.push(item);
  }
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
