/**
 * The main proof: six hosts, one push, one network; and it stays one whatever happens. The executable is made by `deno compile`.
 * Needs root and the lab's packages.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import { addClient, addGuest, type Client } from "./client.ts";
import { type Capture, capture, type Frame, sendFrame } from "./capture.ts";
import type { Lab, Place } from "./lab.ts";
import { declareChange } from "./network/change.ts";
import { assertConnections } from "./network/connections.ts";
import {
  BARE,
  CLIENT,
  everywhere,
  EXTRA_NAMES,
  names,
  type Pushed,
  readPubkeys,
  same,
  STAGE,
  WITH_GUESTS,
} from "./network/fleet.ts";
import { declareReturns, expectWell } from "./network/returns.ts";
import { declareSecrets } from "./network/secrets.ts";
import {
  allInnerAddresses,
  innerAddresses,
  resolveAt,
  seenAddress,
  unreached,
  waitForAnswers,
} from "./probes.ts";
import { must } from "./process.ts";
import { expectCode, mobula, setStage } from "./proof.ts";
import { strangerIn } from "./scans.ts";
import { ask, mainPids, type Snapshot, snapshot } from "./snapshot.ts";
import { waitForStretch } from "./switching.ts";
import { WEB_NAME, WEB_SERVER } from "./underlay.ts";
import { waitFor } from "./wait.ts";

const { proof } = setStage<Pushed>(STAGE);

proof("push: six hosts are installed, rebooted and verified by one command", async (lab, { said }) => {
  assertMatch(said, /Done: 6 of 6 hosts, every pair answers\./);
  for (const name of names(lab)) {
    assertMatch(said, new RegExp(`✓ ${name} \\(id \\d+\\): installed, executable sent, rebooted`));
  }
  const versions = await everywhere(
    lab,
    ({ name }) => ask(lab, name, ["/opt/mobula/bin/mobula", "--version"]),
  );
  for (const version of Object.values(versions)) assertMatch(version, /compiled/);
});

proof("path stretch: one hop for every pair of six, counted on the ports", async (lab) => {
  await waitForStretch(lab, names(lab), 1);
});

proof("push: the switch has a processor before others, as its package would have it", async (lab) => {
  for (const name of names(lab)) {
    const { ovsdb, vswitchd } = await mainPids(lab, name);
    const nice = await ask(lab, name, ["ps", "-o", "ni=", "-p", `${ovsdb},${vswitchd}`]);
    assertEquals(nice.trim().split(/\s+/), ["-10", "-10"], name);
  }
});

proof("push: bare hosts got their packages from their own package manager", async (lab, { said }) => {
  for (const name of BARE) {
    assertMatch(said, new RegExp(`^${name}: - install packages .*openvswitch-switch`, "m"));
    const log = await ask(lab, name, ["cat", "/var/log/apt/history.log"]);
    assertMatch(log, /Install: .*openvswitch-switch/);
    assertEquals(
      (await lab.exec(name, ["systemctl", "is-active", "openvswitch-switch.service"])).stdout,
      "inactive\n",
    );
  }
});

proof("push again: nothing to change on any host, and nothing is sent", async (lab, { program }) => {
  const before = await everywhere(lab, ({ name }) => snapshot(lab, name));
  const again = await mobula(lab, { executable: program }, "push");
  expectCode(again, 0, "the second push");
  for (const name of names(lab)) {
    assertMatch(
      again.stdout,
      new RegExp(`✓ ${name} \\(id \\d+\\): nothing to change, (?!.*(sent|rebooted))`),
    );
  }
  const after = await everywhere(lab, ({ name }) => snapshot(lab, name));
  for (const name of names(lab)) assertSameRun(before[name]!, after[name]!);
});

proof("access, gateways, intrawire: every host reaches every host", async (lab) => {
  const { access, gateways, intrawire } = innerAddresses(lab.state.hosts);
  for (const addresses of [access, gateways, intrawire]) {
    assertEquals(await everywhere(lab, ({ name }) => unreached(lab.network(name), addresses)), same(lab, []));
  }
});

proof("outside world: reached from every host, under the host's external address", async (lab) => {
  const seen = await everywhere(
    lab,
    ({ name }) => seenAddress({ exec: (argv) => lab.exec(name, argv) }, WEB_NAME),
  );
  assertEquals(seen, Object.fromEntries(lab.state.hosts.map(({ name, address }) => [name, address])));
});

proof("names: every host resolves hosts, extra names and outside names through its gateway", async (lab) => {
  const expected = allNames(lab);
  const asked = Object.keys(expected);
  const found = await everywhere(
    lab,
    ({ name, id }) => resolveAt(lab.network(name), hostAddresses(id).gateway, asked),
  );
  assertEquals(found, same(lab, expected));
  const own = await everywhere(
    lab,
    ({ name }) => ask(lab, name, ["getent", "ahostsv4", "printer.example", WEB_NAME]),
  );
  for (const said of Object.values(own)) assertMatch(said, /^10\.31\.200\.1 [^]*^203\.0\.113\.80 /m);
});

function allNames(lab: Lab): Record<string, string> {
  return {
    ...Object.fromEntries(lab.state.hosts.map(({ name, id }) => [name, hostAddresses(id).access])),
    ...Object.fromEntries(Object.entries(EXTRA_NAMES).map(([address, name]) => [name, address])),
    [WEB_NAME]: WEB_SERVER,
  };
}

proof("SSH: every external address leads to its host", async (lab) => {
  const found = await everywhere(lab, async ({ name }) => (await lab.ssh(name, "uname -n")).stdout.trim());
  assertEquals(found, Object.fromEntries(names(lab).map((name) => [name, name])));
});

proof("WireGuard: the peers are the other hosts at their external addresses", async (lab) => {
  const keys = await readPubkeys(lab);
  for (const { name, address } of lab.state.hosts) {
    const { publicKey, peers } = await snapshot(lab, name);
    assertEquals(publicKey, keys[address]);
    const endpoints = [...peers].filter(([, { allowedIps }]) => allowedIps !== `${CLIENT}/32`)
      .map(([key, { endpoint }]) => [endpoint, key]);
    const others = Object.entries(keys).filter(([other]) => other !== address);
    assertEquals(
      Object.fromEntries(endpoints),
      Object.fromEntries(others.map(([other, key]) => [`${other}:51820`, key])),
    );
  }
});

proof("extrawire client: reaches everything and all names through any one host", async (lab, { client }) => {
  const keys = await readPubkeys(lab);
  const peer = (host: string) => ({
    publicKey: keys[lab.host(host).address]!,
    address: lab.host(host).address,
  });
  const laptop = await addClient(lab, {
    name: "laptop",
    address: "198.51.100.201",
    tunnelAddress: CLIENT,
    privateKey: client.privateKey,
    peer: peer("beta"),
    resolver: hostAddresses(2).gateway,
  });
  await checkClient(lab, laptop, "beta");
  await laptop.connect(peer("zeta"));
  await checkClient(lab, laptop, "zeta");
});

async function checkClient(lab: Lab, laptop: Client, through: string): Promise<void> {
  const own = hostAddresses(lab.host(through).id).gateway;
  await waitForAnswers(`the gateway of ${through}, from the client`, () => laptop, [own], 15_000);
  assertEquals(await unreached(laptop, allInnerAddresses(lab.state.hosts)), [], `through ${through}`);
  await assertConnections(lab, laptop);
  const expected = allNames(lab);
  for (const [name, address] of Object.entries(expected)) {
    assertMatch((await laptop.exec(["getent", "ahostsv4", name])).stdout, new RegExp(`^${address} `), name);
  }
}

const GUESTS = [
  { host: "delta", name: "one", address: "10.31.200.5", mac: "02:00:00:00:00:05" },
  { host: "epsilon", name: "two", address: "10.31.200.6", mac: "02:00:00:00:00:06" },
] as const;

/** The guests, made when first asked for; the first goes out through another host's gateway. */
async function guests(lab: Lab): Promise<[Place, Place]> {
  const places = await Promise.all(GUESTS.map(async ({ host, name, address, mac }) => {
    const there = (await lab.exec(host, ["ip", "netns", "list"])).stdout.includes(`guest-${name}`);
    if (there) return lab.network(host, `guest-${name}`);
    return await addGuest(lab, host, { name, address: `${address}/16`, mac });
  }));
  await must(places[0]!.enter(["ip", "route", "replace", "default", "via", hostAddresses(3).gateway]));
  return [places[0]!, places[1]!];
}

proof(
  "guest: a virtual machine reaches all hosts, gateways, other guests and the outside world",
  async (lab) => {
    const [one, two] = await guests(lab);
    const { access, gateways } = innerAddresses(lab.state.hosts);
    assertEquals(await unreached(one, [...access, ...gateways, GUESTS[1].address]), []);
    assertEquals(await unreached(two, [...access, ...gateways, GUESTS[0].address]), []);
    await assertConnections(lab, one);
    assertEquals(await seenAddress(one, WEB_SERVER), lab.host("beta").address);
    assertEquals(await resolveAt(one, hostAddresses(3).gateway, Object.keys(allNames(lab))), allNames(lab));
    assertEquals(
      await everywhere(lab, ({ name }) => unreached(lab.network(name), [GUESTS[0].address])),
      same(lab, []),
    );
  },
);

/** IEEE 802, local experimental EtherType 1. */
const EXPERIMENTAL = 0x88b5;
const BROADCAST = "ff:ff:ff:ff:ff:ff";
/** Sent after the frames that are counted: when it is there, so are they. */
const LAST = 255;

proof(
  "frames: unknown EtherType, broadcast, multicast and tagged ones cross, each exactly once",
  async (lab) => {
    const [one, two] = await guests(lab);
    const filter = "ether src 02:00:00:00:00:05 and (ether proto 0x88b5 or vlan)";
    const hosts = names(lab).filter((name) => !WITH_GUESTS.includes(name));
    const [atSender, atGuest, ...atHosts] = await Promise.all([
      capture(lab, one, "eth0", filter),
      capture(lab, two, "eth0", filter),
      ...hosts.map((name) => capture(lab, lab.network(name), "veth_fac0", filter)),
    ]) as [Capture, Capture, ...Capture[]];
    const payload = (number: number) => new Uint8Array(64).fill(number);
    const from = GUESTS[0].mac;
    const frames: Frame[] = [
      { to: GUESTS[1].mac, from, type: EXPERIMENTAL, payload: payload(1) },
      { to: BROADCAST, from, type: EXPERIMENTAL, payload: payload(2) },
      { to: "01:00:5e:01:02:03", from, type: EXPERIMENTAL, payload: payload(3) },
      { to: "33:33:00:00:00:fb", from, type: EXPERIMENTAL, payload: payload(4) },
      { to: BROADCAST, from, type: EXPERIMENTAL, payload: payload(5), vlan: 7 },
      { to: BROADCAST, from, type: EXPERIMENTAL, payload: payload(LAST) },
    ];
    for (const frame of frames) await sendFrame(one, "eth0", frame);
    for (const seen of [atGuest, ...atHosts]) await waitForFrame(seen, LAST);
    // A copy that goes around the ring would need no longer than there and back again.
    assertEquals(await unreached(one, innerAddresses(lab.state.hosts).access), []);
    assertEquals(numbers(await atGuest.stop()), [1, 2, 3, 4, 5, LAST]);
    for (const seen of atHosts) assertEquals(numbers(await seen.stop()), [2, 3, 4, 5, LAST]);
    assertEquals(numbers(await atSender.stop()), [], "nothing comes back to the sender");
  },
);

proof("a deleted access link is made again, and hears what is sent to all", async (lab) => {
  const [one] = await guests(lab);
  const host = lab.host("gamma");
  await ask(lab, host.name, ["ip", "link", "delete", "veth_fac0"]);
  await ask(lab, host.name, ["/opt/mobula/bin/mobula", "up"]);
  const seen = await capture(lab, lab.network(host.name), "veth_fac0", `ether src ${GUESTS[0].mac}`);
  const hello: Frame = {
    to: BROADCAST,
    from: GUESTS[0].mac,
    type: EXPERIMENTAL,
    payload: new Uint8Array(64).fill(LAST),
  };
  await waitFor("a frame to all", async () => {
    await sendFrame(one, "eth0", hello);
    return numbers(seen.frames()).includes(LAST);
  }, { intervalMs: 500 });
  await seen.stop();
  await expectWell(lab, host, 10_000);
});

async function waitForFrame(seen: Capture, number: number): Promise<void> {
  await waitFor(`frame ${number}`, () => numbers(seen.frames()).includes(number));
}

function numbers(frames: readonly Frame[]): number[] {
  return frames.map(({ payload }) => payload[0] ?? 0).sort((a, b) => a - b);
}

proof("ARP: a question to all is heard once and answered once", async (lab) => {
  const [one, two] = await guests(lab);
  const asked = await capture(lab, two, "eth0", `arp and ether src ${GUESTS[0].mac}`);
  const answered = await capture(lab, one, "eth0", `arp and ether src ${GUESTS[1].mac} and arp[7] = 2`);
  await sendFrame(one, "eth0", arpRequest(GUESTS[0], GUESTS[1].address));
  await waitFor("the answer", () => answered.frames().length > 0);
  assertEquals(await unreached(one, [GUESTS[1].address]), []);
  const questions = (await asked.stop()).filter(({ to }) => to === BROADCAST);
  assertEquals(questions.length, 1);
  assertEquals((await answered.stop()).filter(({ to }) => to === GUESTS[0].mac).length, 1);
});

/** RFC 826: Ethernet, IPv4, request. */
function arpRequest(from: { readonly mac: string; readonly address: string }, wanted: string): Frame {
  const mac = from.mac.split(":").map((part) => parseInt(part, 16));
  const bytes = (address: string) => address.split(".").map(Number);
  const head = [0, 1, 8, 0, 6, 4, 0, 1];
  const payload = [...head, ...mac, ...bytes(from.address), 0, 0, 0, 0, 0, 0, ...bytes(wanted)];
  return { to: BROADCAST, from: from.mac, type: 0x0806, payload: new Uint8Array(payload) };
}

proof("outside: of all TCP ports only SSH answers", async (_lab, { scans }) => {
  assertEquals(await scans.everyPort, {
    ports: [{ port: 22, protocol: "tcp", state: "open" }],
    others: { filtered: 65534 },
  });
});

proof("outside: every host answers SSH and ICMP echo, and on no usual UDP port", async (lab, { scans }) => {
  for (const [name, { ports, others }] of Object.entries(await scans.usualPorts)) {
    // A closed port is one that answers; WireGuard itself answers nobody without a key.
    const answers = ports.filter(({ state }) => state !== "open|filtered" && state !== "filtered");
    assertEquals(answers, [{ port: 22, protocol: "tcp", state: "open" }], name);
    assertEquals(Object.keys(others).filter((state) => !state.includes("filtered")), [], name);
  }
  assertEquals(await unreached(await strangerIn(lab), lab.state.hosts.map(({ address }) => address)), []);
});

proof(
  "outside: inner addresses do not answer those who route to them from outside",
  async (_lab, { scans }) => {
    for (const [address, { ports, others }] of Object.entries(await scans.innerPorts)) {
      assertEquals(ports.filter(({ state }) => !state.includes("filtered")), [], address);
      assertEquals(Object.keys(others).filter((state) => !state.includes("filtered")), [], address);
    }
  },
);

proof("outside: no gateway tells a stranger a name", async (lab, { scans }) => {
  const servers = [...lab.state.hosts.map(({ name }) => name), hostAddresses(3).gateway];
  assertEquals(await scans.names, Object.fromEntries(servers.map((server) => [server, ""])));
});

declareSecrets(proof);
declareReturns(proof);
declareChange(proof);

function assertSameRun(before: Snapshot, after: Snapshot): void {
  assertEquals(after.mainPids, before.mainPids);
  assertEquals(after.firewall, before.firewall);
  assertEquals(after.links, before.links);
  assertEquals(after.switchPorts, before.switchPorts);
}
