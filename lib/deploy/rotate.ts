/**
 * The phases by which hosts get new keys without a gap. Effects: on the hosts through their connections, and `wireguard_pubkeys.yml`
 * beside `hosts.yml`.
 */
import { writeRunPubkeys } from "./load.ts";
import type { Phase } from "./phases.ts";
import { alive, type HostRun, keysOf, type PushRun } from "./run.ts";

/** Whether a host is about to use another key than now. */
function changesKey(run: HostRun): boolean {
  const keys = keysOf(run);
  return keys?.live !== undefined && keys.live !== keys.next;
}

/** Every host learns the new keys of all others, and goes on with its own old one. */
export const ANNOUNCE: Phase = {
  name: "announce",
  title: "announce new keys",
  concerns: (_run, push) => alive(push).some(changesKey),
  host: announce,
  after: keepKeysUnlessAll,
};

/** One host after the other: of two that change at once neither could answer the other. */
export const TAKE_KEYS: Phase = {
  name: "take keys",
  title: "take the new key",
  concerns: changesKey,
  oneByOne: true,
  host: takeKey,
};

/** Only when it is settled who uses which key. */
export const FORGET: Phase = {
  name: "forget",
  title: "forget old keys",
  concerns: ({ announced, prepared }) => announced || prepared?.knowsKeys === true,
  before: (push) => writeRunPubkeys(push, "next"),
  host: forget,
};

async function announce(run: HostRun, push: PushRun): Promise<void> {
  const keys = push.hosts.flatMap((host): [string, string[]][] => {
    const { live, next } = keysOf(host) ?? {};
    const known = [live, next].filter((key) => key !== undefined);
    return known.length === 0 ? [] : [[String(host.host.id), known]];
  });
  run.announced = true;
  await run.calls.call("announce", { hosts: Object.fromEntries(keys) }, {
    onStep: (title) => push.progress.step(run.host.hostname, title),
  });
}

/** A host that has not heard of the new keys would be cut off by them: then everybody goes on with the old ones. */
export async function keepKeysUnlessAll(push: PushRun): Promise<void> {
  const missing = push.hosts.filter(({ failure }) => failure !== undefined);
  const changing = alive(push).filter((run) => run.prepared && !run.host.pinnedKeys && changesKey(run));
  if (missing.length === 0 || changing.length === 0) return;
  for (const run of changing) run.prepared = { ...run.prepared!, publicKey: run.prepared!.liveKey! };
  const names = missing.map(({ host }) => host.hostname).join(", ");
  push.progress.note(`the hosts keep their WireGuard keys, because ${names} would not hear of new ones`);
  await writeRunPubkeys(push, "live");
}

async function takeKey(run: HostRun, push: PushRun): Promise<void> {
  const { taken, unanswered } = await run.calls.call("take-key", {}, {
    onStep: (title) => push.progress.step(run.host.hostname, title),
  });
  if (taken && run.activated) {
    run.activated = { ...run.activated, steps: [...run.activated.steps, "take the new WireGuard key"] };
  }
  if (unanswered.length > 0) {
    push.progress.note(`no handshake with ${unanswered.join(", ")} yet`, run.host.hostname);
  }
}

async function forget(run: HostRun, push: PushRun): Promise<void> {
  await run.calls.call("forget", { ids: alive(push).map(({ host }) => host.id) });
}
