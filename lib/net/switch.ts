/**
 * Open vSwitch: wanted bridges and ports against live ones → one ovs-vsctl transaction. Pure.
 */
import type { Step } from "../step.ts";
import type { Switch, SwitchPort } from "./network.ts";
import { type Seen, type SeenRow, SWITCH_CONTROL, SWITCH_DB } from "./seen.ts";

/** Columns of a port or interface that are ours alone: a key there that is not wanted is removed. */
const OWN_COLUMNS = { Port: ["other_config", "trunks", "tag"], Interface: ["options", "bfd"] } as const;

/** The transaction that makes the live switch as wanted, or nothing. */
export function switchSteps(wanted: Switch, seen: Seen["switch"]): Step[] {
  const commands = [
    ...staleCommands(wanted, seen),
    ...wanted.bridges.flatMap((bridge) => bridgeCommands(bridge, seen)),
    ...wanted.ports.flatMap((port) => portCommands(port, seen)),
  ];
  if (commands.length === 0) return [];
  const titles = commands.map((command) => command.title).filter((title, index, all) =>
    all.indexOf(title) === index
  );
  return [{
    title: titles.length > 4 ? `configure the switch: ${titles.length} changes` : titles.join(", "),
    argv: [
      "ovs-vsctl",
      `--db=${SWITCH_DB}`,
      "--timeout=20",
      ...commands.flatMap(({ argv }) => ["--", ...argv]),
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

interface Command {
  readonly title: string;
  readonly argv: readonly string[];
}

/** Ports and bridges that nobody wants any more. The database is ours alone, so everything in it is ours. */
function staleCommands(wanted: Switch, seen: Seen["switch"]): Command[] {
  const names = new Set([...wanted.ports, ...wanted.bridges].map(({ name }) => name));
  return (seen?.bridges ?? []).flatMap((bridge) => {
    if (!names.has(bridge.name)) {
      return [{ title: `remove switch ${bridge.name}`, argv: ["--if-exists", "del-br", bridge.name] }];
    }
    return (seen?.ports ?? []).filter((port) => bridge.ports.includes(port.uuid) && !names.has(port.name))
      .map((port) => ({
        title: `remove switch port ${port.name}`,
        argv: ["--if-exists", "del-port", bridge.name, port.name],
      }));
  });
}

function bridgeCommands({ name, columns }: Switch["bridges"][number], seen: Seen["switch"]): Command[] {
  const live = seen?.bridges.find((bridge) => bridge.name === name);
  const changes = differing(columns, live);
  const set = changes.length === 0
    ? []
    : [{ title: `set switch ${name}`, argv: ["set", "Bridge", name, ...changes] }];
  return live ? set : [{ title: `add switch ${name}`, argv: ["--may-exist", "add-br", name] }, ...set];
}

function portCommands(wanted: SwitchPort, seen: Seen["switch"]): Command[] {
  const { bridge, name } = wanted;
  const port = seen?.ports.find((row) => row.name === name);
  const link = seen?.interfaces.find((row) => row.name === name);
  const title = `${port ? "set" : "add"} switch port ${name}`;
  return [
    ...(port ? [] : [["--may-exist", "add-port", bridge, name]]),
    ...columnCommands("Port", name, wanted.port, port),
    ...columnCommands("Interface", name, wanted.interface, link),
  ].map((argv) => ({ title, argv }));
}

function columnCommands(
  table: keyof typeof OWN_COLUMNS,
  name: string,
  wanted: Readonly<Record<string, string>>,
  live: SeenRow | undefined,
): string[][] {
  const changes = differing(wanted, live);
  const stale = Object.keys(live?.columns ?? {}).filter((key) =>
    OWN_COLUMNS[table].some((column) => key === column || key.startsWith(`${column}:`)) && !(key in wanted)
  );
  return [
    ...(changes.length === 0 ? [] : [["set", table, name, ...changes]]),
    ...stale.map((key) => {
      const [column = "", item] = key.split(/:(.*)/s);
      return item === undefined ? ["clear", table, name, column] : ["remove", table, name, column, item];
    }),
  ];
}

function differing(wanted: Readonly<Record<string, string>>, live: SeenRow | undefined): string[] {
  return Object.entries(wanted).filter(([key, value]) => live?.columns[key] !== value)
    .map(([key, value]) => `${key}=${key.includes(":") ? JSON.stringify(value) : value}`);
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
