/**
 * What WireGuard itself tells of a pair of hosts: its counters, its handshakes, and whether its pings are answered. Pure.
 */
import type { DumpedPeer } from "../../net/seen.ts";
import type { Case } from "./case.ts";

/** Seconds after which a WireGuard session that is in use has been replaced, or is dead. */
const SESSION_AGE = 180;

export function pairs(one: Case): [string, string][] {
  const names = one.hosts.map(({ hostname }) => hostname);
  const all = [...new Set([...names, ...one.targets])];
  return all.flatMap((a, index) => all.slice(index + 1).map((b): [string, string] => [a, b]));
}

/** Neither direction answers, at no size. */
export function isDead(one: Case, a: string, b: string): boolean {
  const both = [one.result(a, b, "intrawire"), one.result(b, a, "intrawire")].filter((result) =>
    result !== undefined
  );
  return both.length > 0 && both.every(({ ok, passes }) => !ok && !(passes !== undefined && passes > 0));
}

/** Whether packets of `from` arrived at `to` while the questions went on; undefined if that cannot be told. */
export function arrives(one: Case, from: string, to: string): boolean | undefined {
  const [sender, receiver] = [moved(one, from, to), moved(one, to, from)];
  if (receiver === undefined || receiver.received < 0) return undefined;
  if (receiver.received > 0) return true;
  return sender !== undefined && sender.sent > 0 ? false : undefined;
}

/** How much `name` exchanged with a peer since the first question. */
function moved(one: Case, name: string, peer: string): { received: number; sent: number } | undefined {
  const [before, now] = [
    peerState(one, name, peer, "wireguardBefore"),
    peerState(one, name, peer, "wireguard"),
  ];
  if (!before || !now) return undefined;
  return { received: now.received - before.received, sent: now.sent - before.sent };
}

function peerState(
  one: Case,
  name: string,
  peer: string,
  when: "wireguard" | "wireguardBefore" = "wireguard",
): DumpedPeer | undefined {
  const address = one.result(name, peer, "intrawire")?.address;
  return one.host(name)?.evidence?.[when]?.peers.find(({ allowedIps }) =>
    allowedIps.includes(`${address}/32`)
  );
}

/** The younger of what both ends say of their last handshake, by the host's own clock. */
export function handshakeBetween(one: Case, a: string, b: string): string | undefined {
  const ages = [[a, b] as const, [b, a] as const].flatMap(([name, peer]) => {
    const state = peerState(one, name, peer);
    const clock = one.host(name)?.evidence?.clock;
    if (!state) return [];
    return [
      state.handshake === 0 ? Infinity : Date.now() / 1000 + (clock?.low ?? 0) / 1000 - state.handshake,
    ];
  });
  const age = Math.min(...ages);
  if (ages.length === 0) return undefined;
  if (age === Infinity) return "there never was a WireGuard handshake between them";
  return age > SESSION_AGE ? `their last WireGuard handshake was ${Math.round(age / 60)} min ago` : undefined;
}
