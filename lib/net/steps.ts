/**
 * Wanted against seen → the steps between them, in the one order that is safe. Pure.
 */
import { HostError } from "../errors.ts";
import type { Step } from "../step.ts";
import { findExternal, isVirtual } from "./external.ts";
import type { Link, Network, Route, Scope } from "./network.ts";
import { LINK, SCOPES } from "./network.ts";
import type { Seen, SeenLink, SeenRoute } from "./seen.ts";
import { RULE_PRIORITIES } from "./wanted.ts";
import { switchRestartSteps, switchSteps, tunnelSteps, waitSteps } from "./switch.ts";
import { wireguardSteps } from "./wireguard.ts";

const MAIN_TABLE = 254;

/** Where the small programs of ours lie on a host. */
export const BIN_DIR = "/opt/mobula/bin";

/**
 * The order: all that can fail comes before the external interface moves, and all that brings the host back on the network
 * follows it at once. Throws HostError if the external interface is nowhere.
 */
export function networkSteps(wanted: Network, seen: Seen): Step[] {
  const nic = findNic(wanted, seen);
  const restart = switchRestartSteps(wanted, seen);
  const linkSets = linkSetSteps(wanted, seen, nic);
  return [
    ...namespaceSteps(wanted, seen),
    ...sysctlSteps(wanted, seen),
    ...firewallSteps(wanted, seen),
    ...byScope(SCOPES, linkAddSteps(wanted, seen)),
    ...unitSteps(wanted, seen),
    ...wireguardSteps(wanted.wireguard, seen.wireguard),
    // One that leads to a link of earlier times leads nowhere: it must not outlive a step that fails.
    ...shortcutSteps(wanted, seen),
    ...switchSteps(wanted.switch, seen.switch),
    ...restart,
    // A switch that was restarted has no more than what it needs to carry on.
    ...(restart.length > 0 ? [loadFlows(wanted)] : flowSteps(wanted, seen)),
    ...nicSteps(nic),
    // First the gateway: it is what the external interface has moved into.
    ...byScope(["mobula", "mobula-sw", "root"], [
      ...linkSets.filter((step) => !isOffload(step)),
      ...neighbourSteps(wanted, seen),
      ...routeSteps(wanted, seen),
    ]),
    ...ruleSteps(wanted, seen),
    // Nothing on the path of SSH needs them.
    ...linkSets.filter(isOffload),
    ...tunnelSteps(wanted.switch.tunnel, seen.switch),
    ...waitSteps(seen),
  ];
}

/** Whether the steps take the external interface out of the root namespace, which ends every connection through it. */
export function movesNic(wanted: Network, seen: Seen): boolean {
  return findNic(wanted, seen).found.scope === "root";
}

/** A step that runs `ip` in a scope. */
export function ip(scope: Scope, title: string, ...argv: string[]): Step {
  return {
    title: scope === "root" ? title : `${title} in ${scope}`,
    argv: ["ip", ...argv],
    ...inScope(scope),
  };
}

/** The step with what traffic feels of it, if anything. */
function felt(step: Step, effect: string | undefined): Step {
  return effect === undefined ? step : { ...step, effect };
}

/** One scope after the other, so that neighbours can share a process; within one the order stays. */
function byScope(scopes: readonly Scope[], steps: readonly Step[]): Step[] {
  return scopes.flatMap((scope) => steps.filter(({ namespace = "root" }) => namespace === scope));
}

function inScope(scope: Scope): Pick<Step, "namespace"> {
  return scope === "root" ? {} : { namespace: scope };
}

function namespaceSteps(wanted: Network, seen: Seen): Step[] {
  return wanted.namespaces.filter((name) => !seen.namespaces.includes(name))
    .map((name) => ip("root", `add namespace ${name}`, "netns", "add", name));
}

/**
 * Takes values and files below /proc/sys, in pairs: neighbouring steps share a process (see run_steps). A file behind "?" is one that need
 * not be there.
 */
export const SET_SYSCTLS: readonly string[] = [
  "sh",
  "-ec",
  'while [ $# -gt 1 ]; do f=/proc/sys/${2#\\?}; [ "$2" != "${2#\\?}" ] && [ ! -e "$f" ] || echo "$1" >"$f"; shift 2; done',
  "sh",
];

function sysctlSteps(wanted: Network, seen: Seen): Step[] {
  return wanted.sysctls
    .filter(({ scope, key, value, optional, atLeast }) => {
      const live = seen.sysctls.find((setting) => setting.scope === scope && setting.key === key);
      // In a namespace that is still to be made nothing is seen yet.
      if (live === undefined) return !optional || scope !== "root" && !seen.namespaces.includes(scope);
      return atLeast ? Number(live.value) < Number(value) : live.value !== value;
    })
    .map(({ scope, key, value, optional }) => ({
      title: `set ${key} to ${value} in ${scope}`,
      argv: [...SET_SYSCTLS, value, `${optional ? "?" : ""}${key.replaceAll(".", "/")}`],
      ...inScope(scope),
    }));
}

function firewallSteps(wanted: Network, seen: Seen): Step[] {
  if (seen.firewall === wanted.firewall.text) return [];
  const isThere = seen.namespaces.includes("mobula");
  return [felt({
    title: "load the gateway's firewall",
    argv: [`${BIN_DIR}/load-firewall`],
    stdin: wanted.firewall.text,
  }, isThere ? "new connections go by these rules, open ones live on" : undefined)];
}

function shortcutSteps({ shortcut }: Network, seen: Seen): Step[] {
  if (seen.shortcut === shortcut.text) return [];
  return [{
    title: "lead the intrawire straight to the host",
    argv: [`${BIN_DIR}/load-shortcut`],
    stdin: shortcut.text,
  }];
}

function flowSteps(wanted: Network, seen: Seen): Step[] {
  return seen.flows === wanted.flows.text ? [] : [loadFlows(wanted)];
}

function loadFlows({ flows }: Network): Step {
  return { title: "load the switch's flows", argv: [`${BIN_DIR}/load-flows`], stdin: flows.text };
}

function linkAddSteps(wanted: Network, seen: Seen): Step[] {
  return wanted.links.filter((link) => !findLink(seen, link.scope, link.name)).flatMap((link): Step[] => {
    const add = ["link", "add", link.name, ...(link.mac ? ["address", link.mac] : [])];
    if (link.kind === "bridge") return [ip(link.scope, `add bridge ${link.name}`, ...add, "type", "bridge")];
    if (link.kind === "wireguard") {
      return [ip(link.scope, `add link ${link.name}`, ...add, "type", "wireguard")];
    }
    if (link.kind !== "veth" || !link.peer) return [];
    const { name, mac, scope } = link.peer;
    // Both MACs are given at once: udev writes its own into a veth that has none.
    const peer = ["peer", "name", name, "address", mac, ...(scope === link.scope ? [] : ["netns", scope])];
    return [ip(link.scope, `add link ${link.name} - ${name}`, ...add, "type", "veth", ...peer)];
  });
}

function unitSteps(wanted: Network, seen: Seen): Step[] {
  const missing = wanted.units.filter((unit) => !seen.activeUnits.includes(unit));
  if (missing.length === 0) return [];
  return [{ title: `start ${missing.join(", ")}`, argv: [`${BIN_DIR}/start-units`, ...missing] }];
}

interface Nic {
  readonly wanted: Link;
  readonly found: SeenLink;
}

/** The external interface keeps the name that it has: another link may be called by the old one meanwhile. */
function findNic(wanted: Network, seen: Seen): Nic {
  const nic = wanted.links.find((link) => link.kind === "nic");
  if (!nic) throw new HostError("Cannot plan the network: no external interface in the baseline");
  const found = findExternal(seen, { interface: nic.name, mac: nic.mac ?? "" }, isVirtual);
  return { wanted: { ...nic, name: found.name }, found };
}

function nicSteps({ wanted, found }: Nic): Step[] {
  if (found.scope === wanted.scope) return [];
  const { name, scope } = wanted;
  return [{
    ...ip("root", `move ${name} into the gateway`, "link", "set", name, "netns", scope),
    effect: "the host's network, about 2 s",
    movesNic: true,
  }];
}

/** A link that is about to be made has nothing yet. */
const BLANK: Partial<SeenLink> = { up: false, addresses: [] };

function linkSetSteps(wanted: Network, seen: Seen, nic: Nic): Step[] {
  return wanted.links.flatMap((link) => {
    if (link.kind === "nic") return attributeSteps(nic.wanted, settledNic(nic));
    const live = findLink(seen, link.scope, link.name) ?? BLANK;
    return [...attributeSteps(link, live), ...addressSteps(link, live)];
  });
}

function isOffload({ argv }: Step): boolean {
  return argv[0] === "ethtool";
}

/** What a link that Open vSwitch has just made anew needs. */
export function freshLinkSteps(link: Link): Step[] {
  return [...attributeSteps(link, BLANK), ...addressSteps(link, BLANK)];
}

/** The external interface as it is after `nicSteps`: a move leaves nothing but the MTU. */
function settledNic({ wanted, found }: Nic): Partial<SeenLink> {
  return found.scope === wanted.scope ? found : { ...BLANK, mtu: found.mtu };
}

function attributeSteps(link: Link, live: Partial<SeenLink>): Step[] {
  const { scope, name } = link;
  const changes: string[] = [];
  if (link.mtu !== undefined && link.mtu !== live.mtu) changes.push("mtu", String(link.mtu));
  if (link.kind === "bridge" && link.mac !== live.mac && live.mac) changes.push("address", link.mac ?? "");
  if (link.master !== undefined && link.master !== live.master) changes.push("master", link.master);
  if (link.up && !live.up) changes.push("up");
  const set = ip(scope, `set ${name} ${changes.join(" ")}`, "link", "set", name, ...changes);
  const steps = changes.length === 0 ? [] : [felt(set, attributeEffect(link, live))];
  if (link.txChecksum === undefined || link.txChecksum === live.txChecksum) return steps;
  const value = link.txChecksum ? "on" : "off";
  return [...steps, {
    title: `set ${name} tx checksum ${value} in ${scope}`,
    argv: ["ethtool", "-K", name, "tx", value],
    ...inScope(scope),
  }];
}

/** A link that has nothing yet carries nothing. */
function attributeEffect(link: Link, live: Partial<SeenLink>): string | undefined {
  const effects = [
    ...mtuEffects(link, live),
    ...(link.kind === "bridge" && link.mac !== live.mac && live.mac
      ? ["what comes to this address, until its neighbours have asked again"]
      : []),
    ...(link.master !== undefined && live.master !== undefined && link.master !== live.master
      ? [`what crosses ${live.master}, for good`]
      : []),
  ];
  return effects.length > 0 ? effects.join("; ") : undefined;
}

function mtuEffects({ kind, mtu }: Link, live: Partial<SeenLink>): string[] {
  if (mtu === undefined || live.mtu === undefined || mtu === live.mtu) return [];
  return [
    ...(kind === "nic" ? ["the host's network, as long as its card takes: some start anew"] : []),
    ...(mtu < live.mtu ? [`packets of more than ${mtu} bytes, until their senders know`] : []),
  ];
}

function addressSteps(link: Link, live: Partial<SeenLink>): Step[] {
  if (link.addresses === undefined) return [];
  const { scope, name, addresses } = link;
  const present = live.addresses ?? [];
  const extra = present.filter((address) => !address.includes(":") && !addresses.includes(address));
  return [
    ...addresses.filter((address) => !present.includes(address))
      .map((address) => ip(scope, `add ${address} to ${name}`, "addr", "replace", address, "dev", name)),
    ...extra.map((address) =>
      felt(
        ip(scope, `remove ${address} from ${name}`, "addr", "del", address, "dev", name),
        "what uses this address, for good",
      )
    ),
  ];
}

function neighbourSteps(wanted: Network, seen: Seen): Step[] {
  return wanted.neighbours
    .filter(({ scope, name, address, mac }) =>
      !seen.neighbours.some((live) =>
        live.scope === scope && live.name === name && live.address === address && live.mac === mac
      )
    )
    .map(({ scope, name, address, mac }) =>
      ip(
        scope,
        `pin ${address} to ${mac}`,
        "neigh",
        "replace",
        address,
        "lladdr",
        mac,
        "dev",
        name,
        "nud",
        "permanent",
      )
    );
}

function routeSteps(wanted: Network, seen: Seen): Step[] {
  const missing = wanted.routes.filter((route) => !seen.routes.some((live) => sameRoute(route, live)));
  const extra = seen.routes.filter((live) =>
    isOurs(live) && !wanted.routes.some((route) => sameRoute(route, live))
  )
    .filter((live) => !missing.some((route) => sameKey(route, live)));
  return [
    ...missing.map((route) =>
      felt(
        ip(
          route.scope,
          `set route ${route.destination} to ${route.device}`,
          "route",
          "replace",
          ...routeArgv({ ...route, destination: destinationOf(route) }),
        ),
        seen.routes.some((live) => sameKey(route, live)) ? "what goes there, this way at once" : undefined,
      )
    ),
    ...extra.map(removeRoute),
  ];
}

function removeRoute(route: SeenRoute): Step {
  const step = ip(
    route.scope,
    `remove route ${route.destination}`,
    "route",
    "del",
    // In full: by its destination alone the kernel would take the first one, perhaps the wanted one.
    ...[route.destination, ...(route.via ? ["via", route.via] : [])],
    ...(route.device ? ["dev", route.device] : []),
    ...(route.source ? ["src", route.source] : []),
    ...(route.metric ? ["metric", String(route.metric)] : []),
    ...["table", String(route.table)],
  );
  return felt(step, "what goes there, another way or none");
}

/** Marks the routes that run-paths adds and removes by itself, so that no plan minds them; nobody else's (rt_protos). */
export const DETOUR_PROTOCOL = "109";

/** Only what nobody but us can have made: IPv4 routes in the gateway, and our table on the host. */
function isOurs(route: SeenRoute): boolean {
  if (route.family !== "inet" || route.protocol === "kernel" || route.protocol === DETOUR_PROTOCOL) {
    return false;
  }
  return route.scope === "root" ? route.device === LINK.intrawire : route.table === 254;
}

function sameKey(route: Route, live: SeenRoute): boolean {
  return route.scope === live.scope && route.family === live.family && route.table === live.table &&
    route.destination === live.destination &&
    (route.family === "inet6" || (route.metric ?? 0) === (live.metric ?? 0));
}

function sameRoute(route: Route, live: SeenRoute): boolean {
  return sameKey(route, live) && route.device === live.device && route.via === live.via &&
    route.source === live.source &&
    (route.family === "inet6" ||
      (route.onlink ?? false) === (live.onlink ?? false) && live.extras === undefined);
}

/** A batch has no option for the family: there the destination has to tell it. */
function destinationOf({ family, destination }: Route): string {
  return family === "inet6" && destination === "default" ? "::/0" : destination;
}

/** A route's words after `ip route replace`. */
export function routeArgv({ destination, device, via, source, metric, onlink, table }: Route): string[] {
  return [
    destination,
    ...(via ? ["via", via] : []),
    "dev",
    device,
    ...(onlink ? ["onlink"] : []),
    ...(source ? ["src", source] : []),
    ...(metric ? ["metric", String(metric)] : []),
    ...(table === 254 ? [] : ["table", String(table)]),
  ];
}

function ruleSteps(wanted: Network, seen: Seen): Step[] {
  const ours: readonly number[] = Object.values(RULE_PRIORITIES);
  const same = (rule: Network["rules"][number], live: Seen["rules"][number]) =>
    rule.priority === live.priority && rule.from === live.from && rule.to === live.to &&
    rule.protocol === live.protocol && rule.sport === live.sport &&
    (rule.withoutDefault ?? false) === (live.withoutDefault ?? false) && tableName(rule.table) === live.table;
  const extra = seen.rules.filter((live) =>
    ours.includes(live.priority) && !wanted.rules.some((rule) => same(rule, live))
  );
  return [
    ...extra.map((rule) =>
      // In full: by its priority alone the kernel would take the first one, perhaps the wanted one.
      felt(
        ip("root", `remove rule ${rule.priority}`, "rule", "del", ...ruleArgv(rule)),
        "what it leads, another way or none",
      )
    ),
    ...wanted.rules.filter((rule) => !seen.rules.some((live) => same(rule, live))).map((rule) =>
      ip(
        "root",
        `add rule ${ruleWords(rule)}`,
        // systemd-networkd deletes rules that it did not make, except the kernel's.
        ...["rule", "add", ...ruleArgv(rule), "protocol", "kernel"],
      )
    ),
  ];
}

function tableName(table: number): string {
  return table === MAIN_TABLE ? "main" : String(table);
}

function ruleWords({ from, to, sport, table }: Network["rules"][number]): string {
  if (from) return `from ${from}`;
  return to ? `to ${to}` : `for answers of UDP port ${sport} to ${tableName(table)}`;
}

/** A rule's words after `ip rule add`. */
export function ruleArgv(
  { priority, from, to, protocol, sport, table, withoutDefault }:
    | Seen["rules"][number]
    | Network["rules"][number],
): string[] {
  return [
    ...["priority", String(priority)],
    ...(from ? ["from", from] : []),
    ...(to ? ["to", to] : []),
    ...(protocol ? ["ipproto", String(protocol)] : []),
    ...(sport ? ["sport", String(sport)] : []),
    ...["table", String(table)],
    ...(withoutDefault ? ["suppress_prefixlength", "0"] : []),
  ];
}

function findLink(seen: Seen, scope: Scope, name: string): SeenLink | undefined {
  return seen.links.find((link) => link.scope === scope && link.name === name);
}
