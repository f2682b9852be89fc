/** Questions to a name server that is slow, or on a host that is. Listens on a loopback address. */
import { createSocket } from "node:dgram";
import { assertEquals } from "@std/assert";
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
