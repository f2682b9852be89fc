/**
 * What wireguard-go says of its peers on its own socket, which costs no process: a look every few milliseconds must not take the
 * processor away from those who carry the packets. The text is pure; `askUapi` connects to the socket. The kernel has none.
 */
import { Buffer } from "node:buffer";
import { LINK } from "../net/network.ts";

/** Cross-platform interface of WireGuard (its "cross-platform userspace implementation" page). */
const SOCKET = `/var/run/wireguard/${LINK.wireguard}.sock`;
const QUESTION = "get=1\n\n";
/** An answer ends with an empty line. */
const END = "\n\n";
/** Milliseconds. */
const PATIENCE = 1_000;

/** Key → seconds since 1970, 0 before the first handshake; undefined where nothing answers there. */
export async function askUapi(path = SOCKET): Promise<ReadonlyMap<string, number> | undefined> {
  const connection = await Deno.connect({ transport: "unix", path }).catch(() => undefined);
  if (connection === undefined) return undefined;
  const close = () => quietly(() => connection.close());
  const timer = setTimeout(close, PATIENCE);
  try {
    await connection.write(new TextEncoder().encode(QUESTION));
    return parseHandshakes(await readAnswer(connection));
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
    close();
  }
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

/** `public_key=<hex>`, later `last_handshake_time_sec=<seconds>`, for each peer; at last `errno=0`. Undefined for half an answer. */
export function parseHandshakes(text: string): ReadonlyMap<string, number> | undefined {
  if (!/^errno=0$/m.test(text)) return undefined;
  const handshakes = new Map<string, number>();
  let peer = "";
  for (const line of text.split("\n")) {
    const [name = "", value = ""] = line.split("=");
    if (name === "public_key") peer = Buffer.from(value, "hex").toString("base64");
    if (name === "last_handshake_time_sec" && peer !== "") handshakes.set(peer, Number(value));
  }
  return handshakes;
}

function quietly(action: () => void): void {
  try {
    action();
  } catch {
    // It is closed.
  }
}
