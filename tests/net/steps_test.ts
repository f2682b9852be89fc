/** Each single deviation of a real host is repaired, and nothing else is touched. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { HostError } from "../../lib/errors.ts";
import { LINK } from "../../lib/net/network.ts";
import { parseSeen, type Seen, type SeenLink } from "../../lib/net/seen.ts";
import { movesNic, networkSteps, SET_SYSCTLS } from "../../lib/net/steps.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import type { Step } from "../../lib/step.ts";
import { CAPTURED_HOSTS, readCaptured } from "./captured.ts";
import { assertGolden } from "../golden/golden.ts";
import { fleetOf, inputFor, seenOf } from "./fixtures.ts";

const { wanted, seen } = readCaptured("debian13");
/** The keys of the other host and of the client. */
const [PEER = "", CLIENT = ""] = wanted.wireguard.peers.map(({ publicKey }) => publicKey);

for (const [name] of CAPTURED_HOSTS) {
  Deno.test(`networkSteps: nothing to do on the ${name} host that was captured`, () => {
    const capture = readCaptured(name);
    assertEquals(networkSteps(capture.wanted, capture.seen), []);
    assertEquals(movesNic(capture.wanted, capture.seen), false);
  });
}

function withLink(name: string, change: Partial<SeenLink>): Seen {
  return { ...seen, links: seen.links.map((link) => link.name === name ? { ...link, ...change } : link) };
}

function withoutLinks(...names: string[]): Seen {
  return { ...seen, links: seen.links.filter(({ name }) => !names.includes(name)) };
}

type SeenPeer = NonNullable<Seen["wireguard"]>["peers"] extends ReadonlyMap<string, infer P> ? P : never;

function withPeers(change: (peers: Map<string, SeenPeer>) => void): Seen {
  const peers = new Map(seen.wireguard!.peers);
  change(peers);
  return { ...seen, wireguard: { ...seen.wireguard!, peers } };
}

function withSwitch(
  change: (live: NonNullable<Seen["switch"]>) => Partial<NonNullable<Seen["switch"]>>,
): Seen {
  return { ...seen, switch: { ...seen.switch!, ...change(seen.switch!) } };
}

function withRoute(route: Partial<Seen["routes"][number]>): Seen {
  const extra = { scope: "mobula", family: "inet", table: 254, protocol: "boot" } as const;
  return { ...seen, routes: [...seen.routes, { ...extra, destination: "default", ...route }] };
}

/** A kernel of its own, as no container has it. */
function withRootSysctl(key: string, value: string): Seen {
  return { ...seen, sysctls: [...seen.sysctls, { scope: "root", key, value }] };
}

const VSCTL = "ovs-vsctl --db=unix:/run/mobula/ovs/db.sock --timeout=20 --";
const APPCTL = "ovs-appctl --timeout=5 -t /run/mobula/ovs/vswitchd.ctl";

/** Deviation, the live state with it, and the commands that take it away. */
const DEVIATIONS: readonly [string, Seen, readonly string[]][] = [
  ["the gateway's namespace is missing", { ...seen, namespaces: ["mobula-sw"] }, ["ip netns add mobula"]],
  [
    "forwarding is off",
    {
      ...seen,
      sysctls: seen.sysctls.map((one) => one.key === "net.ipv4.ip_forward" ? { ...one, value: "0" } : one),
    },
    [`[mobula] ${SET_SYSCTLS.join(" ")} 1 net/ipv4/ip_forward`],
  ],
  [
    "the kernel knows few neighbours",
    withRootSysctl("net.ipv4.neigh.default.gc_thresh3", "1024"),
    [`${SET_SYSCTLS.join(" ")} 16384 ?net/ipv4/neigh/default/gc_thresh3`],
  ],
  [
    "somebody else lets the kernel know more neighbours",
    withRootSysctl("net.ipv4.neigh.default.gc_thresh3", "100000"),
    [],
  ],
  [
    "the kernel has no bridge filter",
    { ...seen, sysctls: seen.sysctls.filter(({ key }) => !key.startsWith("net.bridge.")) },
    [],
  ],
  [
    "Docker has switched on the bridge filter",
    {
      ...seen,
      sysctls: seen.sysctls.map((one) => one.key.endsWith("call-iptables") ? { ...one, value: "1" } : one),
    },
    [`[mobula] ${SET_SYSCTLS.join(" ")} 0 ?net/bridge/bridge-nf-call-iptables`],
  ],
  [
    "the intrawire pair is missing",
    withoutLinks("mo-dir-hs", "mo-dir-gw"),
    [
      "ip link add mo-dir-hs address 02:6d:6f:00:02:04 type veth peer name mo-dir-gw address 02:6d:6f:00:02:05 netns mobula",
      "[mobula] ip link set mo-dir-gw mtu 1440 up",
      "ip link set mo-dir-hs mtu 1440 up",
      "ip addr replace 10.30.0.2/32 dev mo-dir-hs",
    ],
  ],
  ["an MTU is wrong", withLink("veth_fac0", { mtu: 1500 }), ["ip link set veth_fac0 mtu 1386"]],
  [
    "the card's MTU is less than before mobula",
    withLink("host0", { mtu: 1400 }),
    ["[mobula] ip link set host0 mtu 1500"],
  ],
  [
    "the card's MTU is more than before mobula",
    withLink("host0", { mtu: 9000 }),
    ["[mobula] ip link set host0 mtu 1500"],
  ],
  [
    "an MTU is less than it may be",
    withLink("veth_fac0", { mtu: 1280 }),
    ["ip link set veth_fac0 mtu 1386"],
  ],
  [
    "a port has gone into another bridge",
    withLink("mo-mid-gw", { master: "br0" }),
    ["[mobula] ip link set mo-mid-gw master mo-ext-gw"],
  ],
  ["a link is down", withLink("mo-dir-gw", { up: false }), ["[mobula] ip link set mo-dir-gw up"]],
  [
    "a port has left the external bridge",
    withLink("mo-mid-gw", { master: undefined }),
    ["[mobula] ip link set mo-mid-gw master mo-ext-gw"],
  ],
  [
    "the bridge has lost the card's MAC",
    withLink("mo-ext-gw", { mac: "02:00:00:00:00:01" }),
    [`[mobula] ip link set mo-ext-gw address ${wanted.links.find(({ kind }) => kind === "nic")?.mac}`],
  ],
  [
    "checksum offload is on",
    withLink("mo-und-gw", { txChecksum: true }),
    ["[mobula] ethtool -K mo-und-gw tx off"],
  ],
  [
    "an address is missing",
    withLink("mo-ext-gw", { addresses: [] }),
    ["[mobula] ip addr replace 198.51.100.2/24 dev mo-ext-gw"],
  ],
  [
    "there is an extra address",
    withLink("mo-dir-hs", { addresses: ["10.30.0.9/32", "10.30.0.2/32", "2001:db8::1/64"] }),
    ["ip addr del 10.30.0.9/32 dev mo-dir-hs"],
  ],
  [
    "the access link has an old address of ours",
    withLink("veth_fac0", { addresses: ["10.31.128.7/16"] }),
    ["ip addr replace 10.31.128.2/16 dev veth_fac0", "ip addr del 10.31.128.7/16 dev veth_fac0"],
  ],
  [
    "an unknown WireGuard peer",
    withPeers((peers) => peers.set("strange", { allowedIps: ["10.30.0.9/32"] })),
    ["[mobula] wg set mo-wg-gw peer strange remove"],
  ],
  [
    "a WireGuard peer is missing",
    withPeers((peers) => peers.delete(PEER)),
    [
      `[mobula] wg addconf mo-wg-gw /dev/stdin <[Peer]|PublicKey = ${PEER}|` +
      "AllowedIPs = 10.30.0.3/32, 169.254.0.3/32|Endpoint = 198.51.100.3:51820|",
    ],
  ],
  [
    "a peer's endpoint has changed",
    withPeers((peers) => peers.set(PEER, { ...peers.get(PEER)!, endpoint: "203.0.113.9:51820" })),
    [
      `[mobula] wg addconf mo-wg-gw /dev/stdin <[Peer]|PublicKey = ${PEER}|` +
      "AllowedIPs = 10.30.0.3/32, 169.254.0.3/32|Endpoint = 198.51.100.3:51820|",
    ],
  ],
  [
    "a client came from somewhere",
    withPeers((peers) => peers.set(CLIENT, { ...peers.get(CLIENT)!, endpoint: "203.0.113.9:40000" })),
    [],
  ],
  [
    "a client may send from more addresses",
    withPeers((peers) => peers.set(CLIENT, { allowedIps: ["10.30.128.1/32", "10.30.128.9/32"] })),
    [`[mobula] wg addconf mo-wg-gw /dev/stdin <[Peer]|PublicKey = ${CLIENT}|AllowedIPs = 10.30.128.1/32|`],
  ],
  [
    "WireGuard listens elsewhere",
    { ...seen, wireguard: { ...seen.wireguard!, listenPort: 4711 } },
    ["[mobula] wg set mo-wg-gw listen-port 51820"],
  ],
  [
    "a route is missing",
    { ...seen, routes: seen.routes.filter(({ destination }) => destination !== "10.30.128.0/17") },
    ["[mobula] ip route replace 10.30.128.0/17 dev mo-wg-gw src 10.31.0.2"],
  ],
  [
    "a route leads elsewhere",
    {
      ...seen,
      routes: seen.routes.map((route) =>
        route.destination === "10.30.128.0/17" ? { ...route, device: "mo-ext-gw" } : route
      ),
    },
    ["[mobula] ip route replace 10.30.128.0/17 dev mo-wg-gw src 10.31.0.2"],
  ],
  [
    "an extra route",
    withRoute({ destination: "10.99.0.0/16", device: "mo-ext-gw", via: "198.51.100.9", metric: 5 }),
    ["[mobula] ip route del 10.99.0.0/16 via 198.51.100.9 dev mo-ext-gw metric 5 table 254"],
  ],
  [
    "a second default route",
    withRoute({ device: "mo-ext-gw", via: "198.51.100.9" }),
    ["[mobula] ip route del default via 198.51.100.9 dev mo-ext-gw table 254"],
  ],
  [
    "an extra route on the intrawire",
    withRoute({ scope: "root", table: 10, destination: "10.99.0.0/16", device: "mo-dir-hs" }),
    ["ip route del 10.99.0.0/16 dev mo-dir-hs table 10"],
  ],
  [
    "routes that others have made on the host",
    withRoute({ scope: "root", destination: "10.99.0.0/16", device: "docker0" }),
    [],
  ],
  [
    "a route that the kernel has made",
    withRoute({ destination: "10.99.0.0/16", device: "mo-ext-gw", protocol: "kernel" }),
    [],
  ],
  [
    "a detour of the intrawire over the access network",
    withRoute({ destination: "10.30.0.9", device: "ovsbr-mobula", via: "10.31.0.9", protocol: "109" }),
    [],
  ],
  [
    "a neighbour is missing",
    { ...seen, neighbours: seen.neighbours.filter(({ address }) => address !== "169.254.0.2") },
    ["[mobula] ip neigh replace 169.254.0.2 lladdr 02:6d:6f:00:02:0a dev mo-und-gw nud permanent"],
  ],
  [
    "a rule is missing",
    { ...seen, rules: seen.rules.filter(({ priority }) => priority !== 10031) },
    ["ip rule add priority 10031 to 10.30.0.0/16 table 10 protocol kernel"],
  ],
  [
    "a rule of an earlier host id",
    { ...seen, rules: [{ priority: 10030, from: "10.30.0.9", table: "10" }, ...seen.rules] },
    ["ip rule del priority 10030 from 10.30.0.9 table 10"],
  ],
  [
    "a rule of somebody else",
    { ...seen, rules: [...seen.rules, { priority: 100, from: "10.99.0.0/16", table: "99" }] },
    [],
  ],
  [
    "the firewall is not as it was loaded",
    { ...seen, firewall: undefined },
    [`/opt/mobula/bin/load-firewall <${wanted.firewall.text.replaceAll("\n", "|")}`],
  ],
  [
    "the flows are not as they were loaded",
    { ...seen, flows: undefined },
    [`/opt/mobula/bin/load-flows <${wanted.flows.text.replaceAll("\n", "|")}`],
  ],
  [
    "the intrawire's shortcut is not as it was loaded",
    { ...seen, shortcut: undefined },
    [`/opt/mobula/bin/load-shortcut <${wanted.shortcut.text.replaceAll("\n", "|")}`],
  ],
  [
    "daemons have stopped",
    { ...seen, activeUnits: seen.activeUnits.filter((unit) => !/dnsmasq|ovsdb/.test(unit)) },
    ["/opt/mobula/bin/start-units mobula-ovsdb.service mobula-dnsmasq.service"],
  ],
  [
    "a stale switch port",
    withSwitch(({ bridges, ports }) => ({
      bridges: bridges.map((bridge) =>
        bridge.name === LINK.switch ? { ...bridge, ports: [...bridge.ports, "stale"] } : bridge
      ),
      ports: [...ports, { uuid: "stale", name: "mo-t-9", columns: {} }],
    })),
    [`${VSCTL} --if-exists del-port ovsbr-mobula mo-t-9`],
  ],
  [
    "a stale switch",
    withSwitch(({ bridges }) => ({
      bridges: [...bridges, { uuid: "stale", name: "br0", columns: {}, ports: [] }],
    })),
    [`${VSCTL} --if-exists del-br br0`],
  ],
  [
    "a switch port is missing",
    withSwitch(({ ports, interfaces }) => ({
      ports: ports.filter(({ name }) => name !== "mo-t-3"),
      interfaces: interfaces.filter(({ name }) => name !== "mo-t-3"),
    })),
    [
      `${VSCTL} --may-exist add-port ovsbr-mobula mo-t-3 -- set Interface mo-t-3 type=geneve ` +
      'options:local_ip="169.254.0.2" options:remote_ip="169.254.0.3" options:dst_port="6254" options:key="flow"',
    ],
  ],
  [
    "the host's port is missing: a port that joins late hears nothing that is sent to all",
    withSwitch(({ ports, interfaces }) => ({
      ports: ports.filter(({ name }) => name !== "mo-fac-ovs"),
      interfaces: interfaces.filter(({ name }) => name !== "mo-fac-ovs"),
    })),
    [
      `${VSCTL} --may-exist add-port ovsbr-mobula mo-fac-ovs -- set Port mo-fac-ovs other_config:rstp-enable="false"`,
      "systemctl restart mobula-vswitchd.service",
      `/opt/mobula/bin/load-flows <${wanted.flows.text.replaceAll("\n", "|")}`,
    ],
  ],
  [
    "a column has changed, and one is not ours",
    withSwitch(({ interfaces }) => ({
      interfaces: interfaces.map((row) =>
        row.name === "mo-t-3"
          ? { ...row, columns: { ...row.columns, "options:key": "5", "options:tos": "inherit" } }
          : row
      ),
    })),
    [`${VSCTL} set Interface mo-t-3 options:key="flow" -- remove Interface mo-t-3 options tos`],
  ],
  [
    "a port has a VLAN tag",
    withSwitch(({ ports }) => ({
      ports: ports.map((row) =>
        row.name === "mo-fac-ovs" ? { ...row, columns: { ...row.columns, tag: "7" } } : row
      ),
    })),
    [`${VSCTL} clear Port mo-fac-ovs tag`],
  ],
  [
    "RSTP is off",
    withSwitch(({ bridges }) => ({
      bridges: bridges.map((row) =>
        row.name === LINK.switch ? { ...row, columns: { ...row.columns, rstp_enable: "false" } } : row
      ),
    })),
    [`${VSCTL} set Bridge ovsbr-mobula rstp_enable=true`],
  ],
  [
    "the switch waits still for the flows that it has",
    withSwitch(() => ({ waits: true })),
    [`${VSCTL.replace(/ --$/, "")} remove Open_vSwitch . other_config flow-restore-wait`],
  ],
  [
    "the switch is only about to start, and waits",
    {
      ...withSwitch(() => ({ waits: true })),
      activeUnits: seen.activeUnits.filter((unit) => unit !== "mobula-vswitchd.service"),
    },
    ["/opt/mobula/bin/start-units mobula-vswitchd.service"],
  ],
  [
    "the tunnel's route is missing",
    withSwitch(({ tunnelRoutes }) => ({ tunnelRoutes: tunnelRoutes.replace(/^User:.*\n/m, "") })),
    [`${APPCTL} ovs/route/add 169.254.0.0/17 br-und 169.254.200.1`],
  ],
  [
    "the tunnel's neighbour is another",
    withSwitch(({ tunnelNeighbours }) => ({
      tunnelNeighbours: tunnelNeighbours.replace(/^(169\.254\.200\.1 +)\S+/m, "$102:00:00:00:00:01"),
    })),
    [`${APPCTL} tnl/neigh/set br-und 169.254.200.1 02:6d:6f:00:02:09`],
  ],
  [
    "the card has another name in the gateway",
    withLink("host0", { name: "eth7" }),
    [],
  ],
  [
    "the card is still in the root namespace, under another name",
    withLink("host0", { name: "eth7", scope: "root", master: undefined }),
    [
      "ip link set eth7 netns mobula",
      "[mobula] ip link set eth7 master mo-ext-gw up",
    ],
  ],
];

function command({ argv, namespace, stdin }: Step): string {
  const where = namespace ? `[${namespace}] ` : "";
  return `${where}${argv.join(" ")}${stdin === undefined ? "" : ` <${stdin.replaceAll("\n", "|")}`}`;
}

for (const [what, live, commands] of DEVIATIONS) {
  Deno.test(`networkSteps: ${what}`, () => {
    assertEquals(networkSteps(wanted, live).map(command), commands);
  });
}

Deno.test("networkSteps: what traffic feels of each repair, as in the golden file", () => {
  const text = DEVIATIONS.map(([what, live]) =>
    [
      `${what}\n`,
      ...networkSteps(wanted, live).map(({ title, effect = "none" }) => `  ${title}  [${effect}]\n`),
    ].join("")
  );
  assertGolden("effects", text.join(""));
});

Deno.test("networkSteps: nothing is planned without the card", () => {
  const error = assertThrows(() => networkSteps(wanted, withoutLinks("host0", "mo-ext-gw")), HostError);
  assert(error.message.startsWith("Cannot find the external interface: no link has the address "));
});

Deno.test("networkSteps: a card whose address was changed is found by its permanent one", () => {
  const mac = seen.links.find(({ name }) => name === "host0")?.mac;
  const live = withLink("host0", { mac: "02:00:00:00:00:01", permanentMac: mac });
  assertEquals(networkSteps(wanted, live), []);
});

Deno.test("movesNic: only as long as the card is in the root namespace", () => {
  assertEquals(movesNic(wanted, withLink("host0", { scope: "root" })), true);
});

Deno.test("networkSteps: rules for the answers of forwarded UDP services, seen as ip prints them, and gone with the forward", () => {
  const forward = [{ external: 5300, internal: 53, protocol: "udp" }] as const;
  const fleet = fleetOf([2, 3]);
  const hosts = fleet.hosts.map((host) => host.id === 2 ? { ...host, forward } : host);
  const withForward = wantedNetwork(inputFor({ ...fleet, hosts }, 2, "kernel"));
  const none = wantedNetwork(inputFor(fleet, 2, "kernel"));
  const rules = `@@objects root
[{"priority":10030,"src":"10.30.0.2","table":"10"},{"priority":10031,"src":"all","dst":"10.30.0.0","dstlen":16,"table":"10"},
{"priority":10032,"src":"all","ipproto":"udp","sport":53,"table":"main","suppress_prefixlen":0},
{"priority":10033,"src":"all","ipproto":"17","sport":53,"table":"10"}]
`;
  const live = { ...seenOf(none), firewall: withForward.firewall.text, rules: parseSeen(rules, []).rules };
  assertEquals(networkSteps(withForward, live), []);
  const words = (steps: readonly Step[]) =>
    steps.map(({ argv }) => argv.join(" ")).filter((line) => /rule/.test(line));
  const near = "priority 10032 ipproto 17 sport 53 table main suppress_prefixlength 0";
  const far = "priority 10033 ipproto 17 sport 53 table 10";
  assertEquals(words(networkSteps(none, live)), [`ip rule del ${near}`, `ip rule del ${far}`]);
  assertEquals(words(networkSteps(withForward, seenOf(none))), [
    `ip rule add ${near.replace("main", "254")} protocol kernel`,
    `ip rule add ${far} protocol kernel`,
  ]);
});

Deno.test("networkSteps: a route that lost its onlink, or was given an MTU of its own, is set again", () => {
  const change = (pattern: RegExp, more: object) =>
    networkSteps(wanted, {
      ...seen,
      routes: seen.routes.map((route) =>
        pattern.test(`${route.scope} ${route.destination}`) && route.family === "inet"
          ? { ...route, ...more }
          : route
      ),
    }).map(({ title }) => title);
  assertEquals(change(/^root default/, { onlink: undefined }).filter((title) => /mo-dir-hs/.test(title)), [
    "set route default to mo-dir-hs",
  ]);
  assertEquals(change(/^mobula 10.30.0.0/, { extras: "mtu 1300" }), [
    "set route 10.30.0.0/17 to mo-wg-gw in mobula",
  ]);
  const said =
    '@@objects mobula\n[{"dst":"10.30.0.0/17","dev":"mo-wg-gw","flags":["onlink"],"metrics":[{"mtu":1300}]}]\n';
  assertEquals(parseSeen(said, []).routes.map(({ onlink, extras }) => [onlink, extras]), [[
    true,
    "mtu 1300",
  ]]);
});
