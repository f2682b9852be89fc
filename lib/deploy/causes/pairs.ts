/**
 * Rules about the way between two hosts: the underlay, the size of what passes, the access network and its tree. Pure.
 */
import { between, type Case, type Failure, isAbout, isLink, isReach } from "./case.ts";
import { arrives, handshakeBetween, isDead, pairs } from "./wires.ts";

/** Bytes that WireGuard adds on the underlay. */
const WIREGUARD_OVERHEAD = 60;

/** The underlay between two hosts, and what crosses it because the tree leads there. */
export function brokenPairs(one: Case): void {
  for (const [a, b] of pairs(one)) {
    const detour = !isDead(one, a, b) && isSilentPath(one, a, b);
    if (!detour && !(isDead(one, a, b) && hasOpenIntrawire(one, a, b))) continue;
    const notes = [
      ...detour ? [`they reach each other over ${carriers(one, a, b)} meanwhile`] : [],
      ...[handshakeBetween(one, a, b)].filter((note) => note !== undefined),
    ];
    one.blame([a, b], [describeCut(one, a, b), ...notes].join("; "), crossing(one, a, b));
  }
}

function hasOpenIntrawire(one: Case, a: string, b: string): boolean {
  return one.failures((failure) => between(a, b)(failure) && failure.kind === "intrawire").length > 0;
}

/** A watched path is down, and WireGuard carries nothing there in one direction at least: what answers takes another way. */
function isSilentPath(one: Case, a: string, b: string): boolean {
  const down = one.failures((failure) => between(a, b)(failure) && failure.kind === "path").length > 0;
  return down && (arrives(one, a, b) === false || arrives(one, b, a) === false);
}

/** The third hosts that take the traffic of two, as their switches tell. */
function carriers(one: Case, a: string, b: string): string {
  const over = [[a, b] as const, [b, a] as const].flatMap(([name, peer]) => {
    const id = one.host(peer)?.id;
    return one.host(name)?.evidence?.paths?.filter(({ name }) => name.endsWith(`-${id}`))
      .flatMap((path) => path.over ?? []) ?? [];
  });
  const names = [...new Set(over)].map((id) => one.hosts.find((host) => host.id === id)?.hostname);
  return names.filter((name) => name !== undefined).sort().join(" and ") || "other hosts";
}

/** All that goes between two hosts, and all of the access network that goes through their link of the tree. */
function crossing(one: Case, a: string, b: string): (failure: Failure) => boolean {
  const parents = treeParents(one);
  return (failure) => {
    if (between(a, b)(failure)) return isLink(failure);
    if (!isReach(failure) || failure.kind.endsWith("intrawire")) return false;
    return treePath(parents, failure.asker.hostname, failure.to).includes(edge(a, b));
  };
}

/** Each host's neighbour towards the root. */
function treeParents(one: Case): ReadonlyMap<string, string> {
  return new Map(one.hosts.flatMap(({ hostname, evidence }) => {
    const port = evidence?.tree?.ports.find(({ role }) => role === "Root")?.name;
    const id = Number(/-(\d+)$/.exec(port ?? "")?.[1]);
    const parent = one.hosts.find((host) => host.id === id)?.hostname;
    return parent ? [[hostname, parent]] : [];
  }));
}

/** The edges between two hosts of the tree. */
function treePath(parents: ReadonlyMap<string, string>, a: string, b: string): string[] {
  const up = (name: string) => {
    const way = [name];
    for (let next = parents.get(name); next && !way.includes(next); next = parents.get(next)) way.push(next);
    return way;
  };
  const [left, right] = [up(a), up(b)];
  const meet = left.find((name) => right.includes(name));
  if (meet === undefined) return [];
  const edges = (way: string[]) =>
    way.slice(0, way.indexOf(meet)).map((name, index) => edge(name, way[index + 1]!));
  return [...edges(left), ...edges(right)];
}

function edge(a: string, b: string): string {
  return [a, b].sort().join(" ");
}

/** An answer needs both directions; WireGuard's counters tell which of them is broken. */
function describeCut(one: Case, a: string, b: string): string {
  const [there, back] = [arrives(one, a, b), arrives(one, b, a)];
  if (there === false && back === true) return oneWay(a, b);
  if (back === false && there === true) return oneWay(b, a);
  return there === false && back === false
    ? `the underlay between ${a} and ${b} is broken both ways`
    : `the underlay between ${a} and ${b} is broken`;
}

function oneWay(from: string, to: string): string {
  return `the underlay between ${from} and ${to} is broken one way only: nothing that ${from} sends arrives at ${to}, ` +
    `but ${from} hears ${to}`;
}

/** Small packets pass and large ones do not. */
export function narrowPairs(one: Case): void {
  for (const [a, b] of pairs(one)) {
    for (const kind of ["intrawire", "gateway", "access"] as const) {
      const [there, back] = [one.result(a, b, kind), one.result(b, a, kind)];
      const open = one.failures((failure) => between(a, b)(failure) && failure.kind === kind);
      const sizes = open.flatMap(({ passes }) => passes !== undefined && passes > 0 ? [passes] : []);
      if (sizes.length === 0 || (there?.ok && back?.ok)) continue;
      const size = Math.min(...sizes);
      const mtus = (one.host(a) ?? one.host(b))?.evidence?.mtus;
      const full = kind === "intrawire" ? mtus?.wireguard : mtus?.access;
      const expected = full ? `; expected ${full}` : "";
      const message = kind === "intrawire"
        ? `only packets of up to ${size} bytes pass between ${a} and ${b} on the intrawire${expected}. MTU on the path: the ` +
          `underlay between them loses packets of more than about ${size + WIREGUARD_OVERHEAD} bytes`
        : `only packets of up to ${size} bytes pass between ${a} and ${b} on the access network${expected}`;
      one.blame(
        [a, b],
        message,
        kind === "intrawire"
          ? crossing(one, a, b)
          : (failure) => between(a, b)(failure) && isReach(failure) && !failure.kind.endsWith("intrawire"),
      );
    }
  }
}

/** WireGuard reaches the host, but Ethernet does not. */
export function accessNetwork(one: Case): void {
  const isAccess = (failure: Failure) => failure.kind === "access" || failure.kind === "gateway";
  const explained = (failure: Failure) => isReach(failure) && !failure.kind.endsWith("intrawire");
  const cut = (name: string) => {
    const others = one.hosts.filter(({ hostname, error }) => hostname !== name && error === undefined);
    return others.length >= 2 &&
      others.every(({ hostname }) =>
        one.failures((failure) => isAccess(failure) && between(name, hostname)(failure)).length > 0
      );
  };
  for (const { hostname: name } of one.hosts.filter(({ hostname }) => cut(hostname)).slice(0, 1)) {
    one.blame(
      [name],
      `${name} is cut off from the access network, though WireGuard reaches it: its switch, or its tunnels (geneve, UDP 6254 ` +
        "inside WireGuard)",
      (failure) => isAbout(name)(failure) && (explained(failure) || failure.kind === "tree"),
    );
  }
  for (const [a, b] of pairs(one)) {
    const open = one.failures((failure) => isAccess(failure) && between(a, b)(failure));
    // A single failure says more by itself.
    if (open.length < 2) continue;
    one.blame(
      [a, b],
      `the access network between ${a} and ${b} is broken, though WireGuard is not`,
      (failure) => between(a, b)(failure) && explained(failure),
    );
  }
}

/** All that is wrong with one link, or with one host's bridge, is one cause. */
export function trees(one: Case): void {
  const isTree = ({ kind }: Failure) => kind === "tree" || kind === "path";
  for (const { asker, to } of one.failures(isTree)) {
    const name = asker.hostname;
    const alone = to === name;
    const same = (failure: Failure) =>
      isTree(failure) && (alone ? failure.asker === asker && failure.to === to : between(name, to)(failure));
    const found = new Map<string, string>();
    for (const failure of one.failures(same)) {
      const what = failure.kind === "tree" ? "the tree (RSTP)" : "the path (BFD)";
      const where = alone ? name : `${failure.asker.hostname}, towards ${failure.to}`;
      if (!found.has(failure.found ?? "")) {
        found.set(failure.found ?? "", `${what} at ${where}: ${failure.found}`);
      }
    }
    one.blame(alone ? [name] : [name, to], [...found.values()].join("; "), same);
  }
}
