/**
 * Reaches addresses and resolves names from this host, many at once. Changes nothing.
 */
import { hostAddresses } from "../address.ts";
import { HostError } from "../errors.ts";
import type { Capabilities } from "../facts.ts";
import type { Runner } from "../step.ts";
import { type Context, readConfig, readJson } from "./context.ts";
import { queryAddress } from "./dns.ts";
import { CAPABILITIES_FILE, CURRENT_LINK, EXECUTABLE } from "./paths.ts";
import type { NameTarget, PingTarget, ProbeRequest, ProbeResult } from "./protocol.ts";

/** Processes or queries under way at once. */
const PARALLEL = 32;
/** Seconds that one answer may take. */
const PATIENCE = 2;

/** Answers in the order of the request. */
export async function probe(request: ProbeRequest, { runner }: Context): Promise<ProbeResult> {
  const config = await readConfig(runner, CURRENT_LINK);
  const capabilities = await readJson<Capabilities>(runner, CAPABILITIES_FILE);
  if (!config || !capabilities) {
    throw new HostError("Cannot probe: mobula is not installed here; expected a push before");
  }
  const server = hostAddresses(config.self).gateway;
  const [pings, names] = await Promise.all([
    inParallel(request.pings, (target) => ping(runner, target)),
    // A blank veth_fac0 has no way to the gateway's resolver: the gateway asks itself.
    config.access === "auto"
      ? resolveNames(request.names, server)
      : resolveInGateway(runner, request.names, server),
  ]);
  return { pings, names, capabilities, clock: Date.now() };
}

/** The names' first IPv4 addresses as `server` tells them; null where it knows none. */
export function resolveNames(names: readonly NameTarget[], server: string): Promise<(string | null)[]> {
  return inParallel(names, ({ name }) => queryAddress(name, server, PATIENCE * 1000));
}

async function resolveInGateway(runner: Runner, names: readonly NameTarget[], server: string) {
  if (names.length === 0) return [];
  const { stdout } = await runner.run({
    title: "resolve names in the gateway",
    argv: [EXECUTABLE, "host", "resolve"],
    namespace: "mobula",
    stdin: JSON.stringify({ names, server }),
  });
  const last = stdout.trimEnd().split("\n").at(-1) ?? "";
  return (JSON.parse(last) as { result: (string | null)[] }).result;
}

async function ping(runner: Runner, { address, from }: PingTarget): Promise<number | null> {
  const { code, stdout } = await runner.run({
    title: `ping ${address}`,
    argv: ["ping", "-n", "-c", "1", "-W", String(PATIENCE), address],
    ...(from === "gateway" ? { namespace: "mobula" } : {}),
  });
  if (code !== 0) return null;
  return Number(/time=([\d.]+)/.exec(stdout)?.[1] ?? 0);
}

async function inParallel<T, R>(items: readonly T[], action: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(items.length);
  let next = 0;
  const work = async () => {
    for (let index = next++; index < items.length; index = next++) {
      results[index] = await action(items[index] as T);
    }
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, items.length) }, work));
  return results;
}
