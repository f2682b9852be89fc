/** What becomes of the peers while keys are being replaced. */
import { assertEquals } from "@std/assert";
import type { KnownKeys } from "../../lib/known_keys.ts";
import type { Seen } from "../../lib/net/seen.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import { keyFile, wireguardSteps } from "../../lib/net/wireguard.ts";
import { fleetOf, inputFor, keyOf, seenOf } from "./fixtures.ts";

const INPUT = inputFor(fleetOf([2, 3]), 2, "kernel");
const PLAIN = wantedNetwork(INPUT).wireguard;
const [OWN, OLD, NEW] = [keyOf(2), keyOf(3), keyOf(33)];
const IPS = ["10.30.0.3/32", "169.254.0.3/32"];
const ENDPOINT = "192.0.0.3:51820";

function wanted(known: Partial<KnownKeys> = {}) {
  return wantedNetwork({ ...INPUT, knownKeys: { schema: 1, hosts: { 3: [OLD, NEW] }, ...known } }).wireguard;
}

type Live = NonNullable<Seen["wireguard"]>;

function live(peers: Live["peers"] extends ReadonlyMap<string, infer P> ? [string, P][] : never): Live {
  return { publicKey: OWN, listenPort: 51820, peers: new Map(peers) };
}

function told(steps: ReturnType<typeof wireguardSteps>): string[] {
  return steps.map(({ argv, stdin }) =>
    `${argv.join(" ")}${stdin ? ` <${stdin.replaceAll("\n", "|")}` : ""}`
  );
}

const PEERS = `<[Peer]|PublicKey = ${NEW}|Endpoint = ${ENDPOINT}|`;

Deno.test("wireguardSteps: an announced key becomes a peer without addresses, the one in use is not touched", () => {
  assertEquals(told(wireguardSteps(wanted(), seenOf(wantedNetwork(INPUT)).wireguard)), [
    `wg addconf mo-wg-gw /dev/stdin ${PEERS}`,
  ]);
});

Deno.test("wireguardSteps: nothing is to be done, whichever key proves to be used and has the addresses", () => {
  const endpoint = ENDPOINT;
  for (
    const [old, fresh] of [[[5, IPS], [0, []]], [[5, []], [5, IPS]], [[5, IPS], [5, []]], [[9, IPS], [
      5,
      [],
    ]]] as const
  ) {
    const seen = live([
      [OLD, { endpoint, allowedIps: old[1], ...(old[0] ? { latestHandshake: old[0] } : {}) }],
      [NEW, { endpoint, allowedIps: fresh[1], ...(fresh[0] ? { latestHandshake: fresh[0] } : {}) }],
    ]);
    assertEquals(wireguardSteps(wanted(), seen), []);
  }
});

Deno.test("wireguardSteps: the addresses go to the key with the later handshake", () => {
  const seen = live([
    [OLD, { endpoint: ENDPOINT, allowedIps: IPS, latestHandshake: 5 }],
    [NEW, { endpoint: ENDPOINT, allowedIps: [], latestHandshake: 6 }],
  ]);
  const addresses = `AllowedIPs = ${IPS.join(", ")}|`;
  assertEquals(told(wireguardSteps(wanted(), seen)), [
    `wg addconf mo-wg-gw /dev/stdin <[Peer]|PublicKey = ${OLD}|Endpoint = ${ENDPOINT}||` +
    `[Peer]|PublicKey = ${NEW}|${addresses}Endpoint = ${ENDPOINT}|`,
  ]);
});

Deno.test("wireguardSteps: the own key is held until it is released", () => {
  const seen = seenOf(wantedNetwork(INPUT)).wireguard!;
  const held = { ...seen, publicKey: keyOf(22) };
  const device = (known?: Partial<KnownKeys>) =>
    told(wireguardSteps(known ? wanted(known) : PLAIN, held)).filter((line) => line.startsWith("wg set"));
  assertEquals(device({ hold: keyOf(22) }), []);
  assertEquals(device({}), [`wg set mo-wg-gw private-key ${keyFile(OWN)}`]);
});

Deno.test("wireguardSteps: when all is forgotten the old key goes, and nothing else", () => {
  const peers = live([
    [OLD, { endpoint: ENDPOINT, allowedIps: IPS, latestHandshake: 6 }],
    [NEW, { endpoint: ENDPOINT, allowedIps: [], latestHandshake: 5 }],
  ]);
  assertEquals(told(wireguardSteps(PLAIN, peers)), [`wg set mo-wg-gw peer ${NEW} remove`]);
});
