/**
 * How a push ended, for people and for programs. Pure.
 */
import { bold, dim, green, red, yellow } from "@std/fmt/colors";
import type { PushResult } from "../deploy/push.ts";
import type { HostRun } from "../deploy/run.ts";
import { findCauses } from "../deploy/causes.ts";
import { type CheckResult, isFine, type Verification } from "../deploy/checks.ts";
import { renderMode, renderVerification } from "./matrix.ts";
import { withoutHost } from "./progress.ts";

/** The report at the end of a push. */
export function renderReport(result: PushResult): string {
  const { push } = result;
  const { verification } = push;
  return [
    "",
    ...push.hosts.map((run) => renderHost(run, verification)),
    ...verification && !verification.ok ? ["", renderVerification(verification)] : [],
    "",
    renderPhases(result.seconds),
    renderVerdict(result),
  ].join("\n");
}

function renderHost(run: HostRun, verification: Verification | undefined): string {
  const name = run.host.hostname;
  const notes = run.notes.map((note) => `\n    ${yellow("note:")} ${note}`).join("");
  if (run.failure) {
    const message = withoutHost(name, run.failure.message).replaceAll("\n", "\n    ");
    return `  ${red("✗")} ${
      bold(name)
    } (id ${run.host.id}) failed in ${run.failure.phase}:\n    ${message}${notes}`;
  }
  const checked = verification?.hosts.find(({ id }) => id === run.host.id);
  const mark = checked && !isFine(checked) ? yellow("!") : green("✓");
  return `  ${mark} ${bold(name)} (id ${run.host.id}): ${outcome(run)}${notes}`;
}

function outcome(run: HostRun): string {
  const { prepared, staged, activated, copied, rebooted } = run;
  const changes = staged?.changed || (activated?.steps.length ?? 0) > 0;
  const parts = [
    prepared?.newlyInstalled ? "installed" : changes ? "updated" : "nothing to change",
    ...copied ? ["executable sent"] : [],
    ...rebooted ? ["rebooted"] : [],
    ...prepared ? [renderMode(prepared.capabilities)] : [],
  ];
  return parts.join(", ");
}

/** What each phase costs. */
function renderPhases(seconds: ReadonlyMap<string, number>): string {
  const total = [...seconds.values()].reduce((sum, value) => sum + value, 0);
  const parts = [...seconds].map(([name, value]) => `${name} ${value.toFixed(1)}`);
  return dim(`seconds: ${parts.join(", ")}; together ${total.toFixed(1)}`);
}

function renderVerdict({ push, exitCode }: PushResult): string {
  const failed = push.hosts.filter(({ failure }) => failure);
  const done = push.hosts.length - failed.length;
  const left = push.fleet.hosts.length - push.hosts.length;
  const others = left > 0 ? `; ${left} more in hosts.yml were left out by --limit` : "";
  if (exitCode === 0) {
    return green(`Done: ${done} of ${push.hosts.length} hosts, every pair answers${others}.`);
  }
  const unverified = push.verification && !push.verification.ok ? ", some pairs do not answer" : "";
  return red(`${done} of ${push.hosts.length} hosts done, ${failed.length} failed${unverified}${others}.`);
}

/** The same for programs; holds no secret. */
export function reportJson({ push, seconds, exitCode }: PushResult): unknown {
  return {
    ok: exitCode === 0,
    exit_code: exitCode,
    seconds: Object.fromEntries([...seconds].map(([name, value]) => [name, round(value)])),
    hosts: push.hosts.map(hostJson),
    verification: push.verification ? verificationJson(push.verification) : null,
  };
}

function hostJson(run: HostRun): unknown {
  const { host, failure, prepared, staged, copied, rebooted, notes, activated } = run;
  return {
    hostname: host.hostname,
    id: host.id,
    address: host.address,
    ok: failure === undefined,
    failed_phase: failure?.phase ?? null,
    error: failure?.message ?? null,
    notes,
    newly_installed: prepared?.newlyInstalled ?? null,
    packages_installed: prepared?.packagesInstalled ?? [],
    capabilities: prepared?.capabilities ?? null,
    public_key: prepared?.publicKey ?? null,
    executable_sent: copied ?? false,
    generation: staged?.generation ?? null,
    changed_files: staged?.files ?? [],
    steps: activated?.steps ?? [],
    rebooted: rebooted ?? false,
    seconds: Object.fromEntries([...run.seconds].map(([name, value]) => [name, round(value)])),
  };
}

/** A verification for programs: causes, what fails in full, what works as counts; docs/operations.md tells its shape. */
export function verificationJson(verification: Verification): unknown {
  const { ok, hosts } = verification;
  return {
    ok,
    causes: findCauses(verification),
    hosts: hosts.map(({ hostname, id, capabilities, error, results }) => ({
      hostname,
      id,
      ok: error === undefined && results.every((result) => result.ok),
      error: error ?? null,
      capabilities: capabilities ?? null,
      checks: results.length,
      answered: results.filter((result) => result.ok).length,
      checks_by_kind: countKinds(results),
      failures: results.filter((result) => !result.ok).map(failureJson),
    })),
  };
}

function countKinds(results: readonly CheckResult[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { kind } of results) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

function failureJson({ kind, to, address, from, found, expected, passes }: CheckResult): unknown {
  return {
    kind,
    to,
    address,
    from,
    found: found ?? null,
    expected: expected ?? null,
    passes: passes ?? null,
  };
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
