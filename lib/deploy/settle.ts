/**
 * What the whole fleet agrees on before any host is told: keys and MTU, for a push and for a plan. Effects: reads hosts, and writes
 * `wireguard_pubkeys.yml` beside `hosts.yml`.
 */
import { readBasis } from "../host/preview.ts";
import { mergePubkeys, writeRunPubkeys } from "./load.ts";
import { agreedMtu, type HostMtus, loweringHosts, refusedMtus } from "./mtu.ts";
import { hashToSend } from "./pack.ts";
import { keepKeysUnlessAll } from "./rotate.ts";
import { type Claim, falseClaims, type OtherKey } from "./claims.ts";
import { alive, dropOut, type HostRun, keysOf, type PushRun } from "./run.ts";

/** All keys and MTUs are known now: what every host is told follows from them. */
export async function settleFleet(push: PushRun): Promise<void> {
  refuseFalseClaims(push, { pinned: true });
  judgeMtus(push, ({ prepared }) => prepared!);
  tellUnknownKeys(push);
  await writeRunPubkeys(push, "live");
  await keepKeysUnlessAll(push);
  push.underlayMtu = agreedMtu(push.fleet, alive(push).map(({ prepared }) => prepared!));
}

/**
 * A host that says that somebody else's key is its own drops out before anybody hears of it. `pinned`: the keys are to be those of
 * hosts.yml; a generation of earlier may have had others.
 */
export function refuseFalseClaims(push: PushRun, { pinned = false } = {}): void {
  const { fleet, pubkeys } = push;
  const runs = alive(push);
  const claims = runs.map(({ host, ...run }): Claim => {
    const keys = keysOf({ host, ...run });
    const recorded = pubkeys.get(host.address)?.publicKey;
    return {
      id: host.id,
      hostname: host.hostname,
      claimed: [keys?.next, keys?.live].filter((key) => key !== undefined),
      ...(pinned && host.pinnedKeys ? { pinned: host.pinnedKeys.publicKey } : {}),
      ...(recorded === undefined ? {} : { recorded }),
    };
  });
  const present = new Set(runs.map(({ host }) => host.id));
  const absent = fleet.hosts.filter(({ id }) => !present.has(id)).flatMap((host): OtherKey[] => {
    const publicKey = host.pinnedKeys?.publicKey ?? pubkeys.get(host.address)?.publicKey;
    return publicKey === undefined ? [] : [{ publicKey, owner: `host ${host.hostname}` }];
  });
  const clients = fleet.extraWires.map(({ address, publicKey }) => ({
    publicKey,
    owner: `client ${address}`,
  }));
  const wrong = falseClaims(claims, [...absent, ...clients]);
  for (const run of runs) {
    const message = wrong.get(run.host.id);
    if (message !== undefined) dropOut(run, push, message);
  }
}

/** A host that has a key for the first time is unknown to all that are no part of this push, unless hosts.yml says it. */
function tellUnknownKeys(push: PushRun): void {
  if (push.hosts.length === push.fleet.hosts.length) return;
  for (const run of alive(push).filter(({ host }) => host.pinnedKeys === undefined)) {
    if (push.pubkeys.get(run.host.address)?.publicKey === run.prepared!.publicKey) continue;
    const note =
      'the hosts that --limit left out do not know its key yet; "mobula push --keep-keys" without --limit tells them';
    run.notes.push(note);
    push.progress.note(note, run.host.hostname);
  }
}

/** One host must not lower the MTU of all others behind the admin's back. */
function judgeMtus(push: PushRun, mtusOf: (run: HostRun) => HostMtus): void {
  const present = () => alive(push).map((run) => ({ run, id: run.host.id, ...mtusOf(run) }));
  const refused = refusedMtus(push.fleet, present());
  for (const { run } of present()) {
    const message = refused.get(run.host.id);
    if (message !== undefined) dropOut(run, push, message);
  }
  for (const { run, underlayMtu } of loweringHosts(push.fleet, present())) {
    const note = `its network card takes ${underlayMtu} bytes, less than others: all hosts follow it`;
    run.notes.push(note);
    push.progress.note(note, run.host.hostname);
  }
}

/** For a plan: what the host has, beside what is live. */
export async function readHostBasis(run: HostRun): Promise<void> {
  run.basis = await readBasis(run.ssh, run.facts?.sshPort ?? 22);
}

/** For a plan: the keys that the hosts have, and a word in place of those that are still to be made. */
export async function settleUnchanged(push: PushRun): Promise<void> {
  const keys = new Map(
    alive(push).map(({ host, basis }) => [host.address, basis!.key ?? `(new key of ${host.hostname})`]),
  );
  push.pubkeys = mergePubkeys(push.fleet, push.pubkeys, keys, new Date());
  judgeMtus(push, ({ basis }) => basis!);
  push.underlayMtu = agreedMtu(push.fleet, alive(push).map(({ basis }) => basis!));
  push.sends = { hash: await hashToSend(push.options.executable) };
}
