/**
 * While keys are being replaced: gives each peer's addresses to the key that it proves to be using, as soon as its handshake is seen.
 * Run by `mobula-follow.service` in the gateway's namespace; changes the WireGuard device, and ends when the old keys are forgotten.
 */
import { type KnownKeys, provenKey } from "../known_keys.ts";
import { LINK } from "../net/network.ts";
import { peerAllowedIps } from "../net/wanted.ts";
import { pause } from "../pause.ts";
import type { Runner, Step } from "../step.ts";
import type { Context } from "./context.ts";
import { FOLLOWED_FILE, KEYS_FILE } from "./paths.ts";
import { askUapi, type Move, tellUapi } from "./uapi.ts";

/** Milliseconds between two looks: while keys are about to be replaced, and when that has been left unfinished. */
const QUICK = 10;
const CALM = 1_000;
/** So long after an announcement the looks are quick, milliseconds. */
const QUICK_FOR = 600_000;
/** Milliseconds between two looks at the own key, and at peers that are not heard. */
const SECOND = 1_000;
/** Milliseconds after which a peer that is not heard is called again. */
const CALL_AGAIN = 10_000;
/** Milliseconds after a change of the own key that it is left to others to be heard. */
const FIRST_CALL = 2_000;
/** Seconds that WireGuard's sessions live (its paper, section 6.1). */
const SESSION = 180;

/** Follows until there is nothing announced any more, or the unit is stopped, as at a shutdown. */
export async function follow(context: Context, signal: AbortSignal): Promise<void> {
  const follower = new Follower(context);
  for (let start = performance.now(); await follower.look(); start = performance.now()) {
    if (signal.aborted) return;
    // A large fleet's handshakes take a while to read: half of the time is enough.
    const rest = Math.max(follower.rest, performance.now() - start);
    await pause(rest);
  }
}

/** What the follower goes by: whose handshake was when, and whose was another one the last time. */
export interface Heard {
  readonly handshakes: ReadonlyMap<string, number>;
  readonly before: ReadonlyMap<string, number>;
}

/** What addresses are to be moved; of two handshakes in the same second the one that is new here was the later one. */
export function movesOf(
  known: KnownKeys,
  { handshakes, before }: Heard,
  holders: ReadonlySet<string>,
): Move[] {
  return Object.entries(known.hosts).flatMap(([id, keys]) => {
    const peers = keys.filter((key) => handshakes.has(key));
    const isNew = (key: string) => before.has(key) && before.get(key) !== handshakes.get(key);
    const proven = provenKey(peers, handshakes, isNew, (key) => holders.has(key));
    if (proven === undefined || holders.has(proven)) return [];
    return [{ publicKey: proven, allowedIps: peerAllowedIps(Number(id)) }];
  });
}

/** The same as words of `wg set`. */
export function moveWords(moves: readonly Move[]): string[] {
  return moves.flatMap((
    { publicKey, allowedIps },
  ) => ["peer", publicKey, "allowed-ips", allowedIps.join(",")]);
}

/** All keys of the hosts from which no handshake was seen since then, in seconds: they may be using any of them. */
export function silentKeys(
  known: KnownKeys,
  handshakes: ReadonlyMap<string, number>,
  since: number,
): string[] {
  return Object.values(known.hosts).flatMap((keys) => {
    const peers = keys.filter((key) => handshakes.has(key));
    return peers.some((key) => handshakes.get(key)! >= Math.max(since, 1)) ? [] : peers;
  });
}

/** `wg set` that makes the device shake hands with peers at once: a keepalive that was off is sent when it is switched on. */
export function callWords(keys: readonly string[], state: "on" | "off"): string[] {
  return keys.flatMap((key) => ["peer", key, "persistent-keepalive", state === "on" ? "1" : "off"]);
}

/** What `wg show` has to say, as key → words. */
export async function readPeers(
  runner: Runner,
  what: "latest-handshakes" | "allowed-ips",
  namespace?: Step["namespace"],
): Promise<ReadonlyMap<string, string>> {
  const argv = ["wg", "show", LINK.wireguard, what];
  const { stdout } = await runner.run({
    title: "look at the peers",
    argv,
    ...(namespace ? { namespace } : {}),
  });
  return new Map(
    stdout.split("\n").filter((line) => line !== "").map((line) => line.split("\t") as [string, string]),
  );
}

/** Key → seconds since 1970, 0 before the first handshake. */
export async function readHandshakes(
  runner: Runner,
  namespace?: Step["namespace"],
): Promise<ReadonlyMap<string, number>> {
  const rows = await readPeers(runner, "latest-handshakes", namespace);
  return new Map([...rows].map(([key, seconds]) => [key, Number(seconds)]));
}

/** The keys that have addresses at all. */
export async function readHolders(
  runner: Runner,
  namespace?: Step["namespace"],
): Promise<ReadonlySet<string>> {
  const rows = await readPeers(runner, "allowed-ips", namespace);
  return new Set([...rows].filter(([, addresses]) => addresses !== "(none)").map(([key]) => key));
}

class Follower {
  readonly #context: Context;
  #text = "";
  #since = 0;
  #ownKey = "";
  /** Seconds since 1970: not later than the own key's last change, and when the own key was looked at. */
  #keySince = 0;
  #keySeen = 0;
  #before: ReadonlyMap<string, number> = new Map();
  #slowLook = -SECOND;
  #lastCall = -CALL_AGAIN;
  /** Whose keepalive is on. */
  #called: readonly string[] = [];

  constructor(context: Context) {
    this.#context = context;
  }

  /** Milliseconds until the next look. */
  get rest(): number {
    return performance.now() - this.#since < QUICK_FOR ? QUICK : CALM;
  }

  /** Looks once and does what is to be done; false when there is nothing to follow any more. */
  async look(): Promise<boolean> {
    const { runner } = this.#context;
    const text = await runner.readFile(KEYS_FILE);
    if (text === undefined) {
      await runner.writeFile({ path: FOLLOWED_FILE, content: undefined });
      return false;
    }
    const { parseKnownKeys } = await import("../parse_known_keys.ts");
    const known = parseKnownKeys(JSON.parse(text));
    const said = await askUapi();
    const handshakes = said?.handshakes ?? await readHandshakes(runner);
    const slow = performance.now() - this.#slowLook > SECOND;
    const changed = [...handshakes].some(([key, at]) => this.#before.get(key) !== at);
    if (slow || text !== this.#text || changed) {
      const holders = said?.holders ?? await readHolders(runner);
      await this.#move(movesOf(known, { handshakes, before: this.#before }, holders));
    }
    this.#before = handshakes;
    if (text !== this.#text) {
      this.#text = text;
      this.#since = performance.now();
      await runner.writeFile({ path: FOLLOWED_FILE, content: text });
    }
    if (slow) await this.#call(known, handshakes);
    return true;
  }

  async #move(moves: readonly Move[]): Promise<void> {
    if (moves.length === 0) return;
    const title = `follow ${moves.length} hosts to another key`;
    if (await tellUapi(moves)) this.#context.report(title);
    else await this.#set(title, moveWords(moves));
  }

  /** Whoever has not been heard, as after a boot, or not by the own new key. One that goes back may do so together with others. */
  async #call(known: KnownKeys, handshakes: ReadonlyMap<string, number>): Promise<void> {
    const now = performance.now();
    this.#slowLook = now;
    if (this.#called.length > 0) {
      await this.#set("end the calls", callWords(this.#called, "off"));
      this.#called = [];
    }
    const ownKey = await this.#readOwnKey();
    const seconds = Math.floor(Date.now() / 1000);
    if (this.#ownKey !== "" && this.#ownKey !== ownKey) {
      this.#keySince = this.#keySeen;
      this.#lastCall = now - CALL_AGAIN + FIRST_CALL;
    }
    this.#ownKey = ownKey;
    this.#keySeen = seconds;
    if (now - this.#lastCall < CALL_AGAIN) return;
    const keys = silentKeys(known, handshakes, Math.max(this.#keySince, seconds - SESSION));
    if (keys.length === 0) return;
    this.#lastCall = now;
    this.#called = keys;
    await this.#set(`call ${keys.length} peers`, callWords(keys, "on"));
  }

  async #readOwnKey(): Promise<string> {
    const argv = ["wg", "show", LINK.wireguard, "public-key"];
    return (await this.#context.runner.run({ title: "look at the own key", argv })).stdout.trim();
  }

  async #set(title: string, words: readonly string[]): Promise<void> {
    this.#context.report(title);
    const { code, stderr } = await this.#context.runner.run({
      title,
      argv: ["wg", "set", LINK.wireguard, ...words],
    });
    if (code !== 0) this.#context.report(`${title}: ${stderr.trim()}`);
  }
}
