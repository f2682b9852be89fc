/** How lost probes are counted. */
import { assertEquals, AssertionError, assertThrows } from "@std/assert";
import { countLoss, expectNoLoss, expectShortGap, silenceOf } from "../lab/loss.ts";

function seen(numbers: readonly number[]): Map<number, number> {
  return new Map(numbers.map((number) => [number, number / 100]));
}

Deno.test("countLoss: nothing is lost, and what comes late counts as answered", () => {
  assertEquals(countLoss(seen([1, 3, 2, 4])), {
    sent: 4,
    lost: 0,
    longestRun: 0,
    longestGap: 0,
    longestWait: 10,
  });
});

Deno.test("countLoss: all that is missing, and the longest run with the time around it", () => {
  assertEquals(countLoss(seen([1, 2, 4, 9, 10])), {
    sent: 10,
    lost: 5,
    longestRun: 4,
    longestGap: 50,
    longestWait: 50,
  });
});

Deno.test("countLoss: what was lost before the first answer counts", () => {
  assertEquals(countLoss(seen([3, 4])), {
    sent: 4,
    lost: 2,
    longestRun: 2,
    longestGap: 0,
    longestWait: 10,
  });
});

Deno.test("silenceOf: one lost probe is a silence of two intervals", () => {
  assertEquals([0, 1, 4].map((longestRun) => silenceOf({ longestRun })), [0, 20, 50]);
});

Deno.test("expectShortGap: 19 in a row are a silence of 200 ms, and may be; 20 may not, but for the control", () => {
  const pair = { way: "access", from: "a", to: "b", sent: 100, longestGap: 0, longestWait: 10 } as const;
  const loss = (longestRun: number) => ({ ...pair, lost: longestRun, longestRun });
  expectShortGap([loss(19), { ...loss(99), way: "control" }]);
  assertThrows(() => expectShortGap([loss(19), loss(20)]), AssertionError);
});

Deno.test("expectNoLoss: one packet is too much, but for paths that die where the whole machine stands still", () => {
  const pair = { way: "access", from: "a", to: "b", sent: 100, longestGap: 0, longestWait: 10 } as const;
  const control = (
    longestWait: number,
  ) => ({ ...pair, way: "control", lost: 0, longestRun: 0, longestWait } as const);
  const loss = (longestRun: number) => ({ ...pair, lost: longestRun, longestRun });
  expectNoLoss([loss(0), control(149)]);
  assertThrows(() => expectNoLoss([loss(1), control(149)]), AssertionError);
  expectNoLoss([loss(1), control(150)]);
  assertThrows(() => expectNoLoss([loss(215), control(150)]), AssertionError);
});
