/**
 * Machines behind the hosts, and what they may do to the access network: move, flood, loop, speak spanning tree. Each VM is a namespace
 * bridged to a host's access link. Three hosts; what is counted is asserted. Needs root and the lab's packages.
 */
import { assert, assertEquals } from "@std/assert";
import { hostMac } from "../../../lib/address.ts";
import { type Capture, capture, type Frame, renderFrame, sendFrame } from "../capture.ts";
import { addGuest } from "../client.ts";
import { executable } from "../executables.ts";
import { writeInventory } from "../inventory.ts";
import type { Lab, Place } from "../lab.ts";
import { unreached, waitForAnswers } from "../probes.ts";
import { must } from "../process.ts";
import { expectCode, mobula, setStage } from "../proof.ts";
import { ask } from "../snapshot.ts";
import {
  appctl,
  during,
  learned,
  mendPaths,
  ofctl,
  rootHost,
  startFlow,
  vsctl,
  waitForPaths,
} from "../switching.ts";
import { waitFor } from "../wait.ts";
import { TRIO } from "../trio.ts";

const NAMES = TRIO.map(({ name }) => name);
const GATEWAYS = ["10.31.0.2", "10.31.0.3", "10.31.0.4"];

const { proof } = setStage<void>({ name: "guests", hosts: TRIO, prepare });

/** Declares a test that begins without VMs and with a tree at rest, whatever became of the test before. */
function guestProof(name: string, check: (lab: Lab) => Promise<void>): void {
  proof(name, async (lab) => {
    await Promise.all(NAMES.flatMap((host) => [VM, NEIGHBOUR].map((vm) => stopVm(lab, host, vm.name))));
    // A flood of addresses is remembered for five minutes, and takes the room of beta's other VMs.
    await Promise.all(
      NAMES.flatMap((host) => ["table=1", "table=7"].map((table) => ofctl(lab, host, "del-flows", table))),
    );
    await waitForPaths(lab, NAMES);
    await waitForRest(lab);
    await check(lab);
  });
}

/** So many looks in a row, one each 200 ms, at a tree that is the same and forwards. */
const REST = 10;

async function waitForRest(lab: Lab): Promise<void> {
  let [before, looks] = ["", 0];
  await waitFor("a tree at rest", async () => {
    const tree = JSON.stringify(await Promise.all(NAMES.map((name) => rolesOf(lab, name))));
    looks = tree === before && !/Learning|Disabled|Designated Discarding/.test(tree) ? looks + 1 : 0;
    before = tree;
    return looks >= REST;
  }, { intervalMs: 200 });
}

async function prepare(lab: Lab): Promise<void> {
  await mendPaths(lab);
  await push(lab, {});
}

async function push(lab: Lab, vars: Readonly<Record<string, unknown>>): Promise<void> {
  await writeInventory(lab, { hosts: NAMES, vars: { mobula_access: "none", ...vars } });
  const program = await executable("compiled");
  expectCode(await mobula(lab, { executable: program }, "push", "--no-reboot"), 0, "the push");
  await waitForPaths(lab, NAMES);
}

const VM = { name: "vm", address: "10.31.200.7", mac: "02:00:00:00:00:07" };
const NEIGHBOUR = { name: "vn", address: "10.31.200.8", mac: "02:00:00:00:00:08" };

/** Starts a VM on a host. */
async function startVm(lab: Lab, host: string, { name, address, mac } = VM): Promise<Place> {
  return await addGuest(lab, host, { name, address: `${address}/16`, mac });
}

async function stopVm(lab: Lab, host: string, name: string): Promise<void> {
  await lab.exec(host, ["sh", "-c", `ip link del g-${name}; ip netns del guest-${name}; true`]);
}

/** IEEE 802, local experimental EtherType 1. */
const EXPERIMENTAL = 0x88b5;
const BROADCAST = "ff:ff:ff:ff:ff:ff";

function frame(from: string, to: string, number: number, vlan?: number): Frame {
  const payload = new Uint8Array(46).fill(number);
  return { to, from, type: EXPERIMENTAL, payload, ...(vlan === undefined ? {} : { vlan }) };
}

function numbers(frames: readonly Frame[]): number[] {
  return frames.map(({ payload }) => payload[0] ?? 0);
}

/** One ping, answered within a second or not. */
async function answersOnce(place: Place, address: string): Promise<boolean> {
  return (await place.exec(["ping", "-n", "-q", "-c", "1", "-W", "1", address])).code === 0;
}

guestProof("a VM moves to another host: reached at its new place after its first frame", async (lab) => {
  let vm = await startVm(lab, "alpha");
  const askers = NAMES.map((name) => lab.network(name, "mobula"));
  // Nobody has to ask for its MAC: the questions would tell the switches where it is.
  for (const name of NAMES) {
    const neighbour = ["ip", "neigh", "replace", VM.address, "lladdr", VM.mac, "dev", "ovsbr-mobula"];
    await ask(lab, name, [...neighbour, "nud", "permanent"], "mobula");
  }
  await waitForAnswers("the VM on alpha", () => vm, GATEWAYS, 10_000);
  for (const asker of askers) assert(await answersOnce(asker, VM.address));
  for (const [from, to] of [["alpha", "beta"], ["beta", "gamma"], ["gamma", "alpha"]] as const) {
    // What the switches have still to note of its last frames there would be the newer place.
    await Promise.all(NAMES.map((name) => appctl(lab, name, "revalidator/wait")));
    await stopVm(lab, from, VM.name);
    vm = await startVm(lab, to);
    await sendFrame(vm, "eth0", frame(VM.mac, BROADCAST, 1));
    for (const [index, asker] of askers.entries()) {
      assert(await answersOnce(asker, VM.address), `${NAMES[index]} reaches the VM on ${to}`);
    }
    for (const name of NAMES) {
      const known = (await learned(lab, name)).find(({ mac }) => mac === VM.mac);
      assertEquals(known?.host, name === to ? 0 : lab.host(to).id, `as ${name} knows it`);
    }
  }
});

guestProof("VLANs do not mix: one MAC here untagged and there tagged is two machines", async (lab) => {
  const [here, there, sender] = [
    await startVm(lab, "alpha"),
    await startVm(lab, "beta", { ...VM, address: "10.31.200.9" }),
    await startVm(lab, "gamma", NEIGHBOUR),
  ];
  const filter = `ether src ${NEIGHBOUR.mac} and (ether proto ${EXPERIMENTAL} or vlan)`;
  // As they come out of the switch: the guests' own bridges know no VLANs.
  const [atHere, atThere] = await Promise.all([
    capture(lab, lab.network("alpha"), "veth_fac0", filter),
    capture(lab, lab.network("beta"), "veth_fac0", filter),
  ]);
  await sendFrame(there, "eth0", frame(VM.mac, BROADCAST, 1, 7));
  await sendFrame(here, "eth0", frame(VM.mac, BROADCAST, 1));
  await waitFor(
    "both to be known to gamma",
    async () => (await learned(lab, "gamma")).filter(({ mac }) => mac === VM.mac).length === 2,
  );
  const untagged = await sendUntilSeen(sender, frame(NEIGHBOUR.mac, VM.mac, 2), atHere);
  const tagged = await sendUntilSeen(sender, frame(NEIGHBOUR.mac, VM.mac, 3, 7), atThere);
  const last = frame(NEIGHBOUR.mac, BROADCAST, 255);
  await sendFrame(sender, "eth0", last);
  for (const one of [atHere, atThere]) await waitForFrame(one, 255);
  for (const [one, number, sent] of [[atHere, 2, untagged], [atThere, 3, tagged]] as const) {
    const came = numbers(await one.stop()).filter((other) => other < 255);
    assertEquals(came.filter((other) => other !== number), [], `nothing but ${number}`);
    assert(came.length <= sent, `${number} came ${came.length} times; it was sent ${sent} times`);
  }
});

/** Sends a frame until it is seen: a single one may be lost, where the machine stood still and a path was given up for it. Gives how often. */
async function sendUntilSeen(place: Place, sent: Frame, seen: Capture): Promise<number> {
  const number = sent.payload[0]!;
  let times = 0;
  await waitFor(`frame ${number}`, async () => {
    if (numbers(seen.frames()).includes(number)) return true;
    await sendFrame(place, "eth0", sent);
    times++;
    return false;
  });
  if (times > 1) console.log(`  frame ${number}: seen after ${times} were sent`);
  return times;
}

async function waitForFrame(seen: Capture, number: number): Promise<void> {
  await waitFor(`frame ${number}`, () => numbers(seen.frames()).includes(number));
}

/** All gateways answer a host: soon, for on a busy machine a flood may cost a path for a moment. */
async function goesOn(lab: Lab, name: string): Promise<void> {
  await waitForAnswers(`all gateways, from ${name}`, () => lab.network(name, "mobula"), GATEWAYS, 10_000);
}

/** Bytes of each frame of a flood: socat writes as many at a time, so that each block is a frame. */
const FLOOD_FRAME = 64;

/** Sends frames one behind the other as fast as it goes; gives the seconds it took. */
async function flood(place: Place, frames: readonly Frame[]): Promise<number> {
  const bytes = new Uint8Array(frames.length * FLOOD_FRAME);
  for (const [index, one] of frames.entries()) {
    bytes.set(renderFrame(one).subarray(0, FLOOD_FRAME), index * FLOOD_FRAME);
  }
  const began = performance.now();
  const argv = ["socat", "-u", "-b", String(FLOOD_FRAME), "STDIN", "INTERFACE:eth0"];
  await must(place.enter(argv), { stdin: bytes, timeoutMs: 120_000 });
  return (performance.now() - began) / 1000;
}

/** A frame with room to spare, from one of many addresses. */
function floodFrame(to: string, from: string): Frame {
  return { to, from, type: EXPERIMENTAL, payload: new Uint8Array(50) };
}

const MANY = 100_000;

/** One of many addresses. */
function source(index: number): string {
  const hex = (value: number) => (value & 255).toString(16).padStart(2, "0");
  return `02:77:00:${hex(index >> 16)}:${hex(index >> 8)}:${hex(index)}`;
}
/** Frames that a host lets through a second from addresses that it has not sent from before; a filter for those of the test. */
const STRANGER_RATE = 1000;
const STRANGERS = `ether[6:2] == 0x0277 and ether proto ${EXPERIMENTAL}`;
/** How many addresses are remembered of one host. */
const LEARN_LIMIT = 4096;
/** Among them may be so many of the host's own. */
const OWN = 10;

guestProof("100,000 MACs of one VM: table 1 stays bounded, and nobody else's entries go", async (lab) => {
  const vm = await startVm(lab, "beta");
  for (const name of NAMES) assertEquals(await unreached(lab.network(name, "mobula"), GATEWAYS), []);
  const others = async (at: string) =>
    (await learned(lab, at)).filter(({ mac, host }) => /^02:6d:6f:00:0[24]:01$/.test(mac) && host !== 0);
  const before = await Promise.all(["beta", "gamma"].map(others));
  assertEquals(before.map((list) => list.length), [2, 1]);
  // To a known address: no limit on floods stands in the way.
  const target = hostMac(lab.host("gamma").id, "gateway");
  const frames = Array.from({ length: MANY }, (_, index) => floodFrame(target, source(index)));
  const flaps = async () => (await Promise.all(NAMES.map((name) => flapsOf(lab, name)))).flat();
  const flapsBefore = await flaps();
  const bystanders = await startFlow(lab, "alpha-gamma", lab.network("alpha", "mobula"), GATEWAYS[2]!);
  const arrived = await capture(lab, lab.network("gamma", "mobula"), "ovsbr-mobula", STRANGERS);
  let seconds = 0;
  await during([bystanders], async () => void (seconds = await flood(vm, frames)));
  const got = (await arrived.stop()).length;
  // How many paths were given up meanwhile is a matter of how busy this machine is.
  const flapped = (await flaps()).filter((port, index) => port !== flapsBefore[index]).length;
  console.log(`  ${got} of their frames came through; ${flapped} tunnel ends went down or up`);
  // A burst of a second's worth, and then the rate.
  assert(got > 100 && got <= STRANGER_RATE * (seconds + 2), `${got} in ${seconds} s`);
  console.log(`  ${MANY} MACs in ${seconds.toFixed(1)} s`);
  await fillTables(vm, target, () => strangersAt(lab, "beta"));
  for (const [index, at] of ["beta", "gamma"].entries()) {
    const strange = await strangersAt(lab, at);
    console.log(`  ${at} has learned ${strange} of them`);
    const least = at === "beta" ? LEARN_LIMIT - OWN : 100;
    assert(
      strange >= least && strange <= LEARN_LIMIT,
      `${at}: ${strange}; expected ${least} to ${LEARN_LIMIT}`,
    );
    const after = await others(at);
    for (const { mac, host, age } of before[index]!) {
      const now = after.find((one) => one.mac === mac);
      assertEquals(now?.host, host, `${mac} at ${at}`);
      assert(now!.age >= age, `${mac} at ${at} was forgotten meanwhile`);
    }
  }
  for (const name of NAMES) await goesOn(lab, name);
});

/** How many addresses of the flood a host has learned. */
async function strangersAt(lab: Lab, host: string): Promise<number> {
  return (await ofctl(lab, host, "dump-flows", "table=1")).match(/dl_dst=02:77:/g)?.length ?? 0;
}

/** Shows ever new addresses, no faster than they are let in, until the host's own switch can learn no more, and some beyond. */
async function fillTables(vm: Place, target: string, learnt: () => Promise<number>): Promise<void> {
  let next = MANY;
  const show = () =>
    flood(vm, Array.from({ length: STRANGER_RATE / 2 }, () => floodFrame(target, source(next++))));
  await waitFor("a full table", async () => {
    await show();
    const now = await learnt();
    if (now >= LEARN_LIMIT - OWN) return true;
    throw new Error(`${now} addresses`);
  }, { deadlineMs: 60_000, intervalMs: 500 });
  await show();
}

/** How often the tunnels of a host have come up or gone down, by port. */
async function flapsOf(lab: Lab, host: string): Promise<string[]> {
  const columns = ["--format=csv", "--no-headings", "--columns=name,bfd_status", "find", "Interface"];
  const lines = (await vsctl(lab, host, ...columns, "bfd:enable=true")).split("\n").filter(Boolean);
  return lines.map((line) => `${line.split(",")[0]} ${/flap_count="*(\d+)/.exec(line)?.[1]}`).sort();
}

/** Frames a second that a host may send to all or to nobody knows whom, unless told. */
const FLOOD_LIMIT = 2000;
const STRANGE = "02:00:00:00:00:99";

for (
  const { what, to, limit } of [
    { what: "broadcasts", to: BROADCAST, limit: FLOOD_LIMIT },
    { what: "frames to an address that nobody has", to: STRANGE, limit: FLOOD_LIMIT },
    { what: "broadcasts, to a tenth of the usual", to: BROADCAST, limit: FLOOD_LIMIT / 10 },
  ]
) {
  guestProof(`storm control: ${what} of one host are limited at the source`, async (lab) => {
    if (limit !== FLOOD_LIMIT) await push(lab, { mobula_flood_limit: limit });
    try {
      await assertLimited(lab, to, limit);
    } finally {
      if (limit !== FLOOD_LIMIT) await push(lab, {});
    }
  });
}

async function assertLimited(lab: Lab, to: string, limit: number): Promise<void> {
  const [vm, other] = [await startVm(lab, "beta"), await startVm(lab, "gamma", NEIGHBOUR)];
  const seen = await capture(lab, other, "eth0", `ether src ${VM.mac} and ether proto ${EXPERIMENTAL}`);
  const sent = 30_000;
  const seconds = await flood(vm, Array.from({ length: sent }, () => floodFrame(to, VM.mac)));
  // What the storm's own VM asks for comes behind the storm, in the same queues.
  await waitFor("the end of the storm", () => answersOnce(vm, GATEWAYS[2]!));
  const got = (await seen.stop()).length;
  const rate = Math.round(got / seconds);
  console.log(`  ${sent} in ${seconds.toFixed(2)} s: ${got} came through, ${rate} a second`);
  // A burst of a second's worth, and then the rate.
  assert(got > 100 && got <= limit * (seconds + 2), `${got} in ${seconds} s`);
  assert(got < sent, "the storm must have been more than is let through");
}

/** IEEE 802.1D: a configuration BPDU of a bridge that wants to be root, as an 802.3 frame (length instead of a type). */
function bpdu(): Frame {
  const root = [0, 0, 2, 0, 0, 0, 0, 1];
  const payload = [
    0x42,
    0x42,
    3,
    0,
    0,
    0,
    0,
    0,
    ...root,
    0,
    0,
    0,
    0,
    ...root,
    0x80,
    1,
    0,
    0,
    20,
    0,
    2,
    0,
    15,
    0,
  ];
  return {
    to: "01:80:c2:00:00:00",
    from: VM.mac,
    type: payload.length,
    payload: new Uint8Array([...payload, ...Array(8).fill(0)]),
  };
}

guestProof("BPDUs of a VM: the tree does not hear them, and no other VM either", async (lab) => {
  const [vm, other] = [await startVm(lab, "beta"), await startVm(lab, "gamma", NEIGHBOUR)];
  const tree = () => Promise.all(NAMES.map((name) => rolesOf(lab, name)));
  const before = { root: await rootHost(lab, NAMES), tree: await tree() };
  const seen = await capture(
    lab,
    other,
    "eth0",
    `ether src ${VM.mac} and (ether proto ${EXPERIMENTAL} or ether dst 01:80:c2:00:00:00)`,
  );
  for (let round = 0; round < 5; round++) await sendFrame(vm, "eth0", bpdu());
  await sendFrame(vm, "eth0", frame(VM.mac, BROADCAST, 255));
  await waitFor("the last frame", () => numbers(seen.frames()).includes(255));
  assertEquals((await seen.stop()).length, 1, "only the last frame has come through");
  assertEquals({ root: await rootHost(lab, NAMES), tree: await tree() }, before);
});

async function rolesOf(lab: Lab, host: string): Promise<string[]> {
  const text = await appctl(lab, host, "rstp/show", "ovsbr-mobula");
  return [...text.matchAll(/^\s*(mo-t-\d+)\s+(\w+)\s+(\w+)/gm)].map(([, ...words]) => words.join(" "))
    .sort();
}

guestProof("a user's own loop between two hosts' access links: hosts and gateways go on", async (lab) => {
  const vm = await startVm(lab, "alpha");
  await startVm(lab, "beta", NEIGHBOUR);
  const unplug = await plugLoop(lab, "alpha", "beta");
  const around = await capture(lab, lab.network("alpha"), "user-loop0", `ether proto ${EXPERIMENTAL}`);
  const sent = 3;
  try {
    // Something to go around.
    for (let round = 0; round < sent; round++) await sendFrame(vm, "eth0", frame(VM.mac, BROADCAST, 1));
    for (let round = 0; round < 5; round++) {
      for (const name of NAMES) await goesOn(lab, name);
    }
    const roots = await rootHost(lab, NAMES);
    assertEquals(roots, "alpha", "the tree is what it was");
    const passed = (await around.stop()).length;
    assert(passed > 10 * sent, `${passed} frames have passed the loop; expected it to be one`);
  } finally {
    await unplug();
  }
  await waitForAnswers("the VM after the loop", () => vm, GATEWAYS, 30_000);
});

/** A wire between the bridges of the guests of two hosts; gives what takes it away again. */
async function plugLoop(lab: Lab, one: string, other: string): Promise<() => Promise<void>> {
  const init = (name: string) => /\/proc\/(\d+)\//.exec(lab.network(name).enter([])[1] ?? "")?.[1] ?? "";
  const pair = ["type", "veth", "peer", "name", "user-loop1", "netns", init(other)];
  await must(lab.world.enter(["ip", "link", "add", "user-loop0", "netns", init(one), ...pair]));
  for (const [name, link] of [[one, "user-loop0"], [other, "user-loop1"]] as const) {
    await ask(lab, name, ["ip", "link", "set", link, "master", "br-guests", "up"]);
  }
  return async () => {
    await lab.exec(one, ["ip", "link", "del", "user-loop0"]);
  };
}
