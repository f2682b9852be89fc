/**
 * A verification as JUnit's XML: a test suite for each host that asks, a test case for each check. Pure.
 */
import { type Cause, findCauses } from "../deploy/causes.ts";
import type { CheckResult, HostVerification, Verification } from "../deploy/checks.ts";

/** The whole document; `seconds` is how long the verification took. */
export function renderJunit(verification: Verification, seconds: number): string {
  const causes = findCauses(verification);
  const suites = verification.hosts.map((host) => ({ host, cases: casesOf(host, causes) }));
  const own = causes.filter(({ hosts }) => hosts.length === 0);
  const all = [
    ...suites.map(({ host, cases }) => renderSuite(host.hostname, cases)),
    ...own.length > 0
      ? [renderSuite("deployer", own.map(({ message }) => renderCase("deployer", "clock", message)))]
      : [],
  ];
  const tests = suites.reduce((sum, { cases }) => sum + cases.length, 0) + own.length;
  const failures = [...suites.flatMap(({ cases }) => cases)].filter(isFailure).length + own.length;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="mobula verify" tests="${tests}" failures="${failures}" time="${seconds.toFixed(3)}">`,
    ...all,
    "</testsuites>",
    "",
  ].join("\n");
}

function renderSuite(name: string, cases: readonly string[]): string {
  const failures = cases.filter(isFailure).length;
  return [
    `  <testsuite name="${escape(name)}" tests="${cases.length}" failures="${failures}">`,
    ...cases,
    "  </testsuite>",
  ].join("\n");
}

function isFailure(text: string): boolean {
  return text.includes("<failure");
}

function casesOf(host: HostVerification, causes: readonly Cause[]): string[] {
  const { hostname, error, results } = host;
  const asked = error === undefined ? [] : [renderCase(hostname, "can be asked", error)];
  return [
    ...asked,
    ...results.map((result) =>
      renderCase(
        hostname,
        caseName(result),
        result.ok ? undefined : reason(host, result, causes),
        result.roundTrip,
      )
    ),
  ];
}

function caseName({ kind, to, address, from }: CheckResult): string {
  return `${kind} ${to}${address ? ` (${address})` : ""}, from the ${from}`;
}

/** What was found, and the causes that name this host or the other one. */
function reason({ hostname }: HostVerification, result: CheckResult, causes: readonly Cause[]): string {
  const { to, found, expected, passes } = result;
  const seen = [
    found ? `found ${found}` : "no answer",
    ...expected ? [`expected ${expected}`] : [],
    ...passes ? [`packets of up to ${passes} bytes pass`] : [],
  ].join("; ");
  const about = causes.filter(({ hosts }) =>
    hosts.length > 0 && hosts.every((name) => name === hostname || name === to)
  );
  return [seen, ...about.map(({ message }) => message)].join("\n");
}

function renderCase(hostname: string, name: string, failure: string | undefined, roundTrip?: number): string {
  const time = roundTrip === undefined ? "" : ` time="${(roundTrip / 1000).toFixed(6)}"`;
  const start = `    <testcase classname="${escape(hostname)}" name="${escape(name)}"${time}`;
  if (failure === undefined) return `${start}/>`;
  const message = failure.split("\n")[0] ?? "";
  return `${start}><failure message="${escape(message)}">${escape(failure)}</failure></testcase>`;
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&apos;",
};

/** Without the control characters that XML 1.0 has no way to write. */
function escape(text: string): string {
  return text.replace(/[&<>"']/g, (char) => ENTITIES[char] ?? char)
    // deno-lint-ignore no-control-regex
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "�");
}
