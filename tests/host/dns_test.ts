/** Questions to a name server that is slow, or on a host that is. Listens on a loopback address. */
import { createSocket } from "node:dgram";
import { assertEquals } from "@std/assert";
import dnsPacket from "dns-packet";
import { query } from "../../lib/host/dns.ts";

Deno.test("query: a host too busy for its timers gets no answer, and no crash", async () => {
  const silent = createSocket("udp4");
  await new Promise<void>((resolve) => silent.bind(53, "127.0.0.9", resolve));
  try {
    const asked = query("wiki.example", "127.0.0.9", 900);
    // The end of the patience and the question after it are due at once when the event loop turns again.
    setTimeout(() => {
      const until = performance.now() + 600;
      while (performance.now() < until);
    }, 700);
    assertEquals(await asked, undefined);
  } finally {
    silent.close();
  }
});

Deno.test("query: an answer that lies there while the host is too busy to read it counts", async () => {
  const server = createSocket("udp4");
  let asking = () => {};
  server.on("message", (packet, { address, port }) => {
    asking();
    const { id, questions } = dnsPacket.decode(packet);
    const answers = [{ type: "A", name: "wiki.example", data: "10.31.200.1" }];
    server.send(dnsPacket.encode({ type: "response", id, questions, answers }), port, address);
  });
  await new Promise<void>((resolve) => server.bind(53, "127.0.0.9", resolve));
  try {
    const asked = query("wiki.example", "127.0.0.9", 900);
    await new Promise<void>((resolve) => asking = resolve);
    const until = performance.now() + 1200;
    while (performance.now() < until);
    assertEquals((await asked)?.address, "10.31.200.1");
  } finally {
    server.close();
  }
});
