import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { CLOCK_TOLERANCE, judgeClocks, narrow, readClock, renderOffset } from "../../lib/deploy/clocks.ts";

/** What a host whose clock is `ahead` tells, `there` and `back` being how long the question and the answer travel, milliseconds. */
function reading({ ahead, there, work, back }: Record<"ahead" | "there" | "work" | "back", number>) {
  const sent = 1_795_364_328_000;
  return readClock({ sent, received: sent + there + work + back }, {
    started: sent + there + ahead,
    finished: sent + there + work + ahead,
  });
}

const milliseconds = fc.integer({ min: 0, max: 20_000 });

Deno.test("readClock: the truth is between low and high, whatever the way there and back takes", () => {
  const ahead = fc.integer({ min: -10_000_000, max: 10_000_000 });
  fc.assert(fc.property(ahead, milliseconds, milliseconds, milliseconds, (ahead, there, work, back) => {
    const { low, high } = reading({ ahead, there, work, back });
    assert(low <= ahead && ahead <= high, `${low} ${ahead} ${high}`);
    assertEquals(high - low, there + back);
  }));
});

Deno.test("judgeClocks: clocks that are right are right however slow the connections are", () => {
  const hosts = fc.array(fc.record({ there: milliseconds, work: milliseconds, back: milliseconds }), {
    minLength: 1,
    maxLength: 9,
  });
  fc.assert(fc.property(hosts, (hosts) => {
    const readings = new Map(hosts.map((times, id) => [id, reading({ ahead: 0, ...times })]));
    const { deployer, hosts: offsets } = judgeClocks(readings);
    assertEquals([deployer, ...offsets.values()].filter((offset) => Math.abs(offset) > CLOCK_TOLERANCE), []);
  }));
});

Deno.test("judgeClocks: the one that differs from most is wrong, be it a host's or the deployer's", () => {
  const quick = { there: 20, work: 2000, back: 20 };
  const at = (...ahead: number[]) => new Map(ahead.map((ahead, id) => [id, reading({ ahead, ...quick })]));
  const one = judgeClocks(at(0, 60_000, 5));
  assertEquals([one.deployer, one.hosts.get(0), one.hosts.get(2)], [0, 0, 0]);
  assert(Math.abs(one.hosts.get(1)! - 60_000) <= 100, `${one.hosts.get(1)}`);
  const deployer = judgeClocks(at(-60_000, -60_010, -59_990));
  assert(Math.abs(deployer.deployer - 60_000) <= 100, `${deployer.deployer}`);
  assertEquals([...deployer.hosts.values()].filter((offset) => Math.abs(offset) > 100), []);
  // Of two clocks nobody knows which is wrong: the deployer's is taken for right.
  const two = judgeClocks(at(60_000));
  assertEquals(two.deployer, 0);
  assert(two.hosts.get(0)! > 59_000);
});

Deno.test("narrow: two readings prove more than one; a clock that was set in between counts as it is now", () => {
  assertEquals(narrow({ low: -10, high: 100 }, { low: -50, high: 40 }), { low: -10, high: 40 });
  assertEquals(narrow({ low: 5000, high: 5100 }, { low: -50, high: 40 }), { low: -50, high: 40 });
  assertEquals(narrow(undefined, { low: 1, high: 2 }), { low: 1, high: 2 });
});

Deno.test("renderOffset: seconds, or hours", () => {
  assertEquals(renderOffset(12_340), "12.3 s ahead");
  assertEquals(renderOffset(-7_200_000), "2.0 h behind");
});
