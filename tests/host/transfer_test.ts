import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { HostError } from "../../lib/errors.ts";
import type { DialOutcome } from "../../lib/host/protocol.ts";
import { dial, listenOn, listenUnlessListening } from "../../lib/host/transfer.ts";

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
    assertEquals(errorOf(outcome), "stalled: connected, but only 1000 of 16384 bytes came back");
  } finally {
    await accept;
    taken.forEach((connection) => connection.close());
    listener.close();
  }
});

Deno.test("dial and listenOn: a version that exchanges 64 KiB at a time", async () => {
  const size = 64 * 1024;
  const old = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const answer = (async () => {
    using connection = await old.accept();
    await connection.write(new TextEncoder().encode("host 00007"));
    await take(connection, size);
    for (let sent = 0; sent < size;) sent += await connection.write(new Uint8Array(size - sent));
  })();
  const port = freePort();
  const listening = listenOn("127.0.0.1", 7, port);
  try {
    const outcome = await dial({ address: "127.0.0.1", id: 7 }, old.addr.port);
    assertEquals(errorOf(outcome), "");
    await answer.catch(() => {});
    using asking = await Deno.connect({ hostname: "127.0.0.1", port });
    await take(asking, "host 00007".length);
    const all = take(asking, size);
    for (let sent = 0; sent < size;) sent += await asking.write(new Uint8Array(size - sent));
    assertEquals(await all, size);
  } finally {
    listening.close();
    old.close();
  }
});

/** Reads so many bytes, or as many as come before the end. */
async function take(connection: Deno.TcpConn, count: number): Promise<number> {
  const bytes = new Uint8Array(count);
  let got = 0;
  for (let read: number | null = 0; got < count && read !== null; got += read ?? 0) {
    read = await connection.read(bytes.subarray(got));
  }
  return got;
}

Deno.test("listenUnlessListening: another verification's listener does as well, another program is told with its port", async () => {
  const port = freePort();
  const first = await listenUnlessListening("127.0.0.1", 7, port);
  try {
    assertEquals(await listenUnlessListening("127.0.0.1", 7, port), undefined);
  } finally {
    first?.close();
  }
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accept = (async () => {
    for await (const connection of listener) {
      await connection.write(new TextEncoder().encode("220 mail.example ESMTP\r\n"));
      connection.close();
    }
  })();
  try {
    await assertRejects(
      () => listenUnlessListening("127.0.0.1", 7, listener.addr.port),
      HostError,
      `Cannot listen on 127.0.0.1: another program has TCP port ${listener.addr.port} (`,
    );
  } finally {
    listener.close();
    await accept.catch(() => {});
  }
});
