/**
 * What the whole fleet agrees on before any host is told: keys and MTU, for a push and for a plan. Effects: reads hosts, and writes
 * `wireguard_pubkeys.yml` beside `hosts.yml`.
 */
import { readBasis } from "../host/preview.ts";
import { mergePubkeys, writeRunPubkeys } from "./load.ts";
import { agreedMtu } from "./mtu.ts";
import { hashToSend } from "./pack.ts";
import { keepKeysUnlessAll } from "./rotate.ts";
import { alive, type HostRun, type PushRun } from "./run.ts";

/** All keys and MTUs are known now: what every host is told follows from them. */
export async function settleFleet(push: PushRun): Promise<void> {
  tellUnknownKeys(push);
  await writeRunPubkeys(push, "live");
  await keepKeysUnlessAll(push);
  push.underlayMtu = agreedMtu(push.fleet, alive(push).map(({ prepared }) => prepared!));
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
  push.underlayMtu = agreedMtu(push.fleet, alive(push).map(({ basis }) => basis!));
  push.sends = { hash: await hashToSend(push.options.executable) };
}
