/**
 * `wireguard_pubkeys.yml`: the hosts' public keys by external address, with the time each was first seen. Pure.
 */
import { parseIpv4 } from "../address.ts";
import { externalAddress, publicKey } from "./kinds.ts";
import { describe, isMap, Problems } from "./problems.ts";
import { readValue } from "./settings.ts";
import { parseYaml } from "./yaml.ts";

/** One line of the file. */
export interface HostPublicKey {
  /** Base64. */
  readonly publicKey: string;
  /** ISO 8601, UTC; missing when the file does not say. */
  readonly since?: string;
}

const HEADER = "# WireGuard public keys of the hosts, by external address. Written by mobula at each push.";
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

/** Parses the file; the comments `# since <time>` may be missing. */
export function parsePubkeys(file: string, text: string): Map<string, HostPublicKey> {
  const problems = new Problems();
  const report = problems.in(file);
  const root = parseYaml(text, report) ?? {};
  if (!isMap(root)) report([], `found ${describe(root)}; expected a map of public keys by external address`);
  const times = sinceComments(text);
  const keys = new Map<string, HostPublicKey>();
  for (const [key, value] of isMap(root) ? Object.entries(root) : []) {
    const address = readValue(key, [key], externalAddress, report);
    const checked = readValue(value, [key], publicKey, report);
    if (address === undefined || checked === undefined) continue;
    const since = times.get(address);
    keys.set(address, { publicKey: checked, ...(since === undefined ? {} : { since }) });
  }
  problems.throwIfAny();
  return keys;
}

/** The file's text, by ascending address: `{"198.51.100.2" → key}` becomes `198.51.100.2: "key" # since …`. */
export function renderPubkeys(entries: Iterable<readonly [string, HostPublicKey]>): string {
  const lines = [...entries]
    .sort(([a], [b]) => (parseIpv4(a) ?? 0) - (parseIpv4(b) ?? 0))
    .map(([address, key]) => renderLine(address, key));
  return [HEADER, ...(lines.length === 0 ? ["{}"] : lines), ""].join("\n");
}

function renderLine(address: string, key: HostPublicKey): string {
  if (externalAddress.parse(address) === undefined || publicKey.parse(key.publicKey) === undefined) {
    throw new RangeError(`Cannot write public key: ${describe(address)}, ${describe(key.publicKey)}`);
  }
  const since = isTime(key.since) ? ` # since ${key.since}` : "";
  return `${address}: "${key.publicKey}"${since}`;
}

function sinceComments(text: string): Map<string, string> {
  const lines = text.matchAll(/^\s*["']?([\d.]+)["']?\s*:.*#\s*since\s+(\S+)\s*$/gm);
  return new Map([...lines].flatMap(([, address = "", since]) => isTime(since) ? [[address, since]] : []));
}

function isTime(text: string | undefined): text is string {
  return text !== undefined && TIME.test(text) && !Number.isNaN(Date.parse(text));
}
