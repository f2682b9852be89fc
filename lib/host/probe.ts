/**
 * Reaches addresses, exchanges bytes and resolves names from this host, many at once, and tells what only the host can see. Changes
 * nothing.
 */
import { hostAddresses, innerMtus, inNetwork, type Mtus, NETWORKS } from "../address.ts";
import { HostError } from "../errors.ts";
import type { Capabilities } from "../facts.ts";
import { liveStateScript, parseLiveState } from "../net/live_state.ts";
import type { Runner } from "../step.ts";
import { type Context, readConfig, readJson } from "./context.ts";
import type { HostConfig } from "../fleet.ts";
import { pause } from "../pause.ts";
import { PATHS_DIR } from "../render/switch_programs.ts";
import { CAPABILITIES_FILE, CURRENT_LINK, EXECUTABLE } from "./paths.ts";
import {
  largestPassing,
  oversizeOutcome,
  type Ping,
  pingAll,
  type Pinged,
  type PingOptions,
  roundTripOf,
} from "./ping.ts";
import type {
  DialOutcome,
  DialTarget,
  NameTarget,
  PingTarget,
  ProbeRequest,
  ProbeResult,
} from "./protocol.ts";
import { dial } from "./transfer.ts";

/** Processes, queries and connections under way at once. A refused packet costs ping an idle second. */
const LANES = { pings: 16, oversize: 64, measured: 8, names: 64, dials: 8 } as const;
/** Seconds that one answer may take, unless the request says otherwise. */
const PATIENCE = 2;
/** Seconds; for packets of which many are sent and most are lost. */
const SHORT_PATIENCE = 1;
/** Connections of a hundred that may fail by chance; where more do, it would only take longer to ask for them again. */
const BY_CHANCE = 25;

/** Answers in the order of the request. */
export async function probe(request: ProbeRequest, { runner }: Context): Promise<ProbeResult> {
  const started = Date.now();
  const config = await readConfig(runner, CURRENT_LINK);
  const capabilities = await readJson<Capabilities>(runner, CAPABILITIES_FILE);
  if (!config || !capabilities) {
    throw new HostError("Cannot probe: mobula is not installed here; expected a push before");
  }
  const mtus = innerMtus(config.underlayMtu);
  const { pings: targets, oversize = [], world: wayOut = false } = request;
  const inside = {
    ...request,
    server: hostAddresses(config.self).gateway,
    hasAccess: config.access === "auto",
  };
  if (request.settle) await settlePaths(runner, config);
  const [pings, refused, passes] = await Promise.all([
    pingTargets(runner, targets, mtus, {
      ...FULL,
      patience: request.timeout ?? PATIENCE,
      // Who sets a time asks again anyway.
      repeat: request.timeout !== undefined,
    }),
    pingTargets(runner, oversize, mtus, { extra: 1, lanes: LANES.oversize, patience: SHORT_PATIENCE }),
    request.measure ? measureTargets(runner, targets, mtus) : undefined,
  ]);
  // Not at the same time: a busy host that starts so many processes would serve its peers too late, and the network be blamed.
  const answers = await askNamesAndListeners(runner, { ...inside, dials: shortenHopeless(request, pings) });
  // After the pings, so that a handshake that they started is seen.
  const live = await lookAtState(runner, wayOut);
  const { names, world } = answers;
  return {
    pings: pings.map(roundTripOf),
    names,
    oversize: refused.map(oversizeOutcome),
    dials: answers.dials,
    ...(wayOut ? { world: [...live.wayOut, ...world] } : {}),
    ...(passes ? { passes } : {}),
    ...(live.wireguard ? { wireguard: live.wireguard } : {}),
    ...(live.tree ? { tree: live.tree } : {}),
    ...(live.egress ? { egress: live.egress } : {}),
    paths: live.paths,
    mtus,
    capabilities,
    started,
    clock: Date.now(),
  };
}

/** Milliseconds, and milliseconds between two looks; with more peers than `few` there is no wait. */
const SETTLING = { deadline: 1000, interval: 50, few: 32 } as const;

/**
 * Waits for direct paths that have not been up since the switch was started (see `run-paths`): whoever asks for a neighbour's address
 * before, asks again a whole second later.
 */
async function settlePaths(
  runner: Runner,
  { self, hosts, switching }: Pick<HostConfig, "self" | "hosts" | "switching">,
): Promise<void> {
  const peers = hosts.filter(({ id }) => id !== self);
  if (switching.mode !== "direct" || peers.length > SETTLING.few) return;
  const files = peers.map(({ id }) => `${PATHS_DIR}/${id}.lived`);
  const deadline = Date.now() + SETTLING.deadline;
  while (Date.now() < deadline) {
    const seen = await runner.readFiles(files);
    if (files.every((path) => seen.get(path) !== undefined)) return;
    await pause(SETTLING.interval);
  }
}

/** Where not even a ping came back, a connection is not waited for as long. */
function shortenHopeless({ pings, dials = [] }: ProbeRequest, answers: readonly Pinged[]): DialTarget[] {
  const silent = new Set(
    pings.filter((_, index) => answers[index]!.code !== 0).map(({ address }) => address),
  );
  const patience = SHORT_PATIENCE * 1000;
  return dials.map((target) => silent.has(target.address) ? { ...target, patience } : target);
}

interface Packets extends Omit<PingOptions, "fromGateway"> {
  /** Bytes more than the network takes. */
  readonly extra: number;
}

const FULL: Packets = { extra: 0, lanes: LANES.pings, patience: PATIENCE };

/** Asks from the host and from the gateway at the same time. */
async function pingTargets(
  runner: Runner,
  targets: readonly PingTarget[],
  mtus: Mtus,
  { extra, ...options }: Packets,
) {
  const pinged = { host: [] as Ping[], gateway: [] as Ping[] };
  for (const { address, from } of targets) {
    pinged[from].push({ address, bytes: fullSize(address, mtus) + extra });
  }
  const [host, gateway] = await Promise.all([
    pingAll(runner, pinged.host, options),
    pingAll(runner, pinged.gateway, { ...options, fromGateway: true }),
  ]);
  const next = { host: host.values(), gateway: gateway.values() };
  return targets.map(({ from }) => next[from].next().value!);
}

function fullSize(address: string, { wireguard, access }: Mtus): number {
  return inNetwork(address, NETWORKS.wire) ? wireguard : access;
}

async function measureTargets(
  runner: Runner,
  targets: readonly PingTarget[],
  mtus: Mtus,
): Promise<number[]> {
  return await inParallel(targets, LANES.measured, async ({ address, from }) => {
    const ask = async (sizes: readonly number[]) => {
      const pings = sizes.map((bytes) => ({ address, bytes }));
      const options = { lanes: pings.length, patience: SHORT_PATIENCE, fromGateway: from === "gateway" };
      return (await pingAll(runner, pings, options)).map(({ code }) => code === 0);
    };
    return await largestPassing(ask, fullSize(address, mtus));
  });
}

async function lookAtState(runner: Runner, wayOut: boolean) {
  const { stdout } = await runner.run({
    title: "look at WireGuard and the switch",
    argv: ["sh", "-s"],
    stdin: liveStateScript({ wayOut }),
    namespace: "mobula",
  });
  return parseLiveState(stdout, { wayOut });
}

/** What is asked by sockets of our own. */
export interface InsideRequest {
  readonly names: readonly NameTarget[];
  readonly dials?: readonly DialTarget[];
  readonly world?: boolean;
  /** The gateway's name server. */
  readonly server: string;
  readonly timeout?: number;
}

interface InsideResult {
  readonly names: readonly (string | null)[];
  readonly dials: readonly DialOutcome[];
  readonly world: readonly string[];
}

/** A blank veth_fac0 has no way to the gateway: a child in the gateway's namespace asks what concerns the access network. */
async function askNamesAndListeners(
  runner: Runner,
  request: InsideRequest & { readonly hasAccess: boolean },
): Promise<InsideResult> {
  const dials = request.dials ?? [];
  if (request.hasAccess) return await askInside({ ...request, dials });
  const own = dials.filter(({ from }) => from === "host");
  const [here, there] = await Promise.all([
    askInside({ names: [], dials: own, server: request.server }),
    askInGateway(runner, { ...request, dials: dials.filter(({ from }) => from === "gateway") }),
  ]);
  const next = { host: here.dials.values(), gateway: there.dials.values() };
  return { ...there, dials: dials.map(({ from }) => next[from].next().value!) };
}

async function askInGateway(runner: Runner, request: InsideRequest): Promise<InsideResult> {
  const { names, dials = [], world = false, server, timeout } = request;
  if (names.length === 0 && dials.length === 0 && !world) return { names: [], dials: [], world: [] };
  const { stdout } = await runner.run({
    title: "ask from the gateway",
    argv: [EXECUTABLE, "host", "inside"],
    namespace: "mobula",
    stdin: JSON.stringify({ names, dials, world, server, timeout }),
  });
  const last = stdout.trimEnd().split("\n").at(-1) ?? "";
  return (JSON.parse(last) as { result: InsideResult }).result;
}

/** Resolves names, dials listeners and asks the world's name servers, from the namespace that this process is in. */
export async function askInside(request: InsideRequest): Promise<InsideResult> {
  const { names, dials = [], world, server, timeout = PATIENCE } = request;
  const { queryAddress } = await import("./dns.ts");
  const [resolved, dialled, wrong] = await Promise.all([
    inParallel(names, LANES.names, ({ name }) => queryAddress(name, server, timeout * 1000)),
    dialAll(dials),
    world ? askWorld(server) : [],
  ]);
  return { names: resolved, dials: dialled, world: wrong };
}

/** Who failed is asked once more when all are done: between busy hosts all packets of one connection may be late. */
async function dialAll(targets: readonly DialTarget[]): Promise<DialOutcome[]> {
  const first = await inParallel(targets, LANES.dials, (target) => dial(target));
  const failed = first.filter((outcome) => "error" in outcome).length;
  if (failed > targets.length * BY_CHANCE / 100) return first;
  return await inParallel(
    targets.map((target, index) => ({ target, outcome: first[index]! })),
    LANES.dials,
    async ({ target, outcome }) => "error" in outcome ? await dial(target) : outcome,
  );
}

/**
 * The gateway's name server has to ask the world for a name that it cannot know. Nobody has one below "example" (RFC 2606), so that
 * the right answer is that there is none.
 */
async function askWorld(server: string): Promise<string[]> {
  const name = `mobula-${crypto.randomUUID().slice(0, 8)}.example`;
  const { query } = await import("./dns.ts");
  const answer = await query(name, server, 2 * PATIENCE * 1000);
  if (answer && ["NOERROR", "NXDOMAIN"].includes(answer.status)) return [];
  return [`the world's name servers give no answer${answer ? ` but ${answer.status}` : ""}`];
}

async function inParallel<T, R>(
  items: readonly T[],
  limit: number,
  action: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = new Array(items.length);
  let next = 0;
  const work = async () => {
    for (let index = next++; index < items.length; index = next++) {
      results[index] = await action(items[index] as T);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, work));
  return results;
}
