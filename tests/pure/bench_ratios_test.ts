import { assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import { CONTENDERS } from "../../scripts/bench/contenders.ts";
import { absolute, median, ratio, renderRatios, renderTargets, TARGETS } from "../../scripts/bench/ratios.ts";

/** The second round ran on a machine that was twice as busy. */
const ROUNDS = {
  wireguard: [{ tcp1: 100, tcp4: 100 }, { tcp1: 50, tcp4: 50 }, { tcp1: 100 }],
  intrawire: [{ tcp1: 97, tcp4: 90 }, { tcp1: 48, tcp4: 45 }, { tcp1: 99 }],
};

Deno.test("median of even and odd counts, without what could not be measured", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(median([4, 1, NaN, 2, 3]), 2.5);
  assertEquals(median([]), NaN);
});

Deno.test("ratio compares within each round, absolute across them", () => {
  assertEquals(absolute(ROUNDS, "intrawire", "tcp1"), 97);
  assertAlmostEquals(ratio(ROUNDS, "intrawire", "wireguard", "tcp1"), 0.97);
  assertAlmostEquals(ratio(ROUNDS, "intrawire", "wireguard", "tcp4"), 0.9);
  assertEquals(ratio(ROUNDS, "nebula", "wireguard", "tcp1"), NaN);
});

Deno.test("renderTargets says which is reached and which falls short", () => {
  const lines = renderTargets(ROUNDS, CONTENDERS).split("\n");
  assertMatch(lines[2] ?? "", /intrawire \/ plain kernel WireGuard .* 0\.97 .* reached/);
  assertMatch(lines[3] ?? "", /intrawire \/ plain kernel WireGuard .* 0\.90 .* short/);
  assertMatch(lines[4] ?? "", /intrawire \/ plain WireGuard in a namespace .* - .*not measured/);
  assertMatch(lines[6] ?? "", /access.* \/ mobula, intrawire .* - .*not measured/);
});

Deno.test("renderRatios has a row for each contender, equally wide", () => {
  const lines = renderRatios(ROUNDS, CONTENDERS, "wireguard").split("\n");
  assertEquals(lines.length, 2 + CONTENDERS.length);
  assertEquals(new Set(lines.map((line) => line.length)).size, 1);
});

Deno.test("every target names contenders that are measured", () => {
  const names = CONTENDERS.map(({ name }) => name);
  for (const { contender, reference } of TARGETS) {
    assertEquals([contender, reference].filter((name) => !names.includes(name)), []);
  }
});
