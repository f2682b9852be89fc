/**
 * New keys for a host, struck at each call: at no time is it without the key that a peer uses, and the next push completes it. Actions of
 * lib/host on a stand-in of a host.
 */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { activate } from "../../lib/host/activate.ts";
import { confirm } from "../../lib/host/confirm.ts";
import { earlier } from "../../lib/host/earlier.ts";
import { KEYS_FILE } from "../../lib/host/paths.ts";
import { prepare } from "../../lib/host/prepare.ts";
import { announce, forget, takeKey } from "../../lib/host/rotate.ts";
import { stage } from "../../lib/host/stage.ts";
import { hostConfigFor } from "../../lib/host_config.ts";
import { keyFile } from "../../lib/net/wireguard.ts";
import { FOLLOW_UNIT } from "../../lib/render/units.ts";
import { type Bench, bench, everyCall, isChange, OVER, strikeAt } from "../fake/bench.ts";
import { ADDRESS, SELF } from "../fake/deployer.ts";
import { type Fate, stateOf } from "../fake_host.ts";
import { fleetOf, keyOf } from "../net/fixtures.ts";

/** The keys that the peer, host 3, uses before and after. */
const PEER = { id: 3, address: "192.0.0.3", old: keyOf(3), next: keyOf(33) };

/** A whole replacement on this host, as the phases of a push order it; gives its new key. */
async function replaceKeys({ deployer }: Bench): Promise<string> {
  const connection = deployer.connect();
  const request = { keys: "rotate", reinstall: false, sshPort: 22 } as const;
  const prepared = await deployer.call("prepare", (context) => prepare(request, context), connection);
  const { publicKey, liveKey } = prepared;
  const own = [...liveKey === undefined ? [] : [liveKey], publicKey];
  const hosts = { [SELF]: own, [PEER.id]: [PEER.old, PEER.next] };
  await deployer.call("announce", (context) => announce({ hosts }, context), connection);
  const pubkeys = new Map([[ADDRESS, { publicKey }], [PEER.address, { publicKey: PEER.next }]]);
  const config = hostConfigFor(fleetOf([SELF, PEER.id]), SELF, pubkeys, 1500);
  const { generation } = await deployer.call("stage", (context) => stage({ config }, context), connection);
  await deployer.call("activate", (context) => activate({ generation }, context), connection);
  await deployer.call("take-key", (context) => takeKey({}, context), connection);
  await deployer.call("confirm", (context) => confirm({ generation }, context), deployer.connect());
  await deployer.call("forget", (context) => forget({ ids: [SELF, PEER.id] }, context), deployer.connect());
  return publicKey;
}

function liveKeyOf({ host }: Bench): string {
  return host.network.wireguard!.publicKey;
}

/** The host uses this key, knows the peer by its new one alone, and follows nobody. */
async function expectSettled(bench: Bench, key: string, told?: string): Promise<void> {
  const { host } = bench;
  assertEquals([liveKeyOf(bench), [...host.network.wireguard!.peers.keys()]], [key, [PEER.next]], told);
  assertEquals([host.files.has(KEYS_FILE), host.network.units.has(FOLLOW_UNIT)], [false, false], told);
  assertEquals(await host.standing(), `generation ${stateOf(host)?.generation}`, told);
}

Deno.test("new keys: announced, taken, confirmed and forgotten", async () => {
  await bench({}, async (bench) => {
    const before = liveKeyOf(bench);
    const key = await replaceKeys(bench);
    assertNotEquals(key, before);
    await expectSettled(bench, key);
  });
});

Deno.test("take-key: a peer that does not answer is named, and its old key stays until it is forgotten", async () => {
  await bench({}, async (bench) => {
    bench.host.network.silent.add(PEER.old);
    const { deployer } = bench;
    const hosts = { [PEER.id]: [PEER.old, PEER.next], [SELF]: [liveKeyOf(bench)] };
    const connection = deployer.connect();
    await deployer.call("announce", (context) => announce({ hosts }, context), connection);
    assertEquals([...bench.host.network.wireguard!.peers.keys()].sort(), [PEER.old, PEER.next].sort());
    await deployer.staged({ keys: "rotate" }, connection);
    const generation = 2;
    await deployer.call("activate", (context) => activate({ generation }, context), connection);
    const { taken, unanswered } = await deployer.call(
      "take-key",
      (context) => takeKey({}, context),
      connection,
    );
    assertEquals([taken, unanswered], [true, ["host-3"]]);
    assert(bench.host.network.wireguard!.peers.has(PEER.old));
  });
});

/** A generation, of which no more is left to do than what the announced keys need: the host can be reached. */
const ONLY_KEYS =
  /^(generation \d+|half: ((start mobula-follow\.service|(set|remove \d+) WireGuard peer[^;]*)(; )?)+)$/;

async function replaceStruck(number: number, fate: Fate): Promise<string | undefined> {
  let struck: string | undefined;
  await bench({}, async (bench) => {
    const { host, time } = bench;
    const strike = strikeAt(host, { number, fate, counts: fate === "fail" ? () => true : isChange });
    const struckFate = host.fate!;
    let forgets = false;
    host.fate = (call) => {
      forgets ||= call.process === "forget";
      return struckFate(call);
    };
    await replaceKeys(bench).catch(() => {});
    struck = strike.what;
    await time.pause(OVER * 1000);
    await host.settled();
    delete host.fate;
    assertMatch(await host.standing(), ONLY_KEYS, struck);
    assert(host.files.has(keyFile(liveKeyOf(bench))), `${struck}: the key in use must stay on the disk`);
    // Until it is settled who uses which key, the peer may use its old one.
    if (!forgets) assert(host.network.wireguard!.peers.has(PEER.old), `${struck}: the peer is cut off`);
    await expectSettled(bench, await replaceKeys(bench), `${struck}, repeated`);
  });
  return struck;
}

for (const fate of ["fail", "kill", "power cut"] as const) {
  Deno.test(`new keys: ${fate} at each call, no peer is cut off, and the next push completes it`, async () => {
    const calls = await everyCall((number) => replaceStruck(number, fate));
    assert(calls > 20, `${calls} calls`);
  });
}

Deno.test("earlier: names the generation before and the key that the network still uses", async () => {
  await bench({}, async (bench) => {
    const before = liveKeyOf(bench);
    const key = await replaceKeys(bench);
    const { deployer } = bench;
    const found = await deployer.call("earlier", (context) => earlier({}, context), deployer.connect());
    assertEquals(found, { generation: 1, publicKey: before, liveKey: key });
  });
});
