/**
 * Which steps the path of SSH to the host consists of: from the network card through the gateway to the host, with the firewall that
 * lets it in. Everything else may fail without taking the host away from its admin. Pure.
 */
import type { Step } from "../step.ts";
import { externalVeth, LINK, type Network } from "./network.ts";
import { BIN_DIR, SET_SYSCTLS } from "./steps.ts";

/** The steps of the path of SSH, and all others, each list in the order in which the steps came. */
export function splitSshPath(
  { links }: Pick<Network, "links">,
  steps: readonly Step[],
): { readonly path: readonly Step[]; readonly rest: readonly Step[] } {
  const nic = links.find(({ kind }) => kind === "nic")?.name ?? "";
  const names = new Set<string>([
    ...[LINK.externalBridge, LINK.externalMiddle, LINK.intrawire, LINK.intrawireGateway],
    ...[nic, externalVeth(nic)],
  ]);
  const isPath = (step: Step) => isOfPath(step, names);
  return { path: steps.filter(isPath), rest: dnsmasqLast(steps.filter((step) => !isPath(step))) };
}

/**
 * dnsmasq starts when all addresses are there: one that hears of an address while the kernel is still adding it may fail to listen there,
 * and tries again only when the next address comes, of which there may be none.
 */
function dnsmasqLast(steps: readonly Step[]): readonly Step[] {
  const isStart = ({ argv }: Step) => argv[0] === `${BIN_DIR}/start-units` && argv.includes(DNSMASQ);
  const starts = steps.filter(isStart).map(({ argv: [program = "", ...units], ...step }) => ({
    others: startOf(step, program, units.filter((unit) => unit !== DNSMASQ)),
    last: startOf(step, program, [DNSMASQ]),
  }));
  const [start] = starts;
  if (!start) return steps;
  return [...steps.flatMap((step) => isStart(step) ? start.others : [step]), ...start.last];
}

const DNSMASQ = "mobula-dnsmasq.service";

function startOf(step: Omit<Step, "argv">, program: string, units: readonly string[]): Step[] {
  return units.length === 0
    ? []
    : [{ ...step, title: `start ${units.join(", ")}`, argv: [program, ...units] }];
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
