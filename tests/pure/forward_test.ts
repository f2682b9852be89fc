/** Which ports of the external address lead to the host, and what is lost if nobody says so. */
import { assertEquals } from "@std/assert";
import type { Service } from "../../lib/facts.ts";
import type { Forward } from "../../lib/fleet.ts";
import { forwardLine, forwardsOf, portOf, unreachableServices } from "../../lib/forward.ts";

const WEB: Service = { protocol: "tcp", port: 80, program: "nginx", reach: "all" };
const DNS: Service = { protocol: "udp", port: 53, program: "named", reach: "address" };
const SIX: Service = { protocol: "tcp", port: 70, program: "gopher", reach: "ipv6" };
const SERVICES = [WEB, DNS, SIX];
const TLS: Forward = { external: 8443, internal: 443, protocol: "tcp" };

Deno.test("forwardsOf: what is named, and nothing else", () => {
  assertEquals(forwardsOf({}, { services: SERVICES, sshPort: 22 }), []);
  assertEquals(forwardsOf({ forward: [TLS] }, { sshPort: 22 }), [TLS]);
});

Deno.test("forwardsOf: preserve_services adds what was there before; what is named wins; SSH's and WireGuard's ports never", () => {
  const own: Service[] = [{ ...WEB, port: 2222 }, { ...DNS, port: 51820 }];
  const moved: Forward = { external: 80, internal: 8080, protocol: "tcp" };
  const baseline = { services: [...SERVICES, ...own], sshPort: 2222 };
  const found = forwardsOf({ forward: [TLS, moved], preserveServices: true }, baseline);
  assertEquals(found, [moved, TLS, { external: 53, internal: 53, protocol: "udp" }]);
  assertEquals(forwardsOf({ forward: [{ ...TLS, external: 2222 }] }, baseline), []);
});

Deno.test("unreachableServices: neither forwarded nor preserved, SSH aside", () => {
  const ports = (...args: Parameters<typeof unreachableServices>) => unreachableServices(...args).map(portOf);
  assertEquals(ports({}, SERVICES, 22), ["80/tcp", "53/udp", "70/tcp"]);
  assertEquals(ports({}, SERVICES, 80), ["53/udp", "70/tcp"]);
  assertEquals(ports({ preserveServices: true }, SERVICES, 22), ["70/tcp"]);
  assertEquals(ports({ forward: [{ external: 8080, internal: 80, protocol: "tcp" }] }, SERVICES, 22), [
    "53/udp",
    "70/tcp",
  ]);
});

Deno.test("forwardLine: what is to be written into hosts.yml, with what is there already", () => {
  assertEquals(forwardLine([], [WEB, DNS]), 'forward: [80, "53/udp"]');
  assertEquals(forwardLine([TLS], [WEB]), 'forward: ["8443:443", 80]');
});
