/**
 * Replaces the host's keys without a gap: every host first knows the new key of every other, then one host after the other takes its
 * own, and when all have done so the old ones are forgotten. Changes the WireGuard device and files of ours.
 */
import { HostError } from "../errors.ts";
import { announceKeys, forgetKeys } from "../known_keys.ts";
import { LINK } from "../net/network.ts";
import { BIN_DIR } from "../net/steps.ts";
import { wantedNetwork } from "../net/wanted.ts";
import { keyFile, wireguardSteps } from "../net/wireguard.ts";
import { FOLLOW_UNIT, renderFollow } from "../render/units.ts";
import type { Runner } from "../step.ts";
import { type Context, readConfig, readInput, readKnownKeys, writeJson } from "./context.ts";
import { callWords, readHandshakes, readHolders } from "./follow.ts";
import { lookAtWireguard } from "./look.ts";
import { CURRENT_LINK, FOLLOWED_FILE, KEYS_FILE } from "./paths.ts";
import type {
  AnnounceRequest,
  AnnounceResult,
  ForgetRequest,
  ForgetResult,
  TakeKeyResult,
} from "./protocol.ts";
import { runStep, runSteps } from "./run_steps.ts";
import { askUapi } from "./uapi.ts";

/** Milliseconds that the unit is given until it follows. */
const FOLLOW_PATIENCE = 30_000;
/** Milliseconds that the peers are given until they have answered the new key. */
const ANSWER_PATIENCE = 3_000;

/** The public key that the live device uses; undefined where there is none. */
export async function liveKey(runner: Runner): Promise<string | undefined> {
  const argv = ["wg", "show", LINK.wireguard, "public-key"];
  const { code, stdout } = await runner.run({ title: "look at the own key", argv, namespace: "mobula" });
  return code === 0 && stdout.trim() !== "(none)" ? stdout.trim() : undefined;
}

/** From now on the host knows these keys of the others, and follows whoever takes another one; its own one stays. */
export async function announce({ hosts }: AnnounceRequest, context: Context): Promise<AnnounceResult> {
  return await context.locks.locked(async () => {
    const { runner } = context;
    const { parseAnnouncement } = await import("../parse_known_keys.ts");
    const announced = parseAnnouncement(hosts);
    const [known, own] = [await readKnownKeys(runner), await liveKey(runner)];
    await writeJson(runner, KEYS_FILE, announceKeys(known, announced, own));
    // A host that is only about to be installed reads the file when it is.
    if (own === undefined || await readConfig(runner, CURRENT_LINK) === undefined) {
      return { following: false };
    }
    await writeFollower(context);
    await settlePeers(context);
    await runStep(runner, { title: `start ${FOLLOW_UNIT}`, argv: [`${BIN_DIR}/start-units`, FOLLOW_UNIT] });
    await awaitFollower(context);
    return { following: true };
  });
}

async function writeFollower({ runner, report }: Context): Promise<void> {
  const files = renderFollow();
  const seen = await runner.readFiles(files.map(({ path }) => path));
  const changed = files.filter(({ path, content }) => seen.get(path) !== content);
  for (const file of changed) await runner.writeFile(file);
  if (changed.length === 0) return;
  await runSteps(runner, [{ title: "reload systemd's units", argv: ["systemctl", "daemon-reload"] }], report);
}

/** The device's peers alone: nothing else of the running network is touched. */
async function settlePeers({ runner, report }: Context): Promise<void> {
  const wanted = wantedNetwork(await readInput(runner)).wireguard;
  await runSteps(runner, wireguardSteps(wanted, await lookAtWireguard(runner)), report);
}

async function awaitFollower({ runner, clock }: Context): Promise<void> {
  const wanted = await runner.readFile(KEYS_FILE);
  const deadline = clock.now() + FOLLOW_PATIENCE;
  while (await runner.readFile(FOLLOWED_FILE) !== wanted) {
    if (clock.now() > deadline) {
      throw new HostError(
        `Cannot announce keys: ${FOLLOW_UNIT} does not follow after ${
          FOLLOW_PATIENCE / 1000
        } s; expected it to. ` +
          `See "journalctl -u ${FOLLOW_UNIT}" on the host`,
      );
    }
    await clock.pause(50);
  }
}

/** Takes the key of the configuration, and waits until every peer has answered it. */
export async function takeKey(_request: unknown, context: Context): Promise<TakeKeyResult> {
  const { runner, report } = context;
  return await context.locks.locked(async () => {
    const [input, known, live] = await Promise.all([
      readInput(runner),
      readKnownKeys(runner),
      liveKey(runner),
    ]);
    const wanted = input.config.hosts.find(({ id }) => id === input.config.self)?.publicKey;
    if (known?.hold !== undefined) {
      const { hold: _, ...released } = known;
      await writeJson(runner, KEYS_FILE, released);
    }
    if (wanted === undefined || wanted === live) return { taken: false, unanswered: [] };
    report("take the new WireGuard key");
    const hostKeys = new Set(Object.values(known?.hosts ?? {}).flat());
    const peers = [...await readHolders(runner, "mobula")].filter((key) => hostKeys.has(key));
    const unanswered = await changeKey(context, wanted, peers);
    const label = (key: string) =>
      input.config.hosts.find(({ id }) => known?.hosts[id]?.includes(key))?.hostname;
    return { taken: true, unanswered: unanswered.map((key) => label(key) ?? key) };
  });
}

/** Everything in one call: what is sent from now on is sent by the new key, and the peers hear of it at once. */
async function changeKey(
  { runner, clock }: Context,
  publicKey: string,
  peers: readonly string[],
): Promise<string[]> {
  const set = (title: string, ...words: string[]) =>
    runStep(runner, { title, argv: ["wg", "set", LINK.wireguard, ...words], namespace: "mobula" });
  const since = Math.floor(clock.now() / 1000);
  await set("take the new key", "private-key", keyFile(publicKey), ...callWords(peers, "on"));
  const deadline = clock.now() + ANSWER_PATIENCE;
  let silent: string[];
  do {
    await clock.pause(20);
    const handshakes = (await askUapi())?.handshakes ?? await readHandshakes(runner, "mobula");
    silent = peers.filter((key) => handshakes.has(key) && handshakes.get(key)! < since);
  } while (silent.length > 0 && clock.now() < deadline);
  const left = await readHandshakes(runner, "mobula");
  await set("end the calls", ...callWords(peers.filter((key) => left.has(key)), "off"));
  return silent;
}

/** These hosts use the key of the configuration for good: their others are forgotten. */
export async function forget({ ids }: ForgetRequest, context: Context): Promise<ForgetResult> {
  return await context.locks.locked(async () => {
    const { runner } = context;
    const known = await readKnownKeys(runner);
    if (known === undefined) return { left: 0 };
    const present = (await readConfig(runner, CURRENT_LINK))?.hosts.map(({ id }) => String(id)) ?? [];
    const gone = Object.keys(known.hosts).filter((id) => !present.includes(id)).map(Number);
    const rest = forgetKeys(known, [...ids, ...gone]);
    if (rest === undefined) await runner.writeFile({ path: KEYS_FILE, content: undefined });
    else await writeJson(runner, KEYS_FILE, rest);
    await settlePeers(context);
    return { left: Object.keys(rest?.hosts ?? {}).length };
  });
}
