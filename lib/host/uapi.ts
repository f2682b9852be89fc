/**
 * What wireguard-go says of its peers on its own socket, and takes there, which costs no process: a look every few milliseconds must
 * not take the processor away from those who carry the packets, and addresses that move shall not wait for a program to be started.
 * The text is pure; `askUapi` and `tellUapi` connect to the socket. The kernel has none.
 */
import { decodeBase64, encodeBase64 } from "@std/encoding/base64";
import { decodeHex, encodeHex } from "@std/encoding/hex";
import { LINK } from "../net/network.ts";

/** Cross-platform interface of WireGuard (its "cross-platform userspace implementation" page). */
const SOCKET = `/var/run/wireguard/${LINK.wireguard}.sock`;
const QUESTION = "get=1\n\n";
/** An answer ends with an empty line. */
const END = "\n\n";
/** Milliseconds. */
const PATIENCE = 1_000;

/** The peers of a device. */
export interface Peers {
  /** Key → seconds since 1970, 0 before the first handshake. */
  readonly handshakes: ReadonlyMap<string, number>;
  /** The keys that have addresses at all. */
  readonly holders: ReadonlySet<string>;
}

/** Addresses, with their prefix lengths, that a peer is to have: all of its own, and taken from whoever had them. */
export interface Move {
  readonly publicKey: string;
  readonly allowedIps: readonly string[];
}

/** All peers; undefined where nothing answers there. */
export async function askUapi(path = SOCKET): Promise<Peers | undefined> {
  const answer = await converse(path, QUESTION);
  return answer === undefined ? undefined : parsePeers(answer);
}

/** Gives peers their addresses; false where that was not taken, undefined where nothing answers there. */
export async function tellUapi(moves: readonly Move[], path = SOCKET): Promise<boolean | undefined> {
  const answer = await converse(path, renderMoves(moves));
  return answer === undefined ? undefined : isTaken(answer);
}

/** One question and its answer; undefined where there is none. */
async function converse(path: string, question: string): Promise<string | undefined> {
  const connection = await Deno.connect({ transport: "unix", path }).catch(() => undefined);
  if (connection === undefined) return undefined;
  const close = () => quietly(() => connection.close());
  const timer = setTimeout(close, PATIENCE);
  try {
    await writeAll(connection, new TextEncoder().encode(question));
    return await readAnswer(connection);
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
    close();
  }
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
}

async function readAnswer(connection: Deno.Conn): Promise<string> {
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(16_384);
  let text = "";
  while (!text.endsWith(END)) {
    const count = await connection.read(bytes);
    if (count === null) break;
    text += decoder.decode(bytes.subarray(0, count), { stream: true });
  }
  return text;
}

/** `public_key=<hex>`, and after it what that peer has; at last `errno=0`. Undefined for half an answer. */
export function parsePeers(text: string): Peers | undefined {
  if (!isTaken(text)) return undefined;
  const handshakes = new Map<string, number>();
  const holders = new Set<string>();
  let peer = "";
  for (const line of text.split("\n")) {
    const [name = "", value = ""] = line.split("=");
    if (name === "public_key") peer = encodeBase64(decodeHex(value));
    if (peer === "") continue;
    if (name === "last_handshake_time_sec") handshakes.set(peer, Number(value));
    if (name === "allowed_ip") holders.add(peer);
  }
  return { handshakes, holders };
}

/** The whole question; a peer that is not there is not made. */
export function renderMoves(moves: readonly Move[]): string {
  const lines = moves.flatMap(({ publicKey, allowedIps }) => [
    `public_key=${encodeHex(decodeBase64(publicKey))}`,
    "update_only=true",
    "replace_allowed_ips=true",
    ...allowedIps.map((address) => `allowed_ip=${address}`),
  ]);
  return `${["set=1", ...lines].join("\n")}${END}`;
}

function isTaken(answer: string): boolean {
  return /^errno=0$/m.test(answer);
}

function quietly(action: () => void): void {
  try {
    action();
  } catch {
    // It is closed.
  }
}
