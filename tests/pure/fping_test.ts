import { assertEquals } from "@std/assert";
import { fping, parseFping } from "../lab/fping.ts";

Deno.test("fping: each address at its interval, until it is interrupted", () => {
  assertEquals(
    fping(["10.30.0.3", "10.31.0.3"], { interval: 20 }).join(" "),
    "fping -4 -l -D -i 1 -p 20 -t 2000 10.30.0.3 10.31.0.3",
  );
});

Deno.test("parseFping: answers with their times; what came twice is there twice; silence and ICMP's words are none", () => {
  const said = `[1795963698.26566] 10.30.0.3   : [0], 64 bytes, 0.026 ms (0.026 avg, 0% loss)
[1795963698.26678] 10.31.128.3 : [0], 64 bytes, 12.1 ms (12.1 avg, 0% loss)
[1795963698.27443] 10.30.0.3   : [0], 64 bytes, 0.315 ms (0.188 avg, 0% loss)
[1795963700.28566] 10.30.0.3   : [1], timed out (0.026 avg, 50% loss)
ICMP Host Unreachable from 10.30.0.2 for ICMP Echo sent to 10.30.0.3
[1795963698.30573] 10.30.0.3   : [2], 64 bytes, 0.023 ms (0.025 avg, 33% loss)
[1795963698.3057`;
  assertEquals(parseFping(said), [
    { address: "10.30.0.3", number: 1, time: 1795963698.26566 },
    { address: "10.31.128.3", number: 1, time: 1795963698.26678 },
    { address: "10.30.0.3", number: 1, time: 1795963698.27443 },
    { address: "10.30.0.3", number: 3, time: 1795963698.30573 },
  ]);
});
