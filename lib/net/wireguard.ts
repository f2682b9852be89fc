/**
 * WireGuard: wanted peers against live ones → steps. Only what differs is touched, so other peers lose nothing. Pure.
 */
import { provenKey } from "../known_keys.ts";
import { oncePer } from "../remember.ts";
import type { Step } from "../step.ts";
import type { Wireguard, WireguardPeer } from "./network.ts";
import { LINK } from "./network.ts";
import type { Seen } from "./seen.ts";

/** Where private keys lie; newer AppArmor profiles let `wg` read nothing else. */
export const KEY_DIR = "/etc/wireguard/mobula";

/** File of the private key that belongs to a public key. The name is safe: base64 with `/` and `+` replaced. */
export function keyFile(publicKey: string): string {
  return `${KEY_DIR}/${publicKey.replaceAll("/", "_").replaceAll("+", "-").replaceAll("=", "")}.key`;
}

/** The steps that make the live device as wanted. */
export function wireguardSteps(wanted: Wireguard, seen: Seen["wireguard"]): Step[] {
  const peers = wanted.peers.flatMap((peer) => placeAllowedIps(peer, seen));
  const wantedKeys = new Set(peers.map(({ publicKey }) => publicKey));
  const gone = [...(seen?.peers.keys() ?? [])].filter((key) => !wantedKeys.has(key));
  const changed = peers.filter((peer) => !isLive(peer, seen));
  return [
    ...deviceSteps(wanted, seen),
    ...(gone.length === 0 ? [] : [{
      title: `remove ${gone.length} WireGuard peer${gone.length === 1 ? "" : "s"}`,
      argv: ["wg", "set", LINK.wireguard, ...gone.flatMap((key) => ["peer", key, "remove"])],
      namespace: "mobula" as const,
      effect: "these peers, for good",
    }]),
    ...(changed.length === 0 ? [] : [{
      title: `set WireGuard peer${changed.length === 1 ? "" : "s"} ${
        changed.map(({ label }) => label).join(", ")
      }`,
      argv: ["wg", "addconf", LINK.wireguard, "/dev/stdin"],
      stdin: renderPeers(changed),
      namespace: "mobula" as const,
      effect: "these peers, one handshake",
    }]),
  ];
}

/** A host that may be using several keys is a peer under each; its addresses belong to the one that it proves to be using. */
function placeAllowedIps(wanted: WireguardPeer, seen: Seen["wireguard"]): WireguardPeer[] {
  if (wanted.keys === undefined) return [wanted];
  const { keys, ...peer } = wanted;
  const handshakes = new Map(keys.map((key) => [key, seen?.peers.get(key)?.latestHandshake ?? 0]));
  const isHolder = (key: string) => (seen?.peers.get(key)?.allowedIps.length ?? 0) > 0;
  const holder = provenKey(keys, handshakes, isHolder) ?? keys.find(isHolder) ?? peer.publicKey;
  return keys.map((publicKey) => ({
    ...peer,
    publicKey,
    allowedIps: publicKey === holder ? peer.allowedIps : [],
  }));
}

function deviceSteps(wanted: Wireguard, seen: Seen["wireguard"]): Step[] {
  const settings = [
    ...(seen?.listenPort === wanted.listenPort ? [] : ["listen-port", String(wanted.listenPort)]),
    ...(seen?.publicKey === wanted.publicKey ? [] : ["private-key", keyFile(wanted.publicKey)]),
  ];
  if (settings.length === 0) return [];
  return [{
    title: `set WireGuard ${settings.filter((_, index) => index % 2 === 0).join(" and ")}`,
    argv: ["wg", "set", LINK.wireguard, ...settings],
    namespace: "mobula",
    effect: "all peers, one handshake",
  }];
}

function isLive(peer: WireguardPeer, seen: Seen["wireguard"]): boolean {
  const live = seen?.peers.get(peer.publicKey);
  if (!live) return false;
  const same = [...live.allowedIps].sort().join() === [...peer.allowedIps].sort().join();
  return same && (peer.endpoint === undefined || peer.endpoint === live.endpoint);
}

/** The peers in `wg`'s configuration format (wg(8), CONFIGURATION FILE FORMAT). */
function renderPeers(peers: readonly WireguardPeer[]): string {
  return peers.map(renderPeer).join("\n");
}

/** One text for all hosts that have the peer. */
const renderPeer = oncePer(({ publicKey, endpoint, allowedIps }: WireguardPeer): string =>
  [
    "[Peer]",
    `PublicKey = ${publicKey}`,
    // Without the line a peer is left with none, which is not a value.
    ...(allowedIps.length > 0 ? [`AllowedIPs = ${allowedIps.join(", ")}`] : []),
    ...(endpoint ? [`Endpoint = ${endpoint}`] : []),
    "",
  ].join("\n")
);
