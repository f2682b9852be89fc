import { assertEquals } from "@std/assert";
import { readCounts, readFailures, renderFailure } from "../../scripts/junit.ts";

const REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="4" failures="2" errors="0" time="0.3">
    <testsuite name="./one_test.ts" tests="4" disabled="0" errors="0" failures="2">
        <testcase name="a &amp; &lt;b&gt;" classname="./one_test.ts" time="0.102" line="1" col="6">
            <failure message="Uncaught Error: wanted &lt;a&gt; &amp; &quot;b&quot;

second line">Error: wanted &lt;a&gt;
    at file:///one_test.ts:1:42</failure>
        </testcase>
        <testcase name="well" classname="./one_test.ts" time="0.000" line="2" col="6">
        </testcase>
        <testcase name="left out" classname="./one_test.ts" time="0.000" line="2" col="6">
            <skipped/>
        </testcase>
        <testcase name="steps" classname="./one_test.ts" time="0.024" line="3" col="6">
            <failure message="1 test step failed">1 test step failed.</failure>
        </testcase>
    </testsuite>
</testsuites>`;

Deno.test("readCounts: what passed, failed and was skipped; a report that is not there counts nothing", () => {
  assertEquals(readCounts(REPORT), { passed: 1, failed: 2, skipped: 1 });
  assertEquals(readCounts(""), { passed: 0, failed: 0, skipped: 0 });
});

Deno.test("readFailures: file, name and message of the failed ones alone", () => {
  const file = "./one_test.ts";
  assertEquals(readFailures(REPORT), [
    { file, name: "a & <b>", message: 'Error: wanted <a> & "b"\n\nsecond line' },
    { file, name: "steps", message: "1 test step failed" },
  ]);
  assertEquals(readFailures(""), []);
});

Deno.test("renderFailure: the message without its empty lines, and no more of it than helps", () => {
  const failure = { file: "./one_test.ts", name: "a", message: "first\n\nsecond" };
  assertEquals(renderFailure(failure), "FAILED ./one_test.ts => a\n  first\n  second");
  const long = { ...failure, message: Array.from({ length: 40 }, (_, index) => `${index}`).join("\n") };
  assertEquals(renderFailure(long).split("\n").slice(8, 11), ["  7", "  … 24 lines more", "  32"]);
  assertEquals(renderFailure(long).split("\n").length, 1 + 8 + 1 + 8);
});
