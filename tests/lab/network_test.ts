/**
 * The main proof: six hosts, one push, one network; and it stays one whatever happens. The executable is made by `deno compile`.
 * Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { parse } from "@std/yaml";
import { hostAddresses } from "../../lib/address.ts";
import { addClient, addGuest, type Client } from "./client.ts";
import { type Capture, capture, type Frame, sendFrame } from "./capture.ts";
import { executable } from "./executables.ts";
import { type InventoryOptions, writeInventory } from "./inventory.ts";
import { type HostOptions, type Lab, type LabHost, type Place } from "./lab.ts";
import {
  allInnerAddresses,
  argumentListsDuring,
  innerAddresses,
  resolveAt,
  seenAddress,
  startPing,
  unreached,
  waitForAnswers,
} from "./probes.ts";
import { must } from "./process.ts";
import { type Scans, startScans, strangerIn } from "./scans.ts";
import { expectCode, mobula, setStage } from "./proof.ts";
import { ask, type Daemon, DAEMONS, mainPids, type Snapshot, snapshot } from "./snapshot.ts";
import { WEB_NAME, WEB_SERVER } from "./underlay.ts";
import { waitFor } from "./wait.ts";

const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  { name: "beta", address: "198.51.100.3", suite: "bookworm" },
  { name: "gamma", address: "198.51.100.4", suite: "trixie", image: "bare" },
  { name: "delta", address: "198.51.100.5", suite: "bookworm", image: "bare" },
  { name: "epsilon", address: "198.51.100.6", suite: "trixie" },
  { name: "zeta", address: "198.51.100.7", suite: "bookworm", id: 256 },
];
const BARE = ["gamma", "delta"];
/** Hosts of virtual machines: `veth_fac0` is in a bridge of the admin's, which carries the host's address. */
const WITH_GUESTS = ["delta", "epsilon"];

const CLIENT = "10.30.128.1";
const EXTRA_NAMES = { "10.31.200.1": "printer.example", "10.31.200.5": "guest.internal" };

interface Pushed {
  readonly program: string;
  readonly said: string;
  readonly argumentLists: Set<string>;
  readonly client: { readonly privateKey: string; readonly publicKey: string };
  /** Run beside the other tests. */
  readonly scans: Scans;
}

const { proof } = setStage<Pushed>({ name: "network", hosts: HOSTS, prepare });

/** Everything that the tests stand on: the one push, and the admin's own bridges for guests. */
async function prepare(lab: Lab): Promise<Pushed> {
  const program = await executable("compiled");
  const pair = JSON.parse(await must([program, "keys", "generate", "--json"]));
  const client = { privateKey: pair.private_key, publicKey: pair.public_key };
  await writeFleet(lab, client.publicKey);
  const [pushed, argumentLists] = await argumentListsDuring(() =>
    mobula(lab, { executable: program }, "push", "--verbose")
  );
  expectCode(pushed, 0, "the push of six hosts");
  await Promise.all(WITH_GUESTS.map((name) => bridgeGuests(lab, lab.host(name))));
  const scans = await startScans(lab, "beta");
  return { program, said: pushed.stdout + pushed.stderr, argumentLists, client, scans };
}

async function writeFleet(lab: Lab, client: string, options: InventoryOptions = {}): Promise<void> {
  await writeInventory(lab, {
    hostVars: Object.fromEntries(WITH_GUESTS.map((name) => [name, { mobula_access: "none" }])),
    extraHosts: EXTRA_NAMES,
    extraWires: { [CLIENT]: client },
    ...options,
  });
}

/** As an admin does it who wants the host's address on the bridge of the virtual machines, also after a boot. */
async function bridgeGuests(lab: Lab, { name, id }: LabHost): Promise<void> {
  const { access, gateway } = hostAddresses(id);
  const files = {
    "br-guests.netdev":
      "[NetDev]\nName=br-guests\nKind=bridge\n[Bridge]\nMulticastSnooping=no\nForwardDelaySec=0\n",
    "br-guests.network":
      `[Match]\nName=br-guests\n[Network]\nAddress=${access}/16\nGateway=${gateway}\nConfigureWithoutCarrier=yes\n`,
    "veth_fac0.network": "[Match]\nName=veth_fac0\n[Network]\nBridge=br-guests\n",
  };
  for (const [file, text] of Object.entries(files)) {
    const { code, stderr } = await lab.exec(name, ["sh", "-c", `cat >/etc/systemd/network/20-${file}`], {
      stdin: text,
    });
    assertEquals(code, 0, stderr);
  }
  await ask(lab, name, ["sh", "-c", `echo nameserver ${gateway} >/etc/resolv.conf; networkctl reload`]);
  await waitForAnswers(`the bridge of ${name}`, () => lab.network(name), [gateway], 20_000);
}

function names(lab: Lab): string[] {
  return lab.state.hosts.map(({ name }) => name);
}

/** Runs a check on every host at once; what it finds is listed by host name. */
async function everywhere<T>(lab: Lab, check: (host: LabHost) => Promise<T>): Promise<Record<string, T>> {
  const found = await Promise.all(
    lab.state.hosts.map(async (host) => [host.name, await check(host)] as const),
  );
  return Object.fromEntries(found);
}

function same<T>(lab: Lab, value: T): Record<string, T> {
  return Object.fromEntries(names(lab).map((name) => [name, value]));
}

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

/** External address → public key, as the file beside `hosts.yml` tells it. */
async function readPubkeys(lab: Lab): Promise<Record<string, string>> {
  return parse(await Deno.readTextFile(`${lab.directory}/wireguard_pubkeys.yml`)) as Record<string, string>;
}

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

proof(
  "private keys: only on their host, for root alone, and nowhere else",
  async (lab, { said, argumentLists }) => {
    const found = await everywhere(lab, ({ name }) => privateKey(lab, name));
    const keys = Object.values(found).map(({ key }) => key);
    assertEquals(new Set(keys).size, names(lab).length, "every host has a key of its own");
    for (const { mode } of Object.values(found)) assertEquals(mode, "600 root root");
    assertEquals(
      await filesWith(lab, keys),
      Object.entries(found).map(([owner, { path }]) => `${owner}:${path}`).sort(),
    );
    const journals = await everywhere(lab, ({ name }) => ask(lab, name, ["journalctl", "--no-pager", "-q"]));
    const texts = [said, ...argumentLists, ...Object.values(journals)];
    assertEquals(
      texts.filter((text) => keys.some((key) => text.includes(key))).length,
      0,
      "no argument, no log, no output",
    );
    const prepared = [...argumentLists].filter((argv) => argv.includes("mobula host prepare"));
    assert(prepared.length > 0, "the samples must hold what ran on the hosts");
  },
);

async function privateKey(lab: Lab, host: string): Promise<{ path: string; mode: string; key: string }> {
  const list = (await ask(lab, host, ["sh", "-c", "ls /etc/wireguard/mobula/*.key"])).trim().split("\n");
  assertEquals(list.length, 1, `${host}: one key`);
  const path = list[0]!;
  const mode = (await ask(lab, host, ["stat", "-c", "%a %U %G", path])).trim();
  return { path, mode, key: (await ask(lab, host, ["cat", path])).trim() };
}

/** The patterns come on standard input, so as not to stand in an argument list themselves. */
const GREP = 'grep -rsalF --devices=skip -f /dev/stdin "$@" || true';

/** Files with one of the texts: on the disk and in `/run` of every host, and in the directory of the lab on the deployer. */
async function filesWith(lab: Lab, texts: readonly string[]): Promise<string[]> {
  const options = { stdin: `${texts.join("\n")}\n` };
  const lines = (text: string) => text.split("\n").filter((line) => line !== "");
  const onHosts = await everywhere(lab, async ({ name, directory }) => {
    const disk = lines(await must(["sh", "-c", GREP, "sh", `${directory}/upper`], options));
    const memory = lines((await lab.exec(name, ["sh", "-c", GREP, "sh", "/run"], options)).stdout);
    return [...disk.map((path) => path.replace(`${directory}/upper`, "")), ...memory].map((path) =>
      `${name}:${path}`
    );
  });
  const excluded = ["hosts", "www", "captures"].map((name) => `--exclude-dir=${name}`);
  const deployer = lines(await must(["sh", "-c", GREP, "sh", ...excluded, lab.directory], options));
  return [...Object.values(onHosts).flat(), ...deployer].sort();
}

/** Names that a host must answer with, and addresses that it must reach, when it is well. */
async function expectWell(lab: Lab, { name, id }: LabHost, deadlineMs: number): Promise<void> {
  const { gateway } = hostAddresses(id);
  const began = performance.now();
  await waitForAnswers(
    `the network of ${name}`,
    () => lab.network(name),
    allInnerAddresses(lab.state.hosts),
    deadlineMs,
  );
  const left = deadlineMs - (performance.now() - began);
  await waitFor(
    `names on ${name}`,
    async () => (await resolveAt(lab.network(name), gateway, ["zeta"])).zeta === "10.31.129.0",
    {
      deadlineMs: left,
    },
  );
}

for (const daemon of DAEMONS) {
  proof(`kill -9 of ${daemon}: back within 10 s`, async (lab) => {
    const host = lab.host(DAEMONS.indexOf(daemon) % 2 === 0 ? "beta" : "gamma");
    const before = await mainPids(lab, host.name);
    await ask(lab, host.name, ["kill", "-9", String(before[daemon])]);
    const began = performance.now();
    await waitFor(`a new ${daemon}`, async () => {
      const pid = (await mainPids(lab, host.name))[daemon];
      return pid !== 0 && pid !== before[daemon];
    }, { deadlineMs: 10_000 });
    await expectWell(lab, host, 10_000 - (performance.now() - began));
    // Well for good: what configures the new daemon has ended, and it still is.
    await waitFor("the end of the healing", () => isIdle(lab, host.name, "mobula-heal.service"));
    await expectWell(lab, host, 10_000 - (performance.now() - began));
    assertEquals(
      otherPids(await mainPids(lab, host.name), daemon),
      otherPids(before, daemon),
      "nobody else is restarted",
    );
  });
}

async function isIdle(lab: Lab, host: string, unit: string): Promise<boolean> {
  return /^(inactive|failed)/.test((await lab.exec(host, ["systemctl", "is-active", unit])).stdout);
}

function otherPids(pids: Readonly<Record<Daemon, number>>, daemon: Daemon): Record<string, number> {
  return Object.fromEntries(Object.entries(pids).filter(([name]) => name !== daemon));
}

proof(
  "reboot: all hosts at once, nobody pushes, and the network is back by itself",
  async (lab, { program }) => {
    const began = performance.now();
    await Promise.all(names(lab).map((name) => lab.reboot(name)));
    await Promise.all(
      lab.state.hosts.map((host) => expectWell(lab, host, 120_000 - (performance.now() - began))),
    );
    expectCode(await mobula(lab, { executable: program }, "verify"), 0, "verify after the reboot");
  },
);

proof(
  "change: one host more, one less, another name, another client: exactly that changes",
  async (lab, { program }) => {
    const before = await snapshot(lab, "alpha");
    const oldKeys = await readPubkeys(lab);
    const { seventh, newClient } = await changeFleet(lab, program);
    const pings = await Promise.all(
      [hostAddresses(3).access, hostAddresses(3).intrawire].map((address) =>
        startPing(lab, lab.network("alpha"), address)
      ),
    );
    const pushed = await mobula(lab, { executable: program }, "push");
    expectCode(pushed, 0, "the push of the changed fleet");
    for (const ping of pings) {
      const { sent, lost } = await ping.stop();
      assertEquals(lost, [], `of ${sent} pings from alpha to beta`);
    }
    assertMatch(pushed.stdout, /✓ eta \(id 8\): installed, executable sent, rebooted/);
    for (const name of ["alpha", "beta", "delta", "epsilon", "zeta"]) {
      assertMatch(pushed.stdout, new RegExp(`✓ ${name} \\(id \\d+\\): updated, (?!.*(sent|rebooted))`));
    }
    const after = await snapshot(lab, "alpha");
    assertOnlyPeersChanged(before, after, {
      removed: [oldKeys[lab.host("gamma").address]!],
      added: [(await readPubkeys(lab))[seventh.address]!, newClient],
    });
    await checkChangedFleet(lab);
  },
);

/** gamma leaves, eta comes, the printer moves, and the client gets another key. */
async function changeFleet(lab: Lab, program: string): Promise<{ seventh: LabHost; newClient: string }> {
  const seventh = await lab.addHost({ name: "eta", address: "198.51.100.8", suite: "trixie", image: "bare" });
  const newClient = JSON.parse(await must([program, "keys", "generate", "--json"])).public_key;
  await writeFleet(lab, newClient, {
    hosts: names(lab).filter((name) => name !== "gamma"),
    extraHosts: { "10.31.200.9": "printer.example" },
  });
  return { seventh, newClient };
}

function assertOnlyPeersChanged(
  before: Snapshot,
  after: Snapshot,
  { removed, added }: { readonly removed: readonly string[]; readonly added: readonly string[] },
): void {
  assertEquals(after.publicKey, before.publicKey);
  assertEquals(after.mainPids, before.mainPids, "no daemon is restarted");
  assertEquals(after.firewall, before.firewall, "the firewall is not loaded again");
  assertEquals(after.links, before.links, "no link is moved or made anew");
  const [old, now] = [new Set(before.peers.keys()), new Set(after.peers.keys())];
  const clients = [...old].filter((key) => before.peers.get(key)!.allowedIps === `${CLIENT}/32`);
  assertEquals([...old].filter((key) => !now.has(key)).sort(), [...removed, ...clients].sort());
  assertEquals([...now].filter((key) => !old.has(key)).sort(), [...added].sort());
  for (const key of [...old].filter((key) => now.has(key))) {
    const [was, is] = [before.peers.get(key)!, after.peers.get(key)!];
    assertEquals({ ...is, latestHandshake: 0 }, { ...was, latestHandshake: 0 });
    assert(is.latestHandshake >= was.latestHandshake && is.latestHandshake > 0, "no session is thrown away");
  }
  const ports = new Map(before.switchPorts);
  for (const name of ["mo-t-4", "mo-path-4"]) ports.delete(name);
  const kept = new Map([...after.switchPorts].filter(([name]) => !/^mo-(t|path)-8$/.test(name)));
  assertEquals(kept, ports, "the other ports of the switch are the same ones");
  assertEquals(after.switchPorts.size, ports.size + 2);
}

async function checkChangedFleet(lab: Lab): Promise<void> {
  const members = lab.state.hosts.filter(({ name }) => name !== "gamma");
  for (const { name, id } of members) {
    const place = lab.network(name);
    assertEquals(await unreached(place, allInnerAddresses(members)), [], name);
    assertEquals(
      await unreached(place, [hostAddresses(4).intrawire]),
      [hostAddresses(4).intrawire],
      "gamma is out",
    );
    assertEquals(
      await resolveAt(place, hostAddresses(id).gateway, ["eta", "gamma", "printer.example"]),
      { eta: hostAddresses(8).access, gamma: "", "printer.example": "10.31.200.9" },
    );
  }
}

function assertSameRun(before: Snapshot, after: Snapshot): void {
  assertEquals(after.mainPids, before.mainPids);
  assertEquals(after.firewall, before.firewall);
  assertEquals(after.links, before.links);
  assertEquals(after.switchPorts, before.switchPorts);
}
