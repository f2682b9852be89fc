import { assert, assertEquals, assertMatch } from "@std/assert";
import { largestPassing, oversizeOutcome, parsePings, pingScript, roundTripOf } from "../../lib/host/ping.ts";

Deno.test("pingScript: every ping is in one lane, without the headers that ping does not count", () => {
  const pings = [2, 3, 4, 5, 6].map((id) => ({ address: `10.30.0.${id}`, bytes: 1440 }));
  const script = pingScript(pings, { lanes: 2, patience: 2 });
  assertEquals(script.match(/^lane <<'E' &$/gm)?.length, 2);
  assertMatch(script, /lane <<'E' &\n0 1412 10\.30\.0\.2\n2 1412 10\.30\.0\.4\n4 1412 10\.30\.0\.6\nE\n/);
  assertMatch(script, /lane <<'E' &\n1 1412 10\.30\.0\.3\n3 1412 10\.30\.0\.5\nE\n/);
});

Deno.test("pingScript: sends one packet, or some until one is answered", () => {
  const script = (repeat: boolean) =>
    pingScript([{ address: "10.30.0.2", bytes: 1440 }], { lanes: 1, patience: 2, repeat });
  assertMatch(script(false), /ping -n -c 1 -W 2 -M do /);
  assertMatch(script(true), /ping -n -c 1 -w 2 -i 0\.2 -M do /);
});

/** As iputils 20221126 and 20240905 say it, on one line. */
const SAID = {
  answer:
    "PING 10.31.0.3 (10.31.0.3) 1358(1386) bytes of data. 1366 bytes from 10.31.0.3: icmp_seq=1 ttl=64 time=1.43 ms --- 10.31.0.3 ping statistics --- 1 packets transmitted, 1 received, 0% packet loss, time 0ms rtt min/avg/max/mdev = 1.429/1.429/1.429/0.000 ms",
  refused:
    "PING 10.31.0.3 (10.31.0.3) 1359(1387) bytes of data. ping: local error: message too long, mtu=1386",
  refusedLater: "PING 10.31.0.3 (10.31.0.3) 1359(1387) bytes of data. ping: sendmsg: Message too long",
  reported:
    "PING 10.30.0.3 (10.30.0.3) 1413(1441) bytes of data. From 10.30.0.2 icmp_seq=1 Frag needed and DF set (mtu = 1440)",
  lost:
    "PING 10.30.0.3 (10.30.0.3) 1413(1441) bytes of data. --- 10.30.0.3 ping statistics --- 1 packets transmitted, 0 received, 100% packet loss, time 0ms",
};

Deno.test("parsePings: in the order of the pings whatever the order of the lines; a missing line is no answer", () => {
  const pinged = parsePings(`2 1 ${SAID.lost}\n0 0 ${SAID.answer}\n`, 3);
  assertEquals(pinged.map(roundTripOf), [1.43, null, null]);
});

Deno.test("oversizeOutcome: refused here, reported on the way, lost, or answered", () => {
  const outcome = (code: number, said: string) => oversizeOutcome({ code, said });
  assertEquals(outcome(1, SAID.refused), "refused");
  assertEquals(outcome(1, SAID.refusedLater), "refused");
  assertEquals(outcome(1, SAID.reported), "reported");
  assertEquals(outcome(1, SAID.lost), "lost");
  assertEquals(outcome(0, SAID.answer), "answered");
});

for (const limit of [84, 85, 576, 928, 1000, 1385, 1439]) {
  Deno.test(`largestPassing: finds ${limit} in four rounds`, async () => {
    let rounds = 0;
    const ask = (sizes: readonly number[]) => {
      rounds++;
      assert(sizes.every((size) => size >= 84 && size < 1440), `${sizes}`);
      return Promise.resolve(sizes.map((size) => size <= limit));
    };
    assertEquals(await largestPassing(ask, 1440), limit);
    assert(rounds <= 4, `${rounds} rounds`);
  });
}

Deno.test("largestPassing: 0 where not even the smallest packet passes, asked once", async () => {
  let rounds = 0;
  assertEquals(await largestPassing((sizes) => (rounds++, Promise.resolve(sizes.map(() => false))), 1440), 0);
  assertEquals(rounds, 1);
});
