/** How lost probes are counted. */
import { assertEquals } from "@std/assert";
import { countLoss } from "../lab/loss.ts";

function seen(numbers: readonly number[]): Map<number, number> {
  return new Map(numbers.map((number) => [number, number / 100]));
}

Deno.test("countLoss: nothing is lost, and what comes late counts as answered", () => {
  assertEquals(countLoss(seen([1, 3, 2, 4])), { sent: 4, lost: 0, longestRun: 0, longestGap: 0 });
});

Deno.test("countLoss: all that is missing, and the longest run with the time around it", () => {
  assertEquals(countLoss(seen([1, 2, 4, 9, 10])), { sent: 10, lost: 5, longestRun: 4, longestGap: 50 });
});

Deno.test("countLoss: what was lost before the first answer counts", () => {
  assertEquals(countLoss(seen([3, 4])), { sent: 4, lost: 2, longestRun: 2, longestGap: 0 });
});
