/** The way back: from whatever is seen to the network of the baseline. */
import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { HostError } from "../../lib/errors.ts";
import { baselineDifferences, type DownOptions, downSteps } from "../../lib/net/down.ts";
import type { Baseline, Policy } from "../../lib/facts.ts";
import type { Seen } from "../../lib/net/seen.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import { baselineOf, blankSeen, fleetOf, inputFor, MODES, NIC_MAC, NO_POLICY, seenOf } from "./fixtures.ts";

const INPUT = inputFor(fleetOf([2, 3]), 2, "userspace", {
  addresses: ["198.51.100.2/24", "203.0.113.9/32", "2001:db8::2/64"],
  routes: [
    {
      family: "inet",
      destination: "default",
      via: "172.31.1.1",
      source: "203.0.113.9",
      metric: 100,
      protocol: "dhcp",
    },
    { family: "inet", destination: "172.31.1.1", metric: 100 },
    { family: "inet6", destination: "default", via: "fe80::1", metric: 1024, onlink: true },
  ],
});
const { baseline } = INPUT;

function commands(seen: Seen, restoreSettled = true): string[] {
  return commandsFor(baseline, seen, { restoreSettled, policy: NO_POLICY });
}

function commandsFor(baseline: Baseline, seen: Seen, options: DownOptions): string[] {
  return downSteps(baseline, seen, options)
    .map(({ argv, namespace }) => [...namespace ? [`${namespace}:`] : [], ...argv].join(" "));
}

Deno.test("downSteps: an installed host, in the one order that is safe", () => {
  const seen = seenOf(wantedNetwork(INPUT));
  const all = commands(seen);
  const own = all.slice(0, all.findIndex((line) => line.startsWith("systemctl")));
  assertEquals(own, [
    ...[
      "ip rule del priority 10030 from 10.30.0.2 table 10",
      "ip rule del priority 10031 to 10.30.0.0/16 table 10",
    ],
    ...["veth_enp1s0", "mo-dir-hs", "veth_fac0"].map((name) => `ip link delete ${name}`),
    "mobula: ip link set enp1s0 down nomaster",
    "mobula: ip link set enp1s0 name enp1s0 netns 1",
    "ip link set enp1s0 mtu 1500 up",
    "ip addr replace 198.51.100.2/24 broadcast + dev enp1s0",
    "ip addr replace 203.0.113.9/32 dev enp1s0",
    "ip addr replace 2001:db8::2/64 dev enp1s0",
    "ip route replace 172.31.1.1 dev enp1s0 metric 100",
    "ip route replace default via 172.31.1.1 dev enp1s0 src 203.0.113.9 metric 100 proto dhcp",
    "ip -6 route replace default via fe80::1 dev enp1s0 onlink metric 1024",
  ]);
  assertEquals(all.slice(own.length + 1), ["ip netns delete mobula", "ip netns delete mobula-sw"]);
});

Deno.test("downSteps: a host that is as before has nothing to do", () => {
  const blank = blankSeen(INPUT);
  const links = blank.links.map((link) =>
    link.mac === NIC_MAC ? { ...link, up: true, addresses: baseline.addresses } : link
  );
  const routes = baseline.routes.map((route) => ({
    ...{ ...route, scope: "root", table: 254, device: baseline.interface, protocol: "static" } as const,
  }));
  assertEquals(commands({ ...blank, links, routes }), []);
});

Deno.test("downSteps: after a reboot addresses and routes are the network manager's", () => {
  assertEquals(commands(blankSeen(INPUT), false), []);
  assertEquals(commands(blankSeen(INPUT), true).length > 0, true);
});

/** What is beside the main table. */
const POLICY: Policy = {
  tableRoutes: [
    { family: "inet", destination: "default", via: "198.51.100.1", table: "100", protocol: "static" },
    { family: "inet", destination: "198.51.100.1", table: "100" },
    { family: "inet6", destination: "default", via: "2001:db8::1", metric: 1024, table: "isp2" },
  ],
  rules: [
    { family: "inet", priority: 0, words: "from all lookup local" },
    { family: "inet", priority: 20000, words: "from 198.51.100.2 lookup 100" },
    { family: "inet6", priority: 20001, words: "from all iif enp1s0 lookup isp2 proto static" },
  ],
};

/** What restores it, routes before rules. */
const RESTORED = [
  "ip route replace 198.51.100.1 dev enp1s0 table 100",
  "ip route replace default via 198.51.100.1 dev enp1s0 proto static table 100",
  "ip -6 route replace default via 2001:db8::1 dev enp1s0 metric 1024 table isp2",
  "ip rule add priority 20000 from 198.51.100.2 lookup 100",
  "ip -6 rule add priority 20001 from all iif enp1s0 lookup isp2 proto static",
];

Deno.test("downSteps: routes of other tables come back with the card, and rules that have gone meanwhile", () => {
  const policy = { ...POLICY, rules: POLICY.rules.slice(0, 1) };
  const all = commandsFor({ ...baseline, ...POLICY }, seenOf(wantedNetwork(INPUT)), {
    restoreSettled: true,
    policy,
  });
  const own = all.slice(0, all.findIndex((line) => line.startsWith("systemctl")));
  assertEquals(own.slice(-RESTORED.length), RESTORED);
});

Deno.test("downSteps: of the routes and rules beside the main table only what is missing is added", () => {
  const nic = { up: true, addresses: baseline.addresses, mtu: baseline.mtu };
  const blank = blankSeen(INPUT);
  const seen: Seen = {
    ...blank,
    links: blank.links.map((link) => ({ ...link, ...nic })),
    routes: baseline.routes.map((route) => ({
      ...{ ...route, scope: "root", table: 254, device: baseline.interface, protocol: "static" } as const,
    })),
  };
  const before = { ...baseline, ...POLICY };
  const steps = (policy: Policy, restoreSettled = true) =>
    commandsFor(before, seen, { restoreSettled, policy });
  assertEquals(steps(POLICY), []);
  assertEquals(steps({ rules: POLICY.rules, tableRoutes: [] }), RESTORED.slice(0, 3));
  assertEquals(steps({ rules: [], tableRoutes: POLICY.tableRoutes }), [
    "ip rule add priority 0 from all lookup local",
    ...RESTORED.slice(3),
  ]);
  assertEquals(steps(NO_POLICY, false), []);
});

Deno.test("downSteps: addresses, routes and rules may fail, what takes ours away and the card back may not", () => {
  const before = { ...baseline, ...POLICY };
  const options = { restoreSettled: true, policy: NO_POLICY };
  const optional = downSteps(before, seenOf(wantedNetwork(INPUT)), options)
    .filter(({ mayFail }) => mayFail).map(({ argv }) => argv.join(" "));
  assertEquals(optional.length, 12);
  for (const line of optional) assertMatch(line, /^ip (-6 )?(addr replace|route replace|rule add) /);
});

Deno.test("downSteps: without the external interface nothing is taken down", () => {
  const seen = seenOf(wantedNetwork(INPUT));
  const links = seen.links.filter(({ name }) => name !== baseline.interface);
  const error = assertThrows(() => commands({ ...seen, links }), HostError);
  assertEquals(error.message.includes(NIC_MAC), true);
});

Deno.test("baselineDifferences: names what is missing and what is new", () => {
  const before = baselineOf("198.51.100.2");
  assertEquals(baselineDifferences(before, before), []);
  const now = { ...before, addresses: ["198.51.100.7/24"], routes: [] };
  assertEquals(baselineDifferences(before, now), [
    "address 198.51.100.2/24 is missing",
    "address 198.51.100.7/24 is new",
    "route default via 198.51.100.254 is missing",
  ]);
});

Deno.test("baselineDifferences: names rules and routes of other tables, where the baseline knows of them", () => {
  const before = { ...baselineOf("198.51.100.2"), ...POLICY };
  assertEquals(baselineDifferences(before, before), []);
  const now = {
    ...before,
    tableRoutes: POLICY.tableRoutes.slice(1),
    rules: [
      ...POLICY.rules.slice(0, 2),
      {
        family: "inet",
        priority: 20001,
        words: POLICY.rules[2]!.words,
      } as const,
    ],
  };
  assertEquals(baselineDifferences(before, now), [
    "route default via 198.51.100.1 proto static table 100 is missing",
    "rule 20001: from all iif enp1s0 lookup isp2 proto static (IPv6) is missing",
    "rule 20001: from all iif enp1s0 lookup isp2 proto static is new",
  ]);
  assertEquals(baselineDifferences(baselineOf("198.51.100.2"), now), []);
});

Deno.test("downSteps: all modes leave no namespace behind", () => {
  for (const mode of Object.keys(MODES) as (keyof typeof MODES)[]) {
    const wanted = wantedNetwork(inputFor(fleetOf([2, 3]), 2, mode));
    const deleted = downSteps(baselineOf("198.51.100.2"), seenOf(wanted), {
      restoreSettled: true,
      policy: NO_POLICY,
    })
      .filter(({ argv }) => argv[1] === "netns").map(({ argv }) => argv[3]);
    assertEquals(deleted, [...wanted.namespaces]);
  }
});
