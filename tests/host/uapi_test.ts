import { assertEquals } from "@std/assert";
import { askUapi, parseHandshakes } from "../../lib/host/uapi.ts";

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
const HANDSHAKES = new Map([
  ["AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=", 1795364328],
  ["//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=", 0],
]);

Deno.test("parseHandshakes: each peer by its key as wg prints it", () => {
  assertEquals(parseHandshakes(ANSWER), HANDSHAKES);
});

Deno.test("parseHandshakes: an error, and half an answer, are none", () => {
  assertEquals(parseHandshakes("errno=1\n\n"), undefined);
  assertEquals(parseHandshakes(ANSWER.slice(0, ANSWER.indexOf("errno"))), undefined);
});

Deno.test("askUapi: over a socket, in pieces; undefined where there is none", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/mo.sock`;
  using listener = Deno.listen({ transport: "unix", path });
  const serve = async () => {
    using connection = await listener.accept();
    const asked = new Uint8Array(64);
    const count = await connection.read(asked) ?? 0;
    assertEquals(new TextDecoder().decode(asked.subarray(0, count)), "get=1\n\n");
    for (const piece of [ANSWER.slice(0, 300), ANSWER.slice(300)]) {
      await connection.write(new TextEncoder().encode(piece));
    }
  };
  const [handshakes] = await Promise.all([askUapi(path), serve()]);
  assertEquals(handshakes, HANDSHAKES);
  assertEquals(await askUapi(`${directory}/none`), undefined);
  await Deno.remove(directory, { recursive: true });
});
