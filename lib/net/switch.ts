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
  const argv: string[] = [];
  const titles: string[] = [];
  const add: Add = (title, ...commands) => {
    if (commands.length > 0) titles.push(title);
    for (const command of commands) {
      argv.push("--");
      for (const word of command) argv.push(word);
    }
  };
  removeStale(wanted, seen, add);
  for (const bridge of wanted.bridges) setBridge(bridge, live, add);
  for (const port of wanted.ports) setPort(port, live, add);
  if (titles.length === 0) return [];
  return [{
    title: titles.length > 4 ? `configure the switch: ${titles.length} changes` : titles.join(", "),
    argv: ["ovs-vsctl", `--db=${SWITCH_DB}`, "--timeout=20", ...argv],
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

/** Adds what is to be done to one thing, as commands of ovs-vsctl, to the transaction. */
type Add = (title: string, ...commands: readonly (readonly string[])[]) => void;

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
function removeStale(wanted: Switch, seen: Seen["switch"], add: Add): void {
  if (!seen) return;
  const bridges = new Set(wanted.bridges.map(({ name }) => name));
  const ports = new Set([...bridges, ...wanted.ports.map(({ name }) => name)]);
  for (const bridge of seen.bridges) {
    if (!bridges.has(bridge.name)) {
      add(`remove switch ${bridge.name}`, ["--if-exists", "del-br", bridge.name]);
      continue;
    }
    const own = new Set(bridge.ports);
    for (const port of seen.ports) {
      if (!own.has(port.uuid) || ports.has(port.name)) continue;
      add(`remove switch port ${port.name}`, ["--if-exists", "del-port", bridge.name, port.name]);
    }
  }
}

function setBridge({ name, columns }: Switch["bridges"][number], { bridges }: Live, add: Add): void {
  const live = bridges.get(name);
  if (!live) add(`add switch ${name}`, ["--may-exist", "add-br", name]);
  const changes = differing(columns, live);
  if (changes.length > 0) add(`set switch ${name}`, ["set", "Bridge", name, ...changes]);
}

function setPort(wanted: SwitchPort, live: Live, add: Add): void {
  const { bridge, name } = wanted;
  const port = live.ports.get(name);
  const columns = [
    ...columnCommands("Port", name, wanted.port, port),
    ...columnCommands("Interface", name, wanted.interface, live.interfaces.get(name)),
  ];
  if (port) add(`set switch port ${name}`, ...columns);
  else add(`add switch port ${name}`, ["--may-exist", "add-port", bridge, name], ...columns);
}

function columnCommands(
  table: keyof typeof OWN_COLUMNS,
  name: string,
  wanted: Readonly<Record<string, string>>,
  live: SeenRow | undefined,
): string[][] {
  const changes = differing(wanted, live);
  const commands = changes.length > 0 ? [["set", table, name, ...changes]] : [];
  for (const key in live?.columns) {
    const ours = OWN_COLUMNS[table].some((column) => key === column || key.startsWith(`${column}:`));
    if (!ours || key in wanted) continue;
    const [column = "", item] = key.split(/:(.*)/s);
    commands.push(
      item === undefined ? ["clear", table, name, column] : ["remove", table, name, column, item],
    );
  }
  return commands;
}

/** `column=value`, for maps `column:key="value"`. */
function differing(wanted: Readonly<Record<string, string>>, live: SeenRow | undefined): string[] {
  const changes: string[] = [];
  for (const key in wanted) {
    const value = wanted[key] ?? "";
    if (live?.columns[key] !== value) changes.push(`${key}=${key.includes(":") ? `"${value}"` : value}`);
  }
  return changes;
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
