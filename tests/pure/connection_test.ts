/** What the host knows of the connection by which it was asked. */
import { assertEquals } from "@std/assert";
import { parseConnection } from "../../lib/host/context.ts";

Deno.test("parseConnection: addresses and ports of both ends, IPv4 and IPv6", () => {
  for (const known of ["198.51.100.250 50022 198.51.100.2 22", "2001:db8::1 50022 2001:db8::2 22"]) {
    assertEquals(parseConnection(known), known);
  }
});

Deno.test("parseConnection: what does not tell one connection from another is none", () => {
  for (const unknown of [undefined, "", "UNKNOWN 65535 UNKNOWN 65535", "198.51.100.250 50022 22"]) {
    assertEquals(parseConnection(unknown), undefined);
  }
});
