import { assertEquals, assertMatch } from "@std/assert";
import type { DialOutcome } from "../../lib/host/protocol.ts";
import { dial, listenOn } from "../../lib/host/transfer.ts";

function errorOf(outcome: DialOutcome): string {
  return "error" in outcome ? outcome.error : "";
}

/** A port of this machine that is free now. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

Deno.test("dial: bytes there and back", async () => {
  const port = freePort();
  const listening = listenOn("127.0.0.1", 7, port);
  try {
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, () => dial({ address: "127.0.0.1", id: 7 }, port)),
    );
    assertEquals(outcomes.filter((outcome) => "error" in outcome), []);
  } finally {
    listening.close();
  }
});

Deno.test("dial: another host at that address is told", async () => {
  const port = freePort();
  const listening = listenOn("127.0.0.1", 32767, port);
  try {
    const outcome = await dial({ address: "127.0.0.1", id: 7 }, port);
    assertMatch(errorOf(outcome), /"host 32767" answers; expected host 7/);
  } finally {
    listening.close();
  }
});

Deno.test("dial: nobody listens", async () => {
  assertEquals(await dial({ address: "127.0.0.1", id: 7 }, freePort()), { error: "connection refused" });
});

Deno.test("dial: a connection over which no data comes back is told with what came", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const taken: Deno.TcpConn[] = [];
  const accept = (async () => {
    const connection = await listener.accept();
    taken.push(connection);
    await connection.write(new TextEncoder().encode("host 00007"));
    await connection.write(new Uint8Array(1000));
  })();
  try {
    const outcome = await dial({ address: "127.0.0.1", id: 7 }, listener.addr.port);
    assertEquals(errorOf(outcome), "stalled: connected, but only 1000 of 65536 bytes came back");
  } finally {
    await accept;
    taken.forEach((connection) => connection.close());
    listener.close();
  }
});
