/**
 * A stand-in of a host's network: links, addresses, routes and rules in namespaces, changed by the words of `ip`, `wg` and our programs,
 * and told in the words of `ip -j`, `wg show` and `ovs-vsctl`. In memory; knows only what mobula uses.
 */
import type { Scope } from "../../lib/net/network.ts";
import { LINK, SCOPES } from "../../lib/net/network.ts";
import type { Seen, SeenRow } from "../../lib/net/seen.ts";
import { type HostInput, wantedNetwork } from "../../lib/net/wanted.ts";
import type { Baseline } from "../../lib/facts.ts";
import { seenOf } from "../net/fixtures.ts";

interface FakeLink {
  scope: Scope;
  name: string;
  mac: string;
  mtu: number;
  up: boolean;
  kind?: string;
  master?: string;
  addresses: string[];
  txChecksum: boolean;
  peer?: FakeLink;
}

interface FakeRoute {
  readonly scope: Scope;
  readonly family: "inet" | "inet6";
  readonly destination: string;
  readonly table: string;
  readonly device: string;
  readonly via?: string;
  readonly source?: string;
  readonly metric?: string;
  readonly onlink: boolean;
  readonly protocol: string;
}

interface FakePeer {
  allowedIps: string[];
  endpoint?: string;
  keepalive?: string;
  handshake: number;
}

/** What a program says that refuses. */
export class Refused extends Error {}

/** The whole network of one host. */
export class FakeNetwork {
  readonly scopes = new Set<Scope>(["root"]);
  links: FakeLink[] = [];
  routes: FakeRoute[] = [];
  rules: { readonly priority: number; readonly words: readonly string[] }[] = [];
  neighbours: {
    readonly scope: Scope;
    readonly name: string;
    readonly address: string;
    readonly mac: string;
  }[] = [];
  readonly sysctls = new Map<string, string>();
  /** What is loaded as one text and still as it was loaded, by name. */
  readonly loaded = new Set<string>();
  readonly units = new Set<string>();
  wireguard: { publicKey: string; listenPort: number; peers: Map<string, FakePeer> } | undefined;
  switch: Seen["switch"];
  /** Public keys of peers that answer no handshake. */
  readonly silent = new Set<string>();
  readonly #baseline: Baseline;

  constructor(baseline: Baseline) {
    this.#baseline = baseline;
    this.boot();
    this.configureCard();
  }

  /** Nothing but the card, without an address, as after a boot. */
  boot(): void {
    const { interface: name, mac } = this.#baseline;
    this.scopes.clear();
    this.scopes.add("root");
    this.links = [blankLink({ scope: "root", name, mac })];
    this.routes = [];
    this.rules = [];
    this.neighbours = [];
    this.sysctls.clear();
    this.loaded.clear();
    this.units.clear();
    this.wireguard = undefined;
    this.switch = undefined;
  }

  /** What the host's own network manager does with a card that it may configure. */
  configureCard(): void {
    const { mac, addresses, routes, interface: name, mtu } = this.#baseline;
    const card = this.links.find((link) => link.mac === mac && link.scope === "root");
    if (!card || card.name !== name) return;
    Object.assign(card, { up: true, mtu, addresses: [...new Set([...card.addresses, ...addresses])] });
    for (const { family, destination, via } of routes) {
      this.ip("root", [
        ...(family === "inet6" ? ["-6"] : []),
        ...["route", "replace", destination, ...(via ? ["via", via] : []), "dev", name],
      ]);
    }
  }

  /** ip(8); throws Refused. */
  ip(scope: Scope, words: readonly string[]): void {
    const family = words[0] === "-6" ? "inet6" : "inet";
    const [object, verb, ...rest] = words[0] === "-6" ? words.slice(1) : words;
    if (!this.scopes.has(scope)) throw new Refused(`Cannot open network namespace "${scope}"`);
    const action = `${object} ${verb}`;
    if (action === "netns add") return this.#addNamespace(rest[0] as Scope);
    if (action === "netns delete") return this.#deleteNamespace(rest[0] as Scope);
    if (action === "link add") return this.#addLink(scope, rest);
    if (action === "link set") return this.#setLink(this.#link(scope, rest[0]!), rest.slice(1));
    if (action === "link delete") return this.#deleteLink(this.#link(scope, rest[0]!));
    if (object === "addr") return this.#address(verb!, scope, rest);
    if (object === "neigh") return this.#neighbour(scope, rest);
    if (object === "route") return this.#route(verb!, scope, family, rest);
    if (object === "rule") return this.#rule(verb!, rest);
    throw new Refused(`Object "${words.join(" ")}" is unknown, try "ip help"`);
  }

  #link(scope: Scope, name: string): FakeLink {
    const found = this.links.find((link) => link.scope === scope && link.name === name);
    if (!found) throw new Refused(`Cannot find device "${name}"`);
    return found;
  }

  #addNamespace(name: Scope): void {
    if (this.scopes.has(name)) throw new Refused("File exists");
    this.scopes.add(name);
    this.links.push(blankLink({ scope: name, name: "lo", kind: "loopback" }));
  }

  /** Hardware returns to the first namespace, everything else is gone. */
  #deleteNamespace(name: Scope): void {
    if (!this.scopes.delete(name)) throw new Refused("No such file or directory");
    for (const link of this.links.filter(({ scope }) => scope === name)) {
      if (link.kind === undefined) this.#move(link, "root");
      else this.#deleteLink(link);
    }
    for (const key of this.sysctls.keys()) if (key.startsWith(`${name} `)) this.sysctls.delete(key);
    if (name === "mobula") {
      this.loaded.clear();
      this.wireguard = undefined;
    }
  }

  /** What `wireguard-go` makes when it starts. */
  addUserspaceWireguard(): void {
    if (!this.wireguard) this.#addLink("mobula", [LINK.wireguard, "type", "wireguard"]);
  }

  #addLink(scope: Scope, words: readonly string[]): void {
    const [name = "", ...options] = words;
    const value = wordAfter(options.slice(0, options.indexOf("type")));
    const kind = options[options.indexOf("type") + 1];
    if (this.links.some((link) => link.scope === scope && link.name === name)) {
      throw new Refused("File exists");
    }
    const link = blankLink({ scope, name, kind, mac: value("address") ?? "" });
    this.links.push(link);
    if (kind === "wireguard") this.wireguard = { publicKey: "(none)", listenPort: 0, peers: new Map() };
    if (kind !== "veth") return;
    const peer = wordAfter(options.slice(options.indexOf("peer")));
    const end = blankLink({
      scope: (peer("netns") ?? scope) as Scope,
      name: peer("name")!,
      kind,
      mac: peer("address") ?? "",
    });
    Object.assign(link, { peer: end });
    Object.assign(end, { peer: link });
    this.links.push(end);
  }

  #setLink(link: FakeLink, words: readonly string[]): void {
    for (const [word, value = ""] of pairs(words, ["up", "down", "nomaster"])) {
      if (word === "up") link.up = true;
      else if (word === "nomaster") delete link.master;
      else if (word === "mtu") link.mtu = Number(value);
      else if (word === "address") link.mac = value;
      else if (word === "master") link.master = this.#link(link.scope, value).name;
      else if (word === "down") this.#takeDown(link);
      else if (word === "name") this.#rename(link, value);
      else if (word === "netns") this.#move(link, value === "1" ? "root" : value as Scope);
      else throw new Refused(`either "dev" is duplicate, or "${word}" is a garbage`);
    }
  }

  #takeDown(link: FakeLink): void {
    link.up = false;
    this.routes = this.routes.filter(({ scope, device }) => scope !== link.scope || device !== link.name);
  }

  #rename(link: FakeLink, name: string): void {
    this.routes = this.routes.map((route) =>
      route.scope === link.scope && route.device === link.name ? { ...route, device: name } : route
    );
    link.name = name;
  }

  /** A link leaves everything behind but its MTU. */
  #move(link: FakeLink, scope: Scope): void {
    if (!this.scopes.has(scope)) throw new Refused(`Invalid "netns" value "${scope}"`);
    this.#takeDown(link);
    link.addresses = [];
    delete link.master;
    link.scope = scope;
  }

  #deleteLink(link: FakeLink): void {
    for (const gone of [link, ...(link.peer ? [link.peer] : [])]) {
      this.#takeDown(gone);
      this.links = this.links.filter((one) => one !== gone);
      this.neighbours = this.neighbours.filter(({ scope, name }) =>
        scope !== gone.scope || name !== gone.name
      );
    }
    if (link.kind === "wireguard") this.wireguard = undefined;
  }

  #address(verb: string, scope: Scope, [address = "", ...words]: readonly string[]): void {
    const link = this.#link(scope, wordAfter(words)("dev")!);
    link.addresses = link.addresses.filter((one) => one !== address);
    if (verb === "replace") link.addresses.push(address);
  }

  #neighbour(scope: Scope, [address = "", ...words]: readonly string[]): void {
    const value = wordAfter(words);
    const name = this.#link(scope, value("dev")!).name;
    this.neighbours = this.neighbours.filter((one) =>
      one.scope !== scope || one.name !== name || one.address !== address
    );
    this.neighbours.push({ scope, name, address, mac: value("lladdr")! });
  }

  #route(verb: string, scope: Scope, family: "inet" | "inet6", words: readonly string[]): void {
    const [destination = "", ...options] = words;
    const value = wordAfter(options);
    const route: FakeRoute = {
      ...{ scope, family, destination, via: value("via"), source: value("src"), metric: value("metric") },
      table: value("table") ?? "main",
      device: value("dev") ?? "",
      onlink: options.includes("onlink"),
      protocol: value("proto") ?? "boot",
    };
    const sameKey = (one: FakeRoute) =>
      one.scope === scope && one.family === family && one.table === route.table &&
      one.destination === destination && one.metric === route.metric;
    const others = this.routes.filter((one) => !sameKey(one));
    if (verb === "del" && others.length === this.routes.length) throw new Refused("No such process");
    if (verb === "replace" && !this.#link(scope, route.device).up) throw new Refused("Network is down");
    this.routes = verb === "replace" ? [...others, route] : others;
  }

  #rule(verb: string, words: readonly string[]): void {
    const rest = words.filter((word, index) => word !== "protocol" && words[index - 1] !== "protocol");
    const rule = { priority: Number(wordAfter(rest)("priority")), words: rest };
    const others = this.rules.filter(({ words }) => words.join(" ") !== rest.join(" "));
    if (verb === "del" && others.length === this.rules.length) throw new Refused("No such file or directory");
    this.rules = verb === "add" ? [...others, rule] : others;
  }

  /** `wg set`, and `wg addconf` with its standard input; `now` in seconds since 1970. */
  wg([verb, , ...words]: readonly string[], stdin: string, now: number): void {
    const { wireguard } = this;
    if (!wireguard) throw new Refused("Unable to access interface: No such device");
    if (verb === "addconf") {
      for (const block of stdin.split("[Peer]").slice(1)) {
        const line = (name: string) => new RegExp(`^${name} = (.*)$`, "m").exec(block)?.[1];
        const old = wireguard.peers.get(line("PublicKey")!);
        wireguard.peers.set(line("PublicKey")!, {
          handshake: old?.handshake ?? 0,
          allowedIps: line("AllowedIPs")?.split(", ") ?? [],
          ...(line("Endpoint") ? { endpoint: line("Endpoint") } : {}),
        });
      }
      return;
    }
    let peer = "";
    for (const [word, value = ""] of pairs(words, ["remove"])) {
      if (word === "listen-port") wireguard.listenPort = Number(value);
      else if (word === "private-key") wireguard.publicKey = keyOfFile(value);
      else if (word === "peer") peer = value;
      else if (word === "remove") wireguard.peers.delete(peer);
      else if (word === "allowed-ips") this.#moveAddresses(peer, value.split(","));
      // A keepalive is sent at once, and answered.
      else if (word === "persistent-keepalive" && value === "1" && !this.silent.has(peer)) {
        wireguard.peers.get(peer)!.handshake = now;
      }
    }
  }

  #moveAddresses(key: string, addresses: string[]): void {
    for (const [other, peer] of this.wireguard!.peers) {
      peer.allowedIps = other === key
        ? addresses
        : peer.allowedIps.filter((address) => !addresses.includes(address));
    }
  }

  /** `wg show mo-wg-gw <what>`. */
  wgShow(what: string): string {
    const { wireguard } = this;
    if (!wireguard) throw new Refused("Unable to access interface: No such device");
    const rows = (value: (peer: FakePeer) => string) =>
      [...wireguard.peers].map(([key, peer]) => `${key}\t${value(peer)}\n`).join("");
    if (what === "public-key") return `${wireguard.publicKey}\n`;
    if (what === "listen-port") return `${wireguard.listenPort}\n`;
    if (what === "endpoints") return rows(({ endpoint }) => endpoint ?? "(none)");
    if (what === "latest-handshakes") return rows(({ handshake }) => String(handshake));
    return rows(({ allowedIps }) => allowedIps.join(" ") || "(none)");
  }

  /** One transaction of Open vSwitch: after it the switch is as the input wants it, with the links that it makes. */
  configureSwitch(input: HostInput): void {
    if (!this.units.has("mobula-vswitchd.service")) throw new Refused("database connection failed");
    const wanted = wantedNetwork(input);
    this.switch = seenOf(wanted).switch;
    for (const { scope, name, kind } of wanted.links) {
      const isThere = this.links.some((link) => link.scope === scope && link.name === name);
      if (kind === "foreign" && !isThere) this.links.push(blankLink({ scope, name, kind: "openvswitch" }));
    }
  }

  /** Stops a daemon; Open vSwitch takes its links along. */
  stop(unit: string): void {
    this.units.delete(unit);
    if (unit !== "mobula-vswitchd.service") return;
    this.switch = undefined;
    this.loaded.delete("flows");
    for (const link of this.links.filter(({ kind }) => kind === "openvswitch")) this.#deleteLink(link);
  }

  /** What `lookScript` and `BASELINE_SCRIPT` print, all sections of both; `units` are asked for in this order. */
  render(units: readonly string[]): string {
    const all = SCOPES.filter((scope) => this.scopes.has(scope));
    return [
      `@@links\n${this.#renderLinks("root")}`,
      `@@policy routes\n${this.#renderRoutes("root", "inet")}`,
      `@@policy routes6\n${this.#renderRoutes("root", "inet6")}`,
      "@@policy rules\n0:\tfrom all lookup local\n32766:\tfrom all lookup main",
      "@@policy rules6\n0:\tfrom all lookup local",
      ...all.flatMap((scope) => [
        ...(scope === "root" ? [] : [`@@namespace ${scope}`]),
        `@@objects ${scope}\n${this.#renderObjects(scope)}`,
        `@@sysctls ${scope}\n${
          [...this.sysctls].filter(([key]) => key.startsWith(`${scope} `))
            .map(([key, value]) => `/proc/sys/${key.split(" ")[1]}:${value}`).join("\n")
        }`,
        `@@offloads ${scope}\n${
          this.links.filter((link) => link.scope === scope).map(({ name, txChecksum }) =>
            `Features for ${name}:\ntx-checksumming: ${txChecksum ? "on" : "off"}`
          ).join("\n")
        }`,
      ]),
      ...(this.wireguard === undefined ? [] : [`@@wireguard\n${this.#renderWireguard()}`]),
      ...(this.switch ? renderSwitch(this.switch) : []),
      ...[...this.loaded].map((name) => `@@live ${name}`),
      `@@units\n${units.map((unit) => this.units.has(unit) ? "active" : "inactive").join("\n")}`,
      "",
    ].join("\n");
  }

  /** The lists of `ip -j -batch`, a line each. */
  #renderObjects(scope: Scope): string {
    return [
      this.#renderLinks(scope),
      JSON.stringify(
        this.neighbours.filter((one) => one.scope === scope)
          .map(({ name, address, mac }) => ({ dev: name, dst: address, lladdr: mac })),
      ),
      ...(scope === "root" ? [JSON.stringify(this.rules.map(({ words }) => renderRule(words)))] : []),
      this.#renderRoutes(scope, "inet"),
      this.#renderRoutes(scope, "inet6"),
    ].join("\n");
  }

  /** `wg show <link> dump` without the private key. */
  #renderWireguard(): string {
    const { publicKey, listenPort, peers } = this.wireguard!;
    const rows = [...peers].map(([key, { endpoint, allowedIps, handshake, keepalive }]) =>
      [
        ...[key, "(none)", endpoint ?? "(none)", allowedIps.join(",") || "(none)"],
        ...[handshake, 0, 0, keepalive ?? "off"],
      ].join("\t")
    );
    return [`${publicKey}\t${listenPort}\toff`, ...rows].join("\n");
  }

  #renderLinks(scope: Scope): string {
    return JSON.stringify(
      this.links.filter((link) => link.scope === scope).map((link) => ({
        ifname: link.name,
        address: link.mac,
        mtu: link.mtu,
        flags: link.up ? ["UP"] : [],
        ...(link.master ? { master: link.master } : {}),
        ...(link.kind ? { linkinfo: { info_kind: link.kind } } : {}),
        addr_info: link.addresses.map((address) => {
          const [local = "", bits] = address.split("/");
          const family = local.includes(":") ? "inet6" : "inet";
          return { family, local, prefixlen: Number(bits), scope: "global" };
        }),
      })),
    );
  }

  #renderRoutes(scope: Scope, family: "inet" | "inet6"): string {
    const routes = this.routes.filter((route) => route.scope === scope && route.family === family);
    return JSON.stringify(routes.map((route) => ({
      dst: route.destination,
      dev: route.device,
      ...(route.via ? { gateway: route.via } : {}),
      ...(route.source ? { prefsrc: route.source } : {}),
      ...(route.metric ? { metric: Number(route.metric) } : {}),
      ...(route.table === "main" ? {} : { table: route.table }),
      protocol: route.protocol,
      ...(family === "inet6" ? { pref: "medium" } : {}),
      flags: route.onlink ? ["onlink"] : [],
    })));
  }
}

function blankLink(
  { scope, name, mac = "", kind }: Pick<FakeLink, "scope" | "name"> & Partial<FakeLink>,
): FakeLink {
  return {
    scope,
    name,
    mac,
    mtu: 1500,
    up: false,
    addresses: [],
    txChecksum: true,
    ...(kind ? { kind } : {}),
  };
}

/** The word behind another one. */
function wordAfter(words: readonly string[]): (word: string) => string | undefined {
  return (word) => words.includes(word) ? words[words.indexOf(word) + 1] : undefined;
}

/** Words and their values, but for those that have none. */
function pairs(words: readonly string[], alone: readonly string[]): [string, string | undefined][] {
  const [word, value, ...rest] = words;
  if (word === undefined) return [];
  if (alone.includes(word)) return [[word, undefined], ...pairs(words.slice(1), alone)];
  return [[word, value], ...pairs(rest, alone)];
}

function keyOfFile(path: string): string {
  const name = path.slice(path.lastIndexOf("/") + 1, -".key".length);
  return `${name.replaceAll("_", "/").replaceAll("-", "+")}=`;
}

/** `ip -j rule show` */
function renderRule(words: readonly string[]): Record<string, unknown> {
  const value = wordAfter(words);
  const network = (text = "all") => text.split("/");
  const [src, srclen] = network(value("from"));
  const [dst, dstlen] = network(value("to"));
  return {
    priority: Number(value("priority")),
    src,
    ...(srclen ? { srclen: Number(srclen) } : {}),
    ...(value("to") ? { dst } : {}),
    ...(dstlen ? { dstlen: Number(dstlen) } : {}),
    table: value("table") === "254" ? "main" : value("table"),
    ...(value("ipproto") ? { ipproto: value("ipproto") } : {}),
    ...(value("sport") ? { sport: Number(value("sport")) } : {}),
    ...(value("suppress_prefixlength") ? { suppress_prefixlen: 0 } : {}),
  };
}

/** `ovs-vsctl --format=json list` */
function renderSwitch(live: NonNullable<Seen["switch"]>): string[] {
  const bridges = live.bridges.map((row) => ({
    ...renderRow(row),
    ports: ["set", row.ports.map((port) => ["uuid", port])],
  }));
  return [
    `@@switch\n${
      [bridges, live.ports.map(renderRow), live.interfaces.map(renderRow)].map(renderTable).join("\n")
    }`,
    `@@tunnel routes\n${live.tunnelRoutes}`,
    `@@tunnel neighbours\n${live.tunnelNeighbours}`,
  ];
}

function renderTable(rows: readonly Record<string, unknown>[]): string {
  const headings = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const data = rows.map((row) => headings.map((heading) => row[heading] ?? ["set", []]));
  return JSON.stringify({ headings, data });
}

function renderRow({ uuid, name, columns }: SeenRow): Record<string, unknown> {
  const row: Record<string, unknown> = { _uuid: ["uuid", uuid], name };
  for (const [column, value] of Object.entries(columns)) {
    const colon = column.indexOf(":");
    if (colon < 0) {
      row[column] = value;
      continue;
    }
    const [, entries] = (row[column.slice(0, colon)] ??= ["map", []]) as [string, [string, string][]];
    entries.push([column.slice(colon + 1), value]);
  }
  return row;
}

/** Which link of the stand-in carries WireGuard. */
export const WIREGUARD_LINK = LINK.wireguard;
