import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { stripAnsiCode } from "@std/fmt/colors";
import { renderJunit } from "../../lib/ui/junit.ts";
import { renderLines, renderMatrix } from "../../lib/ui/matrix.ts";
import { verificationJson } from "../../lib/ui/report.ts";
import { verification } from "./verification.ts";

const BROKEN = verification({
  answer: (from, { to, kind }) =>
    from === "alpha" && to === "beta" && kind === "tcp-access"
      ? { ok: false, found: 'said "<&>\u0001"' }
      : undefined,
  errors: { gamma: "Cannot connect to 198.51.100.3: connection refused" },
});

Deno.test("renderJunit: a suite for each host, a case for each check, numbers that fit", () => {
  const xml = renderJunit(verification(), 1.5);
  const cases = verification().hosts.reduce((sum, { results }) => sum + results.length, 0);
  assertStringIncludes(xml, `<testsuites name="mobula verify" tests="${cases}" failures="0" time="1.500">`);
  assertEquals(xml.match(/<testcase /g)?.length, cases);
  assertEquals([...xml.matchAll(/<testsuite name="(\w+)"/g)].map(([, name]) => name), [
    "alpha",
    "beta",
    "gamma",
  ]);
  assertMatch(
    xml,
    /<testcase classname="alpha" name="intrawire beta \(10\.30\.0\.2\), from the host" time="0\.001000"\/>/,
  );
});

Deno.test("renderJunit: failures with what was found and the cause, as XML may be", () => {
  const xml = renderJunit(BROKEN, 0);
  assertStringIncludes(xml, 'failures="2"');
  assertMatch(xml, /name="tcp-access beta .*<failure message="found said &quot;&lt;&amp;&gt;�&quot;">/);
  assertMatch(xml, /<testcase classname="gamma" name="can be asked"><failure message="Cannot connect to 198/);
  assertMatch(
    xml,
    /TCP from alpha to beta on the access network: .*though pings of full size pass<\/failure>/,
  );
});

Deno.test("renderLines: a line for each pair that a program can read, then what is broken", () => {
  const lines = stripAnsiCode(renderLines(BROKEN)).split("\n");
  assertEquals(lines.slice(0, 6), [
    "alpha -> alpha: ok 1 ms",
    "alpha -> beta: FAILED tcp-access 1 ms",
    "alpha -> gamma: ok 1 ms",
    "beta -> alpha: ok 1 ms",
    "beta -> beta: ok 1 ms",
    "beta -> gamma: ok 1 ms",
  ]);
  assertStringIncludes(
    lines.join("\n"),
    "What is broken:\n  gamma: Cannot connect to 198.51.100.3: connection refused;",
  );
});

Deno.test("renderMatrix: a letter for each kind; smaller packets only, nothing, not asked", () => {
  const matrix = renderMatrix(verification({
    answer: (from, { to, kind }) => {
      if (from !== "alpha" || to !== "beta") return undefined;
      return kind === "intrawire" ? { ok: false, passes: 928 } : { ok: kind !== "tcp-access" };
    },
  }));
  assertEquals(matrix.slice(0, 3).map((line) => stripAnsiCode(line).trimEnd()), [
    "          1     2     3",
    "  1 alpha  g    ag<m- agimt",
    "  2 beta  agimt  g    agimt",
  ]);
});

Deno.test("verificationJson: causes, counts, and what fails in full", () => {
  const json = JSON.parse(JSON.stringify(verificationJson(BROKEN)));
  assertEquals([json.ok, json.causes.length, json.causes[1].hosts], [false, 2, ["alpha", "beta"]]);
  const [alpha, , gamma] = json.hosts;
  assertEquals(alpha.failures, [{
    kind: "tcp-access",
    to: "beta",
    address: "10.31.0.2",
    from: "host",
    found: 'said "<&>\u0001"',
    expected: null,
    passes: null,
  }]);
  assertEquals(alpha.checks_by_kind["tcp-intrawire"], 2);
  assertEquals([gamma.ok, gamma.checks, gamma.error], [
    false,
    0,
    "Cannot connect to 198.51.100.3: connection refused",
  ]);
});
