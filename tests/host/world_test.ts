/** The plan's `ip` and nftables parts against a real kernel, in a network of their own: apply, look, nothing left, break, repair. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { CommandError } from "../../lib/errors.ts";
import { PENDING_DIR } from "../../lib/host/paths.ts";
import { runStep, runSteps } from "../../lib/host/run_steps.ts";
import { writeFiles } from "../../lib/host/converge.ts";
import { LINK } from "../../lib/net/network.ts";
import { LOADED_FILES, lookScript, parseSeen, type Seen } from "../../lib/net/seen.ts";
import { networkSteps } from "../../lib/net/steps.ts";
import { type HostInput, wantedNetwork } from "../../lib/net/wanted.ts";
import { renderUnits } from "../../lib/render/units.ts";
import type { Baseline } from "../../lib/facts.ts";
import { BASELINE_SCRIPT, parseBaseline, parsePolicy, POLICY_SCRIPT } from "../../lib/host/baseline.ts";
import { baselineDifferences, downSteps } from "../../lib/net/down.ts";
import type { Step } from "../../lib/step.ts";
import { ensurePackages } from "../lab/packages.ts";
import { blankSeen, fleetOf, inputFor, NIC_MAC } from "../net/fixtures.ts";
import { World } from "./world.ts";

await ensurePackages(["ethtool", "iproute2", "nftables"]);

const EXTERNAL = {
  addresses: ["198.51.100.2/24", "2001:db8::2/64"],
  routes: [
    { family: "inet", destination: "default", via: "198.51.100.254" },
    { family: "inet", destination: "192.0.2.0/24", via: "198.51.100.1", metric: 50 },
    { family: "inet6", destination: "default", via: "2001:db8::1", metric: 1024 },
  ],
} as const;

/** Daemons do not run here: what only they can do is left out, and what they would make is made by hand. */
function isDaemons({ argv }: Step): boolean {
  return ["wg", "ovs-vsctl", "ovs-appctl"].includes(argv[0] ?? "") ||
    /\/(start-units|load-flows)$/.test(argv[0] ?? "");
}

/** A host with its card in a world, and the links that Open vSwitch and wireguard-go would make. */
async function prepareHost(world: World, input: HostInput): Promise<void> {
  const { interface: nic, mac } = input.baseline;
  await world.sh(`
    ip link add ${nic} address ${mac} type veth peer name far
    ip link set far up
    ip link set ${nic} up
    ip netns add mobula
    ip netns add mobula-sw
    ip -n mobula link add ${LINK.wireguard} type bridge
    ip -n mobula-sw link add ${LINK.underlayBridge} type bridge
  `);
  for (const file of renderUnits(input.capabilities).filter(({ mode }) => mode !== undefined)) {
    await world.writeFile(file);
  }
}

async function look(world: World, input: HostInput): Promise<Seen> {
  const { sysctls, units } = wantedNetwork(input);
  const stdin = lookScript(sysctls, units);
  const output = await runStep(world, { title: "look", argv: ["sh", "-s"], stdin });
  return parseSeen(output, units, await world.readFiles(LOADED_FILES));
}

async function plan(world: World, input: HostInput): Promise<Step[]> {
  return networkSteps(wantedNetwork(input), await look(world, input)).filter((step) => !isDaemons(step));
}

async function apply(world: World, input: HostInput): Promise<void> {
  await runSteps(world, await plan(world, input), () => {});
}

function titles(steps: readonly Step[]): string[] {
  return steps.map(({ title }) => title);
}

/** A world with a host on which the plan has been carried out. */
async function withHost(input: HostInput, use: (world: World) => Promise<void>): Promise<void> {
  await World.with(async (world) => {
    await prepareHost(world, input);
    await apply(world, input);
    await use(world);
  });
}

const input = inputFor(fleetOf([2, 3, 256]), 2, "userspace", EXTERNAL);

Deno.test("networkSteps: carried out by a real kernel, nothing is left to do", async () => {
  await withHost(input, async (world) => {
    assertEquals(titles(await plan(world, input)), []);
    const show = (argv: string) => world.sh(`ip ${argv}`);
    assert(
      (await show("route show table 10")).includes(
        "default via 10.31.0.2 dev mo-dir-hs src 10.30.0.2 onlink",
      ),
    );
    assert((await show("rule")).includes("10031:\tfrom all to 10.30.0.0/16 lookup 10"));
    assert((await show("-n mobula -br link show enp1s0")).includes("UP"));
    assert((await show("-n mobula -6 route")).includes("default via 2001:db8::1 dev mo-ext-gw"));
    assert((await show("route get 10.30.0.3 from 10.30.0.2")).includes("dev mo-dir-hs"));
    assert((await show("-n mobula route get 10.30.0.2")).includes("dev mo-dir-gw"));
  });
});

/** What is broken by hand, and what exactly is done about it. */
const BREAKS: Record<string, [string, readonly string[]]> = {
  "a pair is gone": [
    "ip link del mo-dir-hs",
    [
      "add link mo-dir-hs - mo-dir-gw",
      "set mo-dir-gw mtu 1440 up in mobula",
      "pin 10.30.0.2 to 02:6d:6f:00:02:04 in mobula",
      "set route 10.30.0.2 to mo-dir-gw in mobula",
      "set mo-dir-hs mtu 1440 up",
      "add 10.30.0.2/32 to mo-dir-hs",
      "pin 10.31.0.2 to 02:6d:6f:00:02:05",
      "set route default to mo-dir-hs",
    ],
  ],
  "an MTU has changed": ["ip link set veth_fac0 mtu 1400", ["set veth_fac0 mtu 1386"]],
  "an address was added": [
    "ip -n mobula addr add 198.51.100.77/24 dev mo-ext-gw",
    ["remove 198.51.100.77/24 from mo-ext-gw in mobula"],
  ],
  "the external address is gone, and with it the routes": [
    "ip -n mobula addr del 198.51.100.2/24 dev mo-ext-gw",
    [
      "add 198.51.100.2/24 to mo-ext-gw in mobula",
      "set route default to mo-ext-gw in mobula",
      "set route 192.0.2.0/24 to mo-ext-gw in mobula",
    ],
  ],
  "a second default route stands before ours": [
    "ip -n mobula route add default via 198.51.100.9 dev mo-ext-gw metric 5",
    ["remove route default in mobula"],
  ],
  "a default route stands behind ours": [
    "ip -n mobula route append default via 198.51.100.9 dev mo-ext-gw",
    ["remove route default in mobula"],
  ],
  "the rules are those of another id": [
    "ip rule del priority 10030; ip rule add priority 10030 from 10.30.0.9 table 10",
    ["remove rule 10030", "add rule from 10.30.0.2"],
  ],
  "a rule of another id stands beside ours": [
    "ip rule add priority 10030 from 10.30.0.9 table 10",
    ["remove rule 10030"],
  ],
  "checksum offload is on": ["ethtool -K veth_fac0 tx on", ["set veth_fac0 tx checksum off in root"]],
  "forwarding is off": [
    "ip netns exec mobula sysctl -q net.ipv4.ip_forward=0",
    ["set net.ipv4.ip_forward to 1 in mobula"],
  ],
  "a firewall rule was added": [
    "ip netns exec mobula nft add rule inet mobula input accept",
    ["load the gateway's firewall"],
  ],
  "the firewall is gone": ["ip netns exec mobula nft flush ruleset", ["load the gateway's firewall"]],
  "the card is out of the bridge": [
    "ip -n mobula link set enp1s0 nomaster",
    ["set enp1s0 master mo-ext-gw in mobula"],
  ],
  "the card has another name": [
    "ip -n mobula link set enp1s0 down; ip -n mobula link set enp1s0 name eth9",
    ["set eth9 up in mobula"],
  ],
  "the card is back in the root namespace, and another link has its former name": [
    "ip -n mobula link set eth9 netns $$; ip link set eth9 name eth8; ip link add enp1s0 type bridge",
    ["move eth8 into the gateway", "set eth8 master mo-ext-gw up in mobula"],
  ],
  "the card's MTU is another, and with it the bridge's": [
    "ip -n mobula link set eth8 mtu 1400",
    ["set mo-ext-gw mtu 1500 in mobula", "set eth8 mtu 1500 in mobula"],
  ],
  "somebody else's routes and rules are there": [
    "ip route add 192.0.2.0/24 dev veth_fac0; ip rule add priority 100 from 192.0.2.1 table 99",
    [],
  ],
};

Deno.test("networkSteps: what is broken by hand is repaired, and nothing else is done", async (t) => {
  await withHost(input, async (world) => {
    for (const [what, [script, expected]] of Object.entries(BREAKS)) {
      await t.step(what, async () => {
        await world.sh(script);
        assertEquals(titles(await plan(world, input)), expected);
        await apply(world, input);
        assertEquals(titles(await plan(world, input)), []);
      });
    }
  });
});

Deno.test("networkSteps: a next hop outside of the subnet", async () => {
  const routes = [
    { family: "inet", destination: "default", via: "172.31.1.1", metric: 100 },
    { family: "inet", destination: "172.31.1.1", metric: 100 },
  ] as const;
  const host = inputFor(fleetOf([2, 3]), 2, "userspace", { addresses: ["203.0.113.20/32"], routes });
  await withHost(host, async (world) => {
    assertEquals(titles(await plan(world, host)), []);
    assert(
      (await world.sh("ip -n mobula route")).includes("default via 172.31.1.1 dev mo-ext-gw metric 100"),
    );
  });
});

Deno.test("networkSteps: a default route that was onlink", async () => {
  const routes = [{ family: "inet", destination: "default", via: "203.0.113.1", onlink: true }] as const;
  const host = inputFor(fleetOf([2, 3]), 2, "userspace", { addresses: ["203.0.113.20/32"], routes });
  await withHost(host, async (world) => assertEquals(titles(await plan(world, host)), []));
});

Deno.test("networkSteps: from one fleet to another, by the difference", async () => {
  await withHost(input, async (world) => {
    const fleet = fleetOf([2, 3, 256]);
    const blank = { ...fleet, hosts: fleet.hosts.map((host) => ({ ...host, access: "none" as const })) };
    const other = inputFor({ ...blank, underlayMtu: 1400 }, 2, "userspace", EXTERNAL);
    assertEquals(titles(await plan(world, other)).filter((title) => !title.includes("mtu")), []);
    await apply(world, other);
    assertEquals(titles(await plan(world, other)), []);
    assert((await world.sh("ip link show veth_fac0")).includes("mtu 1286"));
  });
});

/** A host with a second table, rules of all sorts, and IPv6. */
const POLICY_HOST = `
  ip link add enp1s0 address ${NIC_MAC} type veth peer name far
  ip link set far up
  ip link set enp1s0 up
  ip addr add 198.51.100.2/24 broadcast + dev enp1s0
  ip addr add 2001:db8::2/64 dev enp1s0 nodad
  ip route add default via 198.51.100.254 dev enp1s0
  ip -6 route add default via 2001:db8::254 dev enp1s0
  ip route add default via 198.51.100.1 dev enp1s0 table 100 metric 7
  ip route add 192.0.2.0/24 dev enp1s0 table 101 proto static
  ip -6 route add default via 2001:db8::1 dev enp1s0 table 100
  ip rule add from 198.51.100.2 table 100 priority 20000
  ip rule add not from 192.0.2.0/24 fwmark 0x1/0xff iif enp1s0 table 101 priority 20001 proto static
  ip rule add to 192.0.2.9 ipproto udp dport 53 table main suppress_prefixlength 0 priority 20002
  ip -6 rule add from 2001:db8::2 table 100 priority 20000
`;

async function readBaseline(world: World): Promise<Baseline> {
  return parseBaseline(
    await runStep(world, { title: "read", argv: ["sh", "-s"], stdin: BASELINE_SCRIPT }),
    22,
  );
}

Deno.test("downSteps: rules and routes of other tables are given back by a real kernel, and nothing then differs", async () => {
  await World.with(async (world) => {
    await world.sh(POLICY_HOST);
    const baseline = await readBaseline(world);
    assertEquals([baseline.rules?.length, baseline.tableRoutes?.length], [9, 3]);
    const restore = async () => {
      // As if it had just come back: all of it may be repeated.
      const card = { scope: "root", name: baseline.interface, mac: baseline.mac, mtu: 1500 } as const;
      const seen = { ...blankSeen({ baseline }), links: [{ ...card, up: false, addresses: [] }] };
      const policy = parsePolicy(await world.sh(POLICY_SCRIPT), baseline.interface);
      await runSteps(world, downSteps(baseline, seen, { restoreSettled: true, policy }), () => {});
    };
    await world.sh(
      "ip link set enp1s0 down; ip addr flush dev enp1s0; ip rule del priority 20001; ip -6 rule del priority 20000",
    );
    await restore();
    await restore();
    assertEquals(baselineDifferences(baseline, await readBaseline(world)), []);
    await world.sh("ip rule del priority 20002; ip route flush table 101");
    assertEquals(baselineDifferences(baseline, await readBaseline(world)), [
      "route 192.0.2.0/24 proto static table 101 is missing",
      "rule 20002: from all to 192.0.2.9 ipproto udp dport 53 lookup main suppress_prefixlength 0 is missing",
    ]);
  });
});

Deno.test("runSteps: a batch that the kernel refuses is told by its step, and nothing after it is done", async () => {
  await World.with(async (world) => {
    const step = (words: string): Step => ({ title: words, argv: words.split(" ") });
    const steps = [
      step("ip link add mo-a type bridge"),
      step("ip link add mo-a type bridge"),
      step("ip link add mo-b type bridge"),
    ];
    const error = await assertRejects(() => runSteps(world, steps, () => {}), CommandError);
    assertEquals(error.title, "ip link add mo-a type bridge");
    assert(error.stderr.includes("File exists"));
    assert(!(await world.sh("ip -br link")).includes("mo-b"));
  });
});

Deno.test("writeFiles: what comes before the network is owed until it is done, what comes after it is owed still", async () => {
  await World.with(async (world) => {
    const context = { runner: world, report: () => {} };
    const owed = async () => (await world.sh(`ls -x ${PENDING_DIR}`)).trim();
    const plan = (argv: readonly string[]) => ({
      files: [{ path: "/run/unit", content: "unit\n" }],
      reloads: ["systemd", "dnsmasq-names"] as const,
      before: [{ title: "tell systemd", argv }],
    });
    await assertRejects(() => writeFiles(context, plan(["false"])), CommandError, "tell systemd");
    assertEquals(await owed(), "dnsmasq-names  systemd");
    await writeFiles(context, plan(["cp", "/run/unit", "/run/told"]));
    assertEquals(await world.readFile("/run/told"), "unit\n");
    assertEquals(await owed(), "dnsmasq-names");
  });
});
