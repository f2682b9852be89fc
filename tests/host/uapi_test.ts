import { assertEquals } from "@std/assert";
import { askUapi, parsePeers, renderMoves, tellUapi } from "../../lib/host/uapi.ts";

const ANSWER = `private_key=c8f9d2b5a8f6f6b1a3e0e7d4c5b6a798897a6b5c4d3e2f10213243546576a7b8
listen_port=51820
public_key=0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20
preshared_key=0000000000000000000000000000000000000000000000000000000000000000
protocol_version=1
endpoint=198.51.100.3:51820
last_handshake_time_sec=1795364328
last_handshake_time_nsec=123456789
tx_bytes=1
rx_bytes=2
persistent_keepalive_interval=0
allowed_ip=10.30.0.3/32
public_key=fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0
last_handshake_time_sec=0
last_handshake_time_nsec=0
errno=0

`;
const [FIRST, SECOND] = [
  "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
  "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=",
] as const;
const PEERS = { handshakes: new Map([[FIRST, 1795364328], [SECOND, 0]]), holders: new Set([FIRST]) };

const MOVES = [{ publicKey: SECOND, allowedIps: ["10.30.0.3/32", "169.254.0.3/32"] }];
const MOVES_TEXT = `set=1
public_key=fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0
update_only=true
replace_allowed_ips=true
allowed_ip=10.30.0.3/32
allowed_ip=169.254.0.3/32

`;

Deno.test("parsePeers: each peer by its key as wg prints it, and who has addresses", () => {
  assertEquals(parsePeers(ANSWER), PEERS);
});

Deno.test("parsePeers: an error, and half an answer, are none", () => {
  assertEquals(parsePeers("errno=1\n\n"), undefined);
  assertEquals(parsePeers(ANSWER.slice(0, ANSWER.indexOf("errno"))), undefined);
});

Deno.test("renderMoves: replaces a peer's addresses, and makes no peer", () => {
  assertEquals(renderMoves(MOVES), MOVES_TEXT);
});

Deno.test("askUapi: over a socket, in pieces; undefined where there is none", async () => {
  await withServer([ANSWER.slice(0, 300), ANSWER.slice(300)], async (path, asked) => {
    assertEquals(await askUapi(path), PEERS);
    assertEquals(await asked, "get=1\n\n");
  });
  assertEquals(await askUapi("/var/run/wireguard/none.sock"), undefined);
});

Deno.test("tellUapi: taken, refused, and undefined where there is no socket", async () => {
  for (const [answer, taken] of [["errno=0\n\n", true], ["errno=-22\n\n", false]] as const) {
    await withServer([answer], async (path, asked) => {
      assertEquals(await tellUapi(MOVES, path), taken);
      assertEquals(await asked, MOVES_TEXT);
    });
  }
  assertEquals(await tellUapi(MOVES, "/var/run/wireguard/none.sock"), undefined);
});

/** A socket that answers one question. */
async function withServer(
  answer: readonly string[],
  check: (path: string, asked: Promise<string>) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/mo.sock`;
  using listener = Deno.listen({ transport: "unix", path });
  const serve = async () => {
    using connection = await listener.accept();
    const bytes = new Uint8Array(1024);
    let asked = "";
    while (!asked.endsWith("\n\n")) {
      const count = await connection.read(bytes);
      if (count === null) break;
      asked += new TextDecoder().decode(bytes.subarray(0, count));
    }
    for (const piece of answer) await connection.write(new TextEncoder().encode(piece));
    return asked;
  };
  await check(path, serve());
  await Deno.remove(directory, { recursive: true });
}
