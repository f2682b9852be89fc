/**
 * The steps of a plan in the order of a boot. First the path of SSH to the host: from the network card through the gateway to the host,
 * with the firewall that lets it in. Everything else may fail without taking the host away from its admin. Pure.
 */
import type { Step } from "../step.ts";
import { externalVeth, LINK, type Network } from "./network.ts";
import { BIN_DIR, SET_SYSCTLS } from "./steps.ts";

/** A boot's steps in the order in which it takes them; each list keeps the order in which the steps came. */
export interface BootSteps {
  /** From the network card to the host. */
  readonly path: readonly Step[];
  /** The intrawire, which needs no switch. */
  readonly wireguard: readonly Step[];
  /** What came before the switch: its namespace, and the links that it takes in. */
  readonly base: readonly Step[];
  /** Begins with the start of its daemons; without them whoever talks to the switch only waits. */
  readonly switch: readonly Step[];
  /**
   * dnsmasq starts when all addresses are there: one that hears of an address while the kernel is still adding it may fail to listen
   * there, and tries again only when the next address comes, of which there may be none.
   */
  readonly others: readonly Step[];
}

/** Sorts the steps of a plan for a boot. */
export function bootSteps({ links }: Pick<Network, "links">, steps: readonly Step[]): BootSteps {
  const nic = links.find(({ kind }) => kind === "nic")?.name ?? "";
  const names = new Set<string>([
    ...[LINK.externalBridge, LINK.externalMiddle, LINK.intrawire, LINK.intrawireGateway],
    ...[nic, externalVeth(nic)],
  ]);
  const lists: Record<Part, Step[]> = {
    path: [],
    wireguard: [],
    base: [],
    switch: [],
    others: [],
    dnsmasq: [],
  };
  for (const step of steps.flatMap(startsApart)) {
    const part = partOf(step, names);
    lists[part === "others" && lists.switch.length === 0 ? "base" : part].push(step);
  }
  const { others, dnsmasq, ...parts } = lists;
  return { ...parts, others: [...others, ...dnsmasq] };
}

type Part = keyof BootSteps | "dnsmasq";

/** Which part of the network a daemon belongs to. */
const PARTS: Readonly<Record<string, Part>> = {
  "mobula-wireguard.service": "wireguard",
  "mobula-ovsdb.service": "switch",
  "mobula-vswitchd.service": "switch",
  "mobula-dnsmasq.service": "dnsmasq",
};

/** The start of several daemons as one for each part. */
function startsApart(step: Step): readonly Step[] {
  const [program = "", ...units] = step.argv;
  if (program !== START_UNITS) return [step];
  const parts = Map.groupBy(units, (unit) => PARTS[unit] ?? "others");
  return [...parts.values()].map((units) => ({
    ...step,
    title: `start ${units.join(", ")}`,
    argv: [program, ...units],
  }));
}

const START_UNITS = `${BIN_DIR}/start-units`;
/** What waits for the switch's daemons. What `ovs-appctl` tells a switch that is not there fails at once, and needs the links' addresses. */
const SWITCH_PROGRAMS: readonly string[] = ["ovs-vsctl", `${BIN_DIR}/load-flows`];

function partOf(step: Step, names: ReadonlySet<string>): Part {
  const { argv } = step;
  const [program = "", unit = ""] = argv;
  if (isOfPath(step, names)) return "path";
  if (program === START_UNITS) return PARTS[unit] ?? "others";
  if (SWITCH_PROGRAMS.includes(program) || argv.includes("mobula-vswitchd.service")) return "switch";
  // A route that prefers an address waits for it: that of the gateway is on the switch's side.
  const isWireguard = program === "wg" || program === "ip" && argv.includes(LINK.wireguard);
  return isWireguard && !argv.includes("src") ? "wireguard" : "others";
}

/** Whether the step is a setting of the kernel: one that it does not take is no reason to do without all others. */
export function isSetting({ argv }: Pick<Step, "argv">): boolean {
  return SET_SYSCTLS.every((word, index) => argv[index] === word);
}

function isOfPath(step: Step, names: ReadonlySet<string>): boolean {
  const { argv, namespace, movesNic } = step;
  const [program, object, verb, name = ""] = argv;
  if (movesNic || program === `${BIN_DIR}/load-firewall`) return true;
  if (namespace === "mobula" && isSetting(step)) return true;
  if (program !== "ip") return false;
  if (object === "rule") return true;
  if (object === "netns") return verb === "add" && name === "mobula";
  if (object === "link") return names.has(name) || namespace === "mobula" && name === "lo";
  return names.has(argv[argv.indexOf("dev") + 1] ?? "");
}
