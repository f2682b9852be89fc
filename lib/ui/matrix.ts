/**
 * A verification as a matrix of hosts and a list of what fails. Pure.
 */
import { green, red } from "@std/fmt/colors";
import type { CheckResult, HostVerification, Kind, Verification } from "../deploy/verify.ts";

/** Above so many hosts a cell is one character wide. */
const WIDE = 12;
/** Lines of the list of failures. */
const MAX_FAILURES = 40;

const LETTERS: readonly (readonly [Kind, string])[] = [["access", "a"], ["gateway", "g"], ["intrawire", "i"]];

/** The whole answer: matrix, legend, names, modes, and what fails. */
export function renderVerification(verification: Verification): string {
  return [
    ...renderMatrix(verification),
    "",
    ...renderNames(verification),
    ...renderModes(verification),
    ...renderFailures(verification),
  ].join("\n");
}

/** Rows ask, columns are asked. */
export function renderMatrix({ targets, hosts }: Verification): string[] {
  const wide = targets.length <= WIDE;
  const nameWidth = Math.max(4, ...hosts.map(({ hostname }) => Math.min(24, hostname.length)));
  const header = wide ? wideHeader(targets.length, nameWidth) : narrowHeader(targets.length, nameWidth);
  const rows = hosts.map((host) => {
    const number = String(targets.indexOf(host.hostname) + 1).padStart(3);
    const cells = targets.map((target) => cell(host, target, wide));
    return `${number} ${host.hostname.slice(0, 24).padEnd(nameWidth)} ${cells.join(wide ? " " : "")}`;
  });
  return [...header, ...rows, legend(wide)];
}

function wideHeader(count: number, nameWidth: number): string[] {
  const numbers = Array.from({ length: count }, (_, index) => String(index + 1).padEnd(3));
  return [`${" ".repeat(4 + nameWidth)} ${numbers.join(" ")}`.trimEnd()];
}

/** The columns' numbers, written downwards. */
function narrowHeader(count: number, nameWidth: number): string[] {
  const numbers = Array.from(
    { length: count },
    (_, index) => String(index + 1).padStart(String(count).length),
  );
  return Array.from(
    { length: String(count).length },
    (_, row) => `${" ".repeat(4 + nameWidth)} ${numbers.map((number) => number[row]).join("")}`,
  );
}

function legend(wide: boolean): string {
  return wide
    ? "a access, g gateway, i intrawire: answers; -: no answer; blank: not asked; ?: the host could not be asked"
    : ".: everything answers; %: some; x: nothing; ?: the host could not be asked";
}

function cell(host: HostVerification, target: string, wide: boolean): string {
  if (host.error !== undefined) return red(wide ? "?  " : "?");
  const asked = host.results.filter(({ kind, to }) => kind !== "name" && to === target);
  if (!wide) return narrowCell(asked);
  return LETTERS.map(([kind, letter]) => {
    const found = asked.find((check) => check.kind === kind);
    if (!found) return " ";
    return found.ok ? green(letter) : red("-");
  }).join("");
}

function narrowCell(asked: readonly CheckResult[]): string {
  const answered = asked.filter(({ ok }) => ok).length;
  if (asked.length === 0) return " ";
  if (answered === asked.length) return green(".");
  return red(answered === 0 ? "x" : "%");
}

function renderNames({ hosts }: Verification): string[] {
  const names = hosts.flatMap(({ results }) => results.filter(({ kind }) => kind === "name"));
  const found = names.filter(({ ok }) => ok).length;
  return [`names: ${found} of ${names.length} resolved as expected`];
}

/** Each mode with its hosts: most fleets have one. */
function renderModes({ hosts }: Verification): string[] {
  const modes = new Map<string, string[]>();
  for (const { hostname, capabilities } of hosts) {
    const mode = capabilities ? renderMode(capabilities) : "unknown";
    modes.set(mode, [...modes.get(mode) ?? [], hostname]);
  }
  return [...modes].map(([mode, names]) =>
    `mode: ${mode} on ${modes.size === 1 ? "all hosts" : names.join(", ")}`
  );
}

/** What runs in the kernel and what does not. */
export function renderMode({ wireguard, datapath }: { wireguard: string; datapath: string }): string {
  return `WireGuard in ${wireguard === "kernel" ? "the kernel" : "userspace"}, ` +
    `Open vSwitch in ${datapath === "system" ? "the kernel" : "userspace"}`;
}

function renderFailures(verification: Verification): string[] {
  const lines = verification.hosts.flatMap(failuresOf);
  if (lines.length === 0) return [];
  const more = lines.length - MAX_FAILURES;
  return ["", "What fails:", ...lines.slice(0, MAX_FAILURES), ...more > 0 ? [`… and ${more} more`] : []];
}

function failuresOf({ hostname, error, results }: HostVerification): string[] {
  if (error !== undefined) {
    return [`  ${error.startsWith(`${hostname}: `) ? error : `${hostname}: ${error}`}`];
  }
  return results.filter(({ ok }) => !ok).map((result) => `  ${hostname}: ${renderFailure(result)}`);
}

function renderFailure({ kind, to, address, from, found }: CheckResult): string {
  if (kind === "name") return `name ${to} resolves to ${found ?? "nothing"}; expected ${address}`;
  return `no answer from ${to} (${kind} ${address}), asked from the ${from}`;
}
