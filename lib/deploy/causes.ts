/**
 * What is broken, deduced from what fails: one cause for a whole pattern of failures, and every failure that none explains as it
 * is. Pure.
 */
import { hostAddresses } from "../address.ts";
import type { WireguardPeerState } from "../net/live_state.ts";
import type { CheckResult, HostVerification, Verification } from "./checks.ts";
import { isPing } from "./checks.ts";
import { deployerClock } from "./evidence.ts";

/** One thing that is broken. */
export interface Cause {
  /** Names of the one or two hosts that it concerns; none where it is the deployer. */
  readonly hosts: readonly string[];
  readonly message: string;
  /** How many failures it explains. */
  readonly failures: number;
}

/** All causes, the ones that explain others first. */
export function findCauses(verification: Verification): readonly Cause[] {
  const one = new Case(verification);
  for (const rule of RULES) rule(one);
  return one.causes;
}

/** Bytes that WireGuard adds on the underlay. */
const WIREGUARD_OVERHEAD = 60;
/** Seconds after which a WireGuard session that is in use has been replaced, or is dead. */
const SESSION_AGE = 180;

/** One failing check and who asked. */
interface Failure extends CheckResult {
  readonly asker: HostVerification;
}

/** The failures that are not explained yet, and the causes found so far. */
class Case {
  readonly hosts: readonly HostVerification[];
  readonly causes: Cause[] = [];
  readonly #verification: Verification;
  #open: readonly Failure[];

  constructor(verification: Verification) {
    this.#verification = verification;
    this.hosts = verification.hosts;
    this.#open = verification.hosts.flatMap((asker) =>
      asker.results.filter(({ ok }) => !ok).map((result) => ({ ...result, asker }))
    );
  }

  get targets(): readonly string[] {
    return this.#verification.targets;
  }

  host(name: string): HostVerification | undefined {
    return this.hosts.find(({ hostname }) => hostname === name);
  }

  failures(matches: (failure: Failure) => boolean): readonly Failure[] {
    return this.#open.filter(matches);
  }

  /** The answer to one host's question about another one, failed or not. */
  result(from: string, to: string, kind: CheckResult["kind"]): CheckResult | undefined {
    return this.host(from)?.results.find((result) => result.to === to && result.kind === kind);
  }

  /** A cause with the failures that it explains; `always`: even without one. */
  blame(
    hosts: readonly string[],
    message: string,
    explains: (failure: Failure) => boolean,
    { always = false } = {},
  ): void {
    const explained = new Set(this.#open.filter(explains));
    if (explained.size === 0 && !always) return;
    this.#open = this.#open.filter((failure) => !explained.has(failure));
    this.causes.push({ hosts, message, failures: explained.size });
  }
}

type Rule = (one: Case) => void;

const RULES: readonly Rule[] = [
  unreachableHosts,
  wrongKeys,
  ownGateways,
  silentHosts,
  brokenPairs,
  narrowPairs,
  accessNetwork,
  deafListeners,
  connections,
  oversize,
  names,
  world,
  clocks,
  trees,
  rest,
];

/** Between these two, whoever asks. */
function between(a: string, b: string): (failure: Failure) => boolean {
  return ({ asker, to }) => (asker.hostname === a && to === b) || (asker.hostname === b && to === a);
}

function isAbout(name: string): (failure: Failure) => boolean {
  return ({ asker, to, kind }) => asker.hostname === name || (to === name && kind !== "name");
}

function isReach({ kind }: Pick<CheckResult, "kind">): boolean {
  return isPing({ kind }) || kind.startsWith("tcp-") || kind.startsWith("oversize-");
}

/** All that breaks with the way between two hosts. */
function isLink(failure: Pick<CheckResult, "kind">): boolean {
  return isReach(failure) || failure.kind === "tree" || failure.kind === "path";
}

function unreachableHosts(one: Case): void {
  for (const { hostname, error, results } of one.hosts) {
    if (error === undefined) continue;
    const connected = results.some(({ kind, ok }) => kind === "ssh" && ok);
    const pings = one.hosts.filter((other) => other.hostname !== hostname)
      .flatMap(({ results }) => results.filter((result) => result.to === hostname && isPing(result)));
    const inside = connected
      ? ""
      : pings.some(({ ok }) => ok)
      ? "; other hosts reach it inside, so the way to its SSH server is broken, not the host"
      : pings.length > 0
      ? "; no other host reaches it either: it is down, or cut off"
      : "";
    const message = error.startsWith(`${hostname}: `) ? error : `${hostname}: ${error}`;
    one.blame([hostname], `${message}${inside}`, isAbout(hostname), { always: true });
  }
}

function wrongKeys(one: Case): void {
  const wrong = one.failures(({ kind }) => kind === "key");
  for (const name of new Set(wrong.map(({ to }) => to))) {
    const failures = wrong.filter(({ to, asker }) => to === name && asker.hostname !== name);
    const listed = wrong.find(({ to, asker }) => to === name && asker.hostname === name);
    const asked = one.hosts.filter(({ results }) =>
      results.some(({ kind, to }) => kind === "key" && to === name)
    ).filter(({ hostname }) => hostname !== name);
    const uses = listed?.found ?? failures[0]?.expected ?? "";
    const inFile = listed ? `wireguard_pubkeys.yml has ${short(listed.expected)}` : "";
    const repair = `Push again to agree on one`;
    if (failures.length > 0 && failures.length < Math.max(2, asked.length)) {
      for (const { asker, found, expected } of failures) {
        const has = found ? `has the key ${short(found)} for ${name}` : `has no key for ${name}`;
        one.blame(
          [asker.hostname, name],
          `${asker.hostname} ${has}, which uses ${short(expected)}. ${repair}`,
          (failure) => between(asker.hostname, name)(failure) && (failure.kind === "key" || isLink(failure)),
        );
      }
    } else if (failures.length > 0) {
      const others = failures.map(({ asker }) => asker.hostname).join(", ");
      const have = failures[0]?.found ? `have ${short(failures[0].found)} for it` : "have none for it";
      one.blame(
        [name],
        `${name} uses the key ${short(uses)}, but ${others} ${have}${
          inFile ? `, and ${inFile}` : ""
        }. ${repair}`,
        (failure) =>
          (failure.kind === "key" && failure.to === name) || (isLink(failure) && isAbout(name)(failure)),
      );
    }
    if (listed) {
      one.blame(
        [name],
        `${name} uses the key ${short(uses)}, but ${inFile}. ${repair}`,
        (failure) => failure.kind === "key" && failure.to === name && failure.asker.hostname === name,
      );
    }
  }
}

function short(key: string | undefined): string {
  return key ? `${key.slice(0, 8)}…` : "none";
}

function ownGateways(one: Case): void {
  for (
    const { asker } of one.failures(({ kind, to, asker }) => kind === "gateway" && to === asker.hostname)
  ) {
    const name = asker.hostname;
    one.blame(
      [name],
      `${name} does not reach its own gateway: its switch or veth_fac0. See "systemctl status 'mobula*'" there`,
      (failure) =>
        isAbout(name)(failure) && !failure.kind.endsWith("intrawire") &&
        (isReach(failure) || ["name", "world", "tree"].includes(failure.kind)),
    );
  }
}

/** Nobody reaches it and it reaches nobody, while others reach each other. */
function silentHosts(one: Case): void {
  for (const { hostname: name, error } of one.hosts) {
    if (error !== undefined) continue;
    const others = one.hosts.filter((other) => other.hostname !== name && other.error === undefined);
    const dead = others.filter((other) => isDead(one, name, other.hostname));
    const living = others.some((a) =>
      others.some((b) => a !== b && one.result(a.hostname, b.hostname, "intrawire")?.ok)
    );
    if (others.length < 2 || dead.length < others.length || !living) continue;
    const heard = others.map(({ hostname }) => handshakeBetween(one, name, hostname));
    one.blame(
      [name],
      `${name} answers nobody and hears nobody, while the others hear each other: the host's own WireGuard or its way to the ` +
        `underlay (UDP 51820)${heard[0] ? `; ${heard[0]}` : ""}`,
      (failure) => isAbout(name)(failure) && isLink(failure),
    );
  }
}

/** Neither direction answers, at no size. */
function isDead(one: Case, a: string, b: string): boolean {
  const both = [one.result(a, b, "intrawire"), one.result(b, a, "intrawire")].filter((result) =>
    result !== undefined
  );
  return both.length > 0 && both.every(({ ok, passes }) => !ok && !(passes !== undefined && passes > 0));
}

function pairs(one: Case): [string, string][] {
  const names = one.hosts.map(({ hostname }) => hostname);
  const all = [...new Set([...names, ...one.targets])];
  return all.flatMap((a, index) => all.slice(index + 1).map((b): [string, string] => [a, b]));
}

function hasOpenIntrawire(one: Case, a: string, b: string): boolean {
  return one.failures((failure) => between(a, b)(failure) && failure.kind === "intrawire").length > 0;
}

/** The underlay between two hosts, and what crosses it because the tree leads there. */
function brokenPairs(one: Case): void {
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

/** A watched path is down, and WireGuard carries nothing there in one direction at least: what answers takes another way. */
function isSilentPath(one: Case, a: string, b: string): boolean {
  const down = one.failures((failure) => between(a, b)(failure) && failure.kind === "path").length > 0;
  return down && (arrives(one, a, b) === false || arrives(one, b, a) === false);
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

function edge(a: string, b: string): string {
  return [a, b].sort().join(" ");
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

/** Whether packets of `from` arrived at `to` while the questions went on; undefined if that cannot be told. */
function arrives(one: Case, from: string, to: string): boolean | undefined {
  const [sender, receiver] = [moved(one, from, to), moved(one, to, from)];
  if (receiver === undefined || receiver.received < 0) return undefined;
  if (receiver.received > 0) return true;
  return sender !== undefined && sender.sent > 0 ? false : undefined;
}

/** How much `name` exchanged with a peer since the first question. */
function moved(one: Case, name: string, peer: string): { received: number; sent: number } | undefined {
  const [before, now] = [
    peerState(one, name, peer, "wireguardBefore"),
    peerState(one, name, peer, "wireguard"),
  ];
  if (!before || !now) return undefined;
  return { received: now.received - before.received, sent: now.sent - before.sent };
}

function peerState(
  one: Case,
  name: string,
  peer: string,
  when: "wireguard" | "wireguardBefore" = "wireguard",
): WireguardPeerState | undefined {
  const address = one.result(name, peer, "intrawire")?.address;
  return one.host(name)?.evidence?.[when]?.peers.find(({ allowedIps }) =>
    allowedIps.includes(`${address}/32`)
  );
}

/** The younger of what both ends say of their last handshake, by the host's own clock. */
function handshakeBetween(one: Case, a: string, b: string): string | undefined {
  const ages = [[a, b] as const, [b, a] as const].flatMap(([name, peer]) => {
    const state = peerState(one, name, peer);
    const clock = one.host(name)?.evidence?.clock;
    if (!state) return [];
    return [
      state.handshake === 0 ? Infinity : Date.now() / 1000 + (clock?.low ?? 0) / 1000 - state.handshake,
    ];
  });
  const age = Math.min(...ages);
  if (ages.length === 0) return undefined;
  if (age === Infinity) return "there never was a WireGuard handshake between them";
  return age > SESSION_AGE ? `their last WireGuard handshake was ${Math.round(age / 60)} min ago` : undefined;
}

/** Small packets pass and large ones do not. */
function narrowPairs(one: Case): void {
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
function accessNetwork(one: Case): void {
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

function deafListeners(one: Case): void {
  for (const { hostname: name, evidence } of one.hosts) {
    if (!evidence?.deaf) continue;
    one.blame(
      [name],
      `TCP to ${name} was not tried: ${evidence.deaf}. Push, so that it has this version of mobula`,
      ({ kind, to }) => kind.startsWith("tcp-") && to === name,
    );
  }
}

/** Full packets pass, but connections do not. */
function connections(one: Case): void {
  for (const kind of ["tcp-intrawire", "tcp-access"] as const) {
    const where = kind === "tcp-intrawire" ? "on the intrawire" : "at its gateway";
    for (const name of one.targets) {
      const failures = one.failures((failure) => failure.kind === kind && failure.to === name);
      const asked = one.hosts.filter(({ results }) =>
        results.some((result) => result.kind === kind && result.to === name)
      );
      if (failures.length < 2 || failures.length < asked.length) continue;
      one.blame(
        [name],
        `nobody gets a TCP connection to ${name} ${where} (${
          failures[0]!.found
        }), though pings of full size pass: a firewall ` +
          `${kind === "tcp-intrawire" ? "on the host" : "older than this mobula"} that drops TCP port 6255`,
        (failure) => failure.kind === kind && failure.to === name,
      );
    }
  }
  for (const { asker, to, kind, found } of one.failures(({ kind }) => kind.startsWith("tcp-"))) {
    const network = kind === "tcp-intrawire" ? "intrawire" : "access network";
    one.blame(
      [asker.hostname, to],
      `TCP from ${asker.hostname} to ${to} on the ${network}: ${found}, though pings of full size pass`,
      (failure) => failure.asker === asker && failure.to === to && failure.kind === kind,
    );
  }
}

function oversize(one: Case): void {
  for (const { asker, kind, found } of one.failures(({ kind }) => kind.startsWith("oversize-"))) {
    const name = asker.hostname;
    const same = (failure: Failure) =>
      failure.asker === asker && failure.kind === kind && failure.found === found;
    const targets = one.failures(same).map(({ to }) => to);
    const network = kind === "oversize-intrawire" ? "intrawire" : "access network";
    const { mtus } = asker.evidence ?? {};
    const full = kind === "oversize-intrawire" ? mtus?.wireguard : mtus?.access;
    const what = found === "answered" ? "passes" : "is lost without a word";
    one.blame(
      [name],
      `a packet of ${full ? full + 1 : "one byte too many"} bytes from ${name} to ${
        targets.join(", ")
      } on the ${network} ${what}` +
        `; expected to be refused. Look at the MTU of ${
          kind === "oversize-intrawire" ? "mo-dir-hs" : "veth_fac0"
        } there`,
      same,
    );
  }
}

function names(one: Case): void {
  for (const asker of one.hosts) {
    const name = asker.hostname;
    const all = asker.results.filter(({ kind }) => kind === "name");
    const own = (failure: Failure) => failure.asker === asker && failure.kind === "name";
    const silent = one.failures(own).filter(({ found }) => found === undefined);
    if (silent.length > 0 && silent.length === all.length) {
      one.blame(
        [name],
        `names at ${name}: its gateway answers no question: dnsmasq is down. See "systemctl status mobula-dnsmasq" there`,
        (failure) =>
          own(failure) || (failure.asker === asker && failure.kind === "world" && onlyNames(failure)),
      );
    }
    for (const { to, found, address } of one.failures(own)) {
      one.blame(
        [name],
        `names at ${name}: ${to} resolves to ${found ?? "nothing"}; expected ${address}`,
        (failure) => own(failure) && failure.to === to && failure.address === address,
      );
    }
  }
}

function onlyNames({ found = "" }: Failure): boolean {
  return !found.includes("gateway");
}

function world(one: Case): void {
  for (const { asker, found } of one.failures(({ kind }) => kind === "world")) {
    const name = asker.hostname;
    const over = asker.evidence?.egress;
    const other = one.hosts.find(({ id }) => hostAddresses(id).gateway === over)?.hostname ?? over;
    one.blame(
      [name],
      over === undefined
        ? `${name} has no way to the world: ${found}`
        : `${name}: ${found}; default traffic leaves by ${other} meanwhile`,
      (failure) => failure.asker === asker && failure.kind === "world",
    );
  }
}

function clocks(one: Case): void {
  const deployer = deployerClock(one.hosts);
  if (deployer) {
    one.blame([], `the clock of this machine is ${deployer} of what most hosts say`, () => false, {
      always: true,
    });
  }
  for (const { asker, found } of one.failures(({ kind }) => kind === "clock")) {
    one.blame(
      [asker.hostname],
      `the clock of ${asker.hostname} is ${found} of the others'. Let it be set by the network (NTP)`,
      (failure) => failure.asker === asker && failure.kind === "clock",
    );
  }
}

/** All that is wrong with one link, or with one host's bridge, is one cause. */
function trees(one: Case): void {
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

function rest(one: Case): void {
  for (const { asker, kind, to, address, from, found, expected } of one.failures(() => true)) {
    const name = asker.hostname;
    const seen = found ? `: ${found}${expected ? `; expected ${expected}` : ""}` : "";
    one.blame(
      [name],
      isPing({ kind })
        ? `${name} gets no answer from ${to} (${kind} ${address}), asked from the ${from}`
        : `${name}: ${kind} ${to}${seen}`,
      (failure) =>
        failure.asker === asker && failure.kind === kind && failure.to === to && failure.address === address,
    );
  }
}
