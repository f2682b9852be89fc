/** The network of real hosts as it is understood before mobula, and values that must not pass. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import fc from "fast-check";
import { HostError } from "../../lib/errors.ts";
import type { Baseline } from "../../lib/facts.ts";
import { parseBaseline, parsePolicy } from "../../lib/host/baseline.ts";
import { networkSteps } from "../../lib/net/steps.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import { renderFiles } from "../../lib/render/files.ts";
import { blankSeen, fleetOf, inputFor } from "../net/fixtures.ts";

const DIRECTORY = new URL("baseline/", import.meta.url).pathname;

/** What the script said on a host of this kind. */
function captured(name: string): string {
  return Deno.readTextFileSync(`${DIRECTORY}${name}.txt`);
}

const RESOLV = "nameserver 198.51.100.253\n";
const INTERFACES = captured("ifupdown").split("@@interfaces /etc/network/interfaces\n")[1]?.slice(0, -1) ??
  "";

const UNDERSTOOD: Record<string, Partial<Baseline>> = {
  networkd_debian12: {
    interface: "host0",
    mtu: 1500,
    addresses: ["198.51.100.3/24"],
    routes: [{ family: "inet", destination: "default", via: "198.51.100.254", protocol: "static" }],
    resolvers: ["198.51.100.253"],
    search: [],
    resolvConf: { text: RESOLV },
    managers: ["networkd"],
  },
  networkd_debian13: {
    interface: "host0",
    addresses: ["198.51.100.2/24"],
    resolvers: ["198.51.100.253"],
    managers: ["networkd"],
  },
  // Several addresses, IPv6, a static route, a comment behind a name server, a file without a last line break.
  ifupdown: {
    interface: "eth0",
    mac: "52:54:00:12:34:56",
    addresses: ["198.51.100.7/24", "198.51.100.8/24", "2001:db8::7/64"],
    routes: [
      { family: "inet", destination: "default", via: "198.51.100.254", onlink: true },
      { family: "inet", destination: "192.0.2.0/24", via: "198.51.100.1" },
      { family: "inet6", destination: "default", via: "2001:db8::1", metric: 1024 },
    ],
    resolvers: ["192.0.2.53", "2001:db8::53"],
    search: ["example.net", "corp.example.net"],
    resolvConf: {
      text: "domain example.org\nnameserver 192.0.2.53 # the first\nnameserver 2001:db8::53\n" +
        "search example.net corp.example.net",
    },
    managers: ["ifupdown"],
    interfaces: { "/etc/network/interfaces": INTERFACES },
  },
  // The card with the smaller metric; two default routes through it; addresses of the router's announcements.
  network_manager: {
    interface: "enp1s0",
    addresses: ["198.51.100.7/24", "2001:db8::7/64"],
    routes: [
      {
        family: "inet",
        destination: "default",
        via: "198.51.100.254",
        source: "198.51.100.7",
        metric: 100,
        protocol: "dhcp",
      },
      { family: "inet", destination: "default", via: "198.51.100.253", metric: 200 },
      { family: "inet6", destination: "2001:db8::/64", metric: 100, protocol: "ra" },
      { family: "inet6", destination: "default", via: "fe80::1", metric: 100, protocol: "ra" },
    ],
    resolvers: ["192.0.2.53"],
    search: ["example.net"],
    managers: ["NetworkManager"],
  },
  // A next hop outside of the subnet, a route to nowhere, name servers behind a stub on the host itself.
  resolved_stub: {
    interface: "eth0",
    addresses: ["203.0.113.20/32", "2001:db8:1::1/64"],
    routes: [
      {
        family: "inet",
        destination: "default",
        via: "172.31.1.1",
        source: "203.0.113.20",
        metric: 100,
        protocol: "dhcp",
      },
      { family: "inet", destination: "172.31.1.1", source: "203.0.113.20", metric: 100, protocol: "dhcp" },
      {
        family: "inet6",
        destination: "default",
        via: "fe80::1",
        metric: 1024,
        onlink: true,
        protocol: "static",
      },
    ],
    resolvers: ["203.0.113.53", "2001:db8:ff::1"],
    search: [],
    resolvConf: { link: "../run/systemd/resolve/stub-resolv.conf" },
    managers: ["networkd"],
  },
};

for (const [name, expected] of Object.entries(UNDERSTOOD)) {
  Deno.test(`parseBaseline: ${name}`, () => {
    const baseline = parseBaseline(captured(name), 2222);
    assertEquals({ ...baseline, ...expected }, baseline);
    assertEquals([baseline.schema, baseline.sshPort], [1, 2222]);
    assertMatch(baseline.mac, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
    assertEquals("interfaces" in baseline, "interfaces" in expected);
  });
}

const REFUSED: Record<string, string> = {
  no_route:
    "Cannot find the external interface: no IPv4 default route; expected one through the network card",
  bridge: "br0 is a bridge; expected a network card of its own",
  tun: "tun0 has no Ethernet address; expected a network card of its own",
  multipath: "the IPv4 default route has several next hops, or one that is not IPv4; expected",
  ipv6_next_hop: "the IPv4 default route has several next hops, or one that is not IPv4; expected",
};

for (const [name, message] of Object.entries(REFUSED)) {
  Deno.test(`parseBaseline: refuses ${name}`, () => {
    assertThrows(() => parseBaseline(captured(name), 22), HostError, message);
  });
}

/** A list of what `ip` said on the simplest host. */
function simplest(name: string): unknown {
  return JSON.parse(new RegExp(`@@${name}\\n(.*)\\n`).exec(captured("networkd_debian12"))?.[1] ?? "");
}

/** A change of what `ip` said on the simplest host. */
function changed(change: (nic: Link, routes: Route[]) => void, more = ""): string {
  const [links, routes] = [simplest("links") as Link[], simplest("policy routes") as Route[]];
  const nic = links.find(({ ifname }) => ifname === "host0");
  if (!nic) throw new Error("Cannot change the captured host: it has no host0");
  change(nic, routes);
  return `@@links\n${JSON.stringify(links)}\n@@policy routes\n${JSON.stringify(routes)}\n${more}`;
}

interface Link {
  ifname: string;
  address?: string;
  permaddr?: string;
  linkinfo?: { info_kind: string };
  addr_info: { family: string; local: string; prefixlen: number; scope: string; temporary?: boolean }[];
}

interface Route {
  dst: string;
  dev?: string;
  gateway?: string;
  flags: string[];
}

const CHANGES: Record<string, [(nic: Link, routes: Route[]) => void, string]> = {
  "a bond": [(nic) => nic.linkinfo = { info_kind: "bond" }, "host0 is a bond"],
  "a VLAN": [(nic) => nic.linkinfo = { info_kind: "vlan" }, "host0 is a vlan"],
  "a tunnel without an Ethernet address": [(nic) => delete nic.address, "host0 has no Ethernet address"],
  "an InfiniBand card": [
    (nic) => nic.address = "80:00:02:08:fe:80".repeat(3),
    "host0 has no Ethernet address",
  ],
  "a card without an IPv4 address": [
    (nic) => nic.addr_info = nic.addr_info.filter(({ family }) => family !== "inet"),
    "host0 has no IPv4 address",
  ],
  "a link of mobula": [
    (nic, routes) => {
      nic.ifname = "veth_fac0";
      for (const route of routes) route.dev = "veth_fac0";
    },
    "through veth_fac0, which is mobula's own",
  ],
  "a card that is not there": [(nic) => nic.ifname = "host1", "host0 is not among the links"],
};

for (const [what, [change, message]] of Object.entries(CHANGES)) {
  Deno.test(`parseBaseline: refuses ${what}`, () => {
    assertThrows(() => parseBaseline(changed(change), 22), HostError, message);
  });
}

Deno.test("parseBaseline: the card's permanent address, in lower case, and no temporary address", () => {
  const baseline = parseBaseline(
    changed((nic) => {
      nic.permaddr = "52:54:00:AB:CD:EF";
      nic.addr_info.push(
        { family: "inet6", local: "2001:db8::99", prefixlen: 64, scope: "global", temporary: true },
        { family: "inet", local: "169.254.7.7", prefixlen: 16, scope: "link" },
      );
    }),
    22,
  );
  assertEquals(baseline.mac, "52:54:00:ab:cd:ef");
  assertEquals(baseline.addresses, ["198.51.100.3/24"]);
});

for (
  const name of [
    'a"b',
    "a'b",
    "a b",
    "a\nb",
    "$(id)",
    "`id`",
    "a;b",
    "a#b",
    "a\\b",
    "-a",
    "a|b",
    "a&b",
    "ä",
    "a*",
  ]
) {
  Deno.test(`parseBaseline: refuses a card called ${JSON.stringify(name)}`, () => {
    const output = changed((nic, routes) => {
      nic.ifname = name;
      for (const route of routes) route.dev = name;
    });
    assertThrows(() => parseBaseline(output, 22), HostError, `its name is ${JSON.stringify(name)}`);
  });
}

Deno.test("parseBaseline: a search list or name server that is none is left out", () => {
  const resolv = [
    "nameserver 127.0.0.53",
    "nameserver ::1",
    "nameserver fe80::1%eth0",
    "nameserver $(id)",
    "nameserver 192.0.2.53;reboot",
    "nameserver 192.0.2.54",
    "search ok.example a;b $(id) -x . under_score.example",
    "",
  ].join("\n");
  const baseline = parseBaseline(changed(() => {}, `@@resolv\n${resolv}\n@@managers\nnetworkd\nevil\n`), 22);
  assertEquals(baseline.resolvers, ["192.0.2.54"]);
  assertEquals(baseline.search, ["ok.example", "under_score.example"]);
  assertEquals(baseline.managers, ["networkd"]);
});

/** What `ip` says of a host with two providers (iproute2 6.1). */
const TWO_PROVIDERS = `@@policy routes
[{"dst":"default","gateway":"198.51.100.1","dev":"host0","table":"100","protocol":"static","flags":["onlink"]},\
{"dst":"198.51.100.0/24","dev":"host0","table":"isp-2","scope":"link","metric":5,"flags":[]},\
{"dst":"198.51.100.0/24","dev":"host0","table":"100","protocol":"kernel","flags":[]},\
{"dst":"default","gateway":"192.0.2.1","dev":"eth7","table":"101","flags":[]},\
{"type":"blackhole","dst":"default","table":"102","flags":[]},\
{"dst":"default","gateway":"192.0.2.9","dev":"host0","table":"$(id)","flags":[]},\
{"dst":"default","gateway":"198.51.100.254","dev":"host0","protocol":"static","flags":[]},\
{"type":"local","dst":"198.51.100.2","dev":"host0","table":"local","protocol":"kernel","flags":[]},\
{"dst":"198.51.100.77","dev":"host0","table":"local","flags":[]}]
@@policy routes6
[{"dst":"default","gateway":"fe80::1","dev":"host0","table":"100","protocol":"ra","metric":1024,"expires":1700,"flags":[]},\
{"dst":"ff00::/8","dev":"host0","table":"local","protocol":"kernel","metric":256,"flags":[]}]
@@policy rules
0:	from all lookup local
10030:	from 10.30.0.2 lookup 10
20000:	from 198.51.100.2 lookup 100
20001:	not from all fwmark 0x1/0xff iif host0 [detached] lookup isp-2 proto static
20002:	from all goto 30000 [unresolved]
20003:	from all lookup [l3mdev-table]
20004:	from all lookup -x
20005:	from all lookup $(id)
32766:	from all lookup main
@@policy rules6
20000:	from 2001:db8::2 lookup 100
@@link
`;

Deno.test("parsePolicy: the card's routes in other tables, and the rules that are not ours", () => {
  const { tableRoutes, rules } = parsePolicy(TWO_PROVIDERS, "host0");
  assertEquals(tableRoutes, [
    {
      ...{ family: "inet", destination: "default", via: "198.51.100.1", onlink: true, protocol: "static" },
      table: "100",
    },
    { family: "inet", destination: "198.51.100.0/24", metric: 5, table: "isp-2" },
    {
      ...{ family: "inet6", destination: "default", via: "fe80::1", metric: 1024, protocol: "ra" },
      table: "100",
    },
  ]);
  assertEquals(rules.map(({ family, priority, words }) => `${family} ${priority} ${words}`), [
    "inet 0 from all lookup local",
    "inet 20000 from 198.51.100.2 lookup 100",
    "inet 20001 not from all fwmark 0x1/0xff iif host0 lookup isp-2 proto static",
    "inet 20002 from all goto 30000",
    "inet 32766 from all lookup main",
    "inet6 20000 from 2001:db8::2 lookup 100",
  ]);
});

Deno.test("parseBaseline: knows the policy routing", () => {
  const { tableRoutes, rules } = parseBaseline(
    `@@links\n${JSON.stringify(simplest("links"))}\n${TWO_PROVIDERS}`,
    22,
  );
  assertEquals({ tableRoutes, rules }, parsePolicy(TWO_PROVIDERS, "host0"));
});

/** Texts that would do harm in a file or on a command line. */
const hostile = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.constantFrom(
    "a\nb",
    "192.0.2.1\nserver=/x/",
    "192.0.2.1 }",
    "default;",
    "-f",
    '"',
    "$(id)",
    "a b",
    "fe80::1%a",
  ),
  fc.constantFrom("192.0.2.77", "2001:db8::77", "eth9", "corp.example", "10.0.0.0/8", "52:54:00:00:00:77"),
);
const hostileHost = fc.record({
  name: fc.oneof(fc.constant("host0"), hostile),
  mac: fc.oneof(fc.constant("52:54:00:00:00:01"), hostile),
  address: hostile,
  gateway: fc.oneof(fc.constant("198.51.100.254"), hostile),
  destination: hostile,
  server: hostile,
  domain: hostile,
});

Deno.test("parseBaseline: whatever a host says of itself, what is accepted adds no line and no word", () => {
  let accepted = 0;
  fc.assert(
    fc.property(hostileHost, ({ name, mac, address, gateway, destination, server, domain }) => {
      const output = changed((nic, routes) => {
        Object.assign(nic, { ifname: name, address: mac });
        nic.addr_info.push({ family: "inet", local: address, prefixlen: 24, scope: "global" });
        routes.push({ dst: destination, gateway, flags: [] });
        for (const route of routes) Object.assign(route, { dev: name });
      }, `@@resolv\nnameserver ${server}\nsearch ${domain}\n\n@@managers\nnetworkd\nNetworkManager\n`);
      let baseline: Baseline;
      try {
        baseline = parseBaseline(output, 22);
      } catch (error) {
        assert(error instanceof HostError, String(error));
        return;
      }
      accepted++;
      checkRendered(baseline);
    }),
    { numRuns: 2000 },
  );
  assert(accepted > 50, `only ${accepted} were accepted`);
});

/** Line counts follow from the numbers of values; every word is of letters that mean nothing to a shell, to nft or to dnsmasq. */
function checkRendered(baseline: Baseline): void {
  const plain = inputFor(fleetOf([2, 3]), 2, "userspace", {
    addresses: baseline.addresses.map((address) => address.includes(":") ? "2001:db8::1/64" : "192.0.2.1/24"),
    routes: baseline.routes,
    resolvers: baseline.resolvers.map(() => "192.0.2.53"),
    search: baseline.search.map(() => "example.net"),
    managers: baseline.managers,
  });
  const input = { ...plain, baseline };
  const lines = (text = "") => text.split("\n").length;
  const files = renderFiles(input);
  const reference = renderFiles(plain);
  assertEquals(files.map(({ path }) => path), reference.map(({ path }) => path));
  for (const [index, { path, content }] of files.entries()) {
    assertEquals(lines(content), lines(reference[index]?.content), path);
  }
  const { firewall } = wantedNetwork(input);
  assertEquals(lines(firewall.text), lines(wantedNetwork(plain).firewall.text));
  const quotes = (text: string) => text.replace(/[^"'`{};$\\]/g, "");
  assertEquals(quotes(firewall.text), quotes(wantedNetwork(plain).firewall.text));
  const words = [baseline.interface, ...baseline.addresses, ...baseline.resolvers, ...baseline.search];
  for (const word of words) assertMatch(word, /^[A-Za-z0-9_][\w.:/@+-]*$|^::[\w:./]*$/);
  for (const { argv } of networkSteps(wantedNetwork(input), blankSeen(input))) {
    if (argv[0] === "ip") assertMatch(argv.join(" "), /^[\w.:/@+-]+( [\w.:/@+-]+)*$/);
  }
}
