/**
 * The network as the baseline has it against what is seen → the steps that give it back. Pure.
 */
import { HostError } from "../errors.ts";
import type { Baseline, BaselineRoute, BaselineRule, Policy, TableRoute } from "../facts.ts";
import type { Step } from "../step.ts";
import { findExternal, isOurLink } from "./external.ts";
import type { Seen, SeenLink, SeenRoute } from "./seen.ts";
import { ip, routeArgv, ruleArgv } from "./steps.ts";
import { RULE_PRIORITIES } from "./wanted.ts";

const MAIN_TABLE = 254;

/** What decides about addresses and routes of an external interface that is in the root namespace already. */
export interface DownOptions {
  /** After a reboot the host's own network manager configures it, and minds if somebody else has done so. */
  readonly restoreSettled: boolean;
  /** The rules and the other tables' routes that are there. */
  readonly policy: Policy;
}

/**
 * The order: what would stand in the way of the host's own routes, then the external interface with all that it carried, then
 * what no traffic depends on. Throws HostError if the external interface is nowhere. Nothing to do is an empty list.
 */
export function downSteps(baseline: Baseline, seen: Seen, options: DownOptions): Step[] {
  const nic = externalOf(baseline, seen);
  const name = nameToGive(baseline, seen, nic);
  return [
    ...ruleSteps(seen),
    ...linkSteps(baseline, seen),
    ...nicSteps(name, nic),
    ...settingSteps({ ...baseline, interface: name }, seen, nic, options),
    ...stopSteps(seen.activeUnits),
    ...seen.namespaces.map((name) => ip("root", `delete namespace ${name}`, "netns", "delete", name)),
  ];
}

/** Whether the external interface is in a namespace of ours. */
export function isTaken(baseline: Baseline, seen: Seen): boolean {
  return externalOf(baseline, seen).scope !== "root";
}

/** A card that took the place of the one that was there is the host's own affair. */
function externalOf(baseline: Baseline, seen: Seen): SeenLink {
  return findExternal(seen, baseline, () => true);
}

/** Whether the network card of the baseline is there at all. */
export function hasExternal(baseline: Baseline, seen: Seen): boolean {
  try {
    return externalOf(baseline, seen) !== undefined;
  } catch (error) {
    if (error instanceof HostError) return false;
    throw error;
  }
}

/** Whether no namespace of ours is there, so that nothing can have been taken away from the host. */
export function isUntouched(seen: Seen): boolean {
  return seen.namespaces.length === 0;
}

function ruleSteps(seen: Seen): Step[] {
  const ours: readonly number[] = Object.values(RULE_PRIORITIES);
  return seen.rules.filter(({ priority }) => ours.includes(priority)).map((rule) =>
    ip("root", `remove rule ${rule.priority}`, "rule", "del", ...ruleArgv(rule))
  );
}

/** Each end of a pair takes the other one with it; so do routes and neighbours of the link. */
function linkSteps(baseline: Baseline, seen: Seen): Step[] {
  return seen.links.filter(({ scope, name }) => scope === "root" && isOurLink(baseline, name))
    .map(({ name }) => ip("root", `delete link ${name}`, "link", "delete", name));
}

/** The one of before, by which the host's own configuration knows it, unless another link has taken that meanwhile. */
function nameToGive(baseline: Baseline, seen: Seen, nic: SeenLink): string {
  const own = baseline.interface;
  const taken = seen.links.some((link) =>
    link.scope === "root" && link !== nic && [link.name, ...link.altNames ?? []].includes(own)
  );
  return taken ? nic.name : own;
}

function nicSteps(own: string, { scope, name, altNames }: SeenLink): Step[] {
  // A name that is its alternative one already counts as taken.
  const free = altNames?.includes(own)
    ? [ip(scope, `free the name ${own}`, "link", "property", "del", "dev", name, "altname", own)]
    : [];
  if (scope === "root") {
    return name === own
      ? []
      : [...free, ip("root", `rename ${name} to ${own}`, "link", "set", name, "down", "name", own)];
  }
  return [
    ip(scope, `take ${name} out of the gateway's bridge`, "link", "set", name, "down", "nomaster"),
    ...free,
    {
      ...ip(scope, `give ${own} back to the host`, "link", "set", name, "name", own, "netns", "1"),
      effect: "the host's network, about 2 s",
    },
  ];
}

/** What the kernel has without anybody's doing. */
const DEFAULT_RULES: readonly number[] = [0, 32_766, 32_767];

/** All that the external interface carried, for one that is in the root namespace under its own name and carries nothing. */
export function baselineSteps(baseline: Baseline): Step[] {
  const rules = (baseline.rules ?? []).filter(({ priority }) => DEFAULT_RULES.includes(priority));
  const policy: Policy = { tableRoutes: [], rules };
  return settingSteps(baseline, { routes: [] }, { scope: "root", name: baseline.interface }, {
    restoreSettled: true,
    policy,
  });
}

function settingSteps(
  baseline: Baseline,
  seen: Pick<Seen, "routes">,
  nic: Pick<SeenLink, "scope" | "name"> & Partial<SeenLink>,
  { restoreSettled, policy }: DownOptions,
): Step[] {
  const { interface: name, mtu, addresses, routes } = baseline;
  const moved = nic.scope !== "root" || nic.name !== name;
  if (!moved && !restoreSettled) return [];
  const live: Partial<SeenLink> = nic.scope === "root" ? nic : {};
  const changes = [
    ...live.mtu === mtu ? [] : ["mtu", String(mtu)],
    ...live.up && !moved ? [] : ["up"],
  ];
  const isLive = (route: BaselineRoute) =>
    !moved && seen.routes.some((other) => sameRoute(name, route, other));
  return [
    ...changes.length === 0
      ? []
      : [ip("root", `set ${name} ${changes.join(" ")}`, "link", "set", name, ...changes)],
    ...addresses.filter((address) => !live.addresses?.includes(address))
      .map((address) => addressStep(name, address)),
    ...gatewaysFirst(routes).filter((route) => !isLive(route)).map((route) => routeStep(name, route)),
    ...policySteps(baseline, moved ? { ...policy, tableRoutes: [] } : policy),
  ];
}

/** With the card its routes have gone from all tables. Rules stay, unless a network manager has taken them away meanwhile. */
function policySteps({ interface: name, tableRoutes = [], rules = [] }: Baseline, live: Policy): Step[] {
  const liveRoutes = live.tableRoutes.map(tableRouteWords);
  const liveRules = live.rules.map(ruleText);
  return [
    ...gatewaysFirst(tableRoutes).filter((route) => !liveRoutes.includes(tableRouteWords(route)))
      .map((route) => routeStep(name, route)),
    ...rules.filter((rule) => !liveRules.includes(ruleText(rule))).map(ruleStep),
  ];
}

function ruleStep({ family, priority, words }: BaselineRule): Step {
  return {
    ...ip(
      "root",
      `add rule ${priority}`,
      ...(family === "inet6" ? ["-6"] : []),
      "rule",
      "add",
      "priority",
      String(priority),
      ...words.split(" "),
    ),
    mayFail: true,
  };
}

/** With the broadcast address that every network manager gives. */
function addressStep(name: string, address: string): Step {
  const broadcast = address.includes(":") || /\/3[12]$/.test(address) ? [] : ["broadcast", "+"];
  return {
    ...ip("root", `add ${address} to ${name}`, "addr", "replace", address, ...broadcast, "dev", name),
    mayFail: true,
  };
}

/** A next hop outside of the host's subnet is reached by a route of its own, which has to be there first. */
function gatewaysFirst<T extends BaselineRoute>(routes: readonly T[]): readonly T[] {
  return [...routes].sort((a, b) => Number(a.via !== undefined) - Number(b.via !== undefined));
}

function routeStep(device: string, { table, ...route }: BaselineRoute & Partial<TableRoute>): Step {
  const argv = routeArgv({ ...route, scope: "root", table: MAIN_TABLE, device });
  return {
    ...ip(
      "root",
      `set route ${route.destination} to ${device}${table === undefined ? "" : ` in table ${table}`}`,
      ...(route.family === "inet6" ? ["-6"] : []),
      "route",
      "replace",
      ...argv,
      // As its maker would: else that one makes it once more.
      ...(route.protocol ? ["proto", route.protocol] : []),
      ...(table === undefined ? [] : ["table", table]),
    ),
    mayFail: true,
  };
}

function sameRoute(device: string, route: BaselineRoute, live: SeenRoute): boolean {
  return live.scope === "root" && live.table === MAIN_TABLE && live.family === route.family &&
    live.destination === route.destination && live.device === device && live.via === route.via &&
    live.source === route.source && (route.family === "inet6" || (live.metric ?? 0) === (route.metric ?? 0));
}

function stopSteps(units: readonly string[]): Step[] {
  return units.length === 0
    ? []
    : [{ title: `stop ${units.join(", ")}`, argv: ["systemctl", "stop", ...units] }];
}

/** A route as people write it. */
function routeWords({ destination, via, source, metric, onlink, protocol }: BaselineRoute): string {
  return [
    destination,
    ...via ? [`via ${via}`] : [],
    ...source ? [`src ${source}`] : [],
    ...metric ? [`metric ${metric}`] : [],
    ...onlink ? ["onlink"] : [],
    ...protocol ? [`proto ${protocol}`] : [],
  ].join(" ");
}

function tableRouteWords(route: TableRoute): string {
  return `${routeWords(route)} table ${route.table}`;
}

/** A rule as people write it. */
function ruleText({ family, priority, words }: BaselineRule): string {
  return `${priority}: ${words}${family === "inet6" ? " (IPv6)" : ""}`;
}

/** In which ways a network that was read again differs from the baseline; empty for not at all. */
export function baselineDifferences(baseline: Baseline, found: Baseline): string[] {
  const differences = (what: string, wanted: readonly string[], live: readonly string[]) => [
    ...wanted.filter((one) => !live.includes(one)).map((one) => `${what} ${one} is missing`),
    ...live.filter((one) => !wanted.includes(one)).map((one) => `${what} ${one} is new`),
  ];
  const routes = (list: readonly BaselineRoute[]) => list.map(routeWords);
  return [
    ...differences("interface", [baseline.interface], [found.interface]),
    ...differences("MTU", [String(baseline.mtu)], [String(found.mtu)]),
    ...differences("address", baseline.addresses, found.addresses),
    ...differences("route", routes(baseline.routes), routes(found.routes)),
    ...baseline.tableRoutes === undefined ? [] : differences(
      "route",
      baseline.tableRoutes.map(tableRouteWords),
      (found.tableRoutes ?? []).map(tableRouteWords),
    ),
    ...baseline.rules === undefined
      ? []
      : differences("rule", baseline.rules.map(ruleText), (found.rules ?? []).map(ruleText)),
    ...differences(
      "resolv.conf",
      [JSON.stringify(baseline.resolvConf)],
      [JSON.stringify(found.resolvConf)],
    ),
  ];
}
