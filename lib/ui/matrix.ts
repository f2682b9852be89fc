/**
 * A verification as a matrix of hosts or as plain lines, and what is broken. Pure.
 */
import { green, red } from "@std/fmt/colors";
import { type Cause, findCauses } from "../deploy/causes.ts";
import type { CheckResult, HostVerification, Kind, Verification } from "../deploy/checks.ts";

/** Above so many hosts a cell is one character wide. */
const WIDE = 12;
/** Lines of the list of causes. */
const MAX_CAUSES = 40;

/** A letter of a cell stands for these checks; what nobody was asked has no place in the cells. */
const LETTERS: readonly {
  readonly letter: string;
  readonly kinds: readonly Kind[];
  readonly means: string;
}[] = [
  { letter: "a", kinds: ["access"], means: "access" },
  { letter: "g", kinds: ["gateway"], means: "gateway" },
  { letter: "i", kinds: ["intrawire"], means: "intrawire" },
  { letter: "m", kinds: ["oversize-access", "oversize-intrawire"], means: "one byte more is refused" },
  { letter: "t", kinds: ["tcp-access", "tcp-intrawire"], means: "TCP" },
];

/** The kinds that belong to a cell; the others concern a host alone. */
const CELL_KINDS: ReadonlySet<Kind> = new Set(LETTERS.flatMap(({ kinds }) => kinds));

/** What else is checked, as the summary calls it. */
const SUMMARY: readonly (readonly [Kind, string, string])[] = [
  ["name", "names", "resolved as expected"],
  ["key", "keys", "agree"],
  ["tree", "tree (RSTP)", "as they should be"],
  ["path", "watched paths (BFD)", "up"],
  ["world", "ways to the world", "open"],
  ["clock", "clocks", "agree"],
  ["ssh", "SSH by the external address", "answered"],
];

/** The whole answer for people at a terminal: matrix, legend, summary, modes, and what is broken. */
export function renderVerification(verification: Verification): string {
  return [...renderMatrix(verification), "", ...renderSummary(verification), ...renderCauses(verification)]
    .join("\n");
}

/** The same for a pipe: one line for each host that asks and each that is asked. */
export function renderLines(verification: Verification): string {
  const pairs = verification.hosts.flatMap((host) =>
    verification.targets.flatMap((target) => pairLine(host, target))
  );
  return [...pairs, ...renderSummary(verification), ...renderCauses(verification)].join("\n");
}

function pairLine(host: HostVerification, target: string): string[] {
  const asked = cellChecks(host, target);
  if (host.error !== undefined || asked.length === 0) return [];
  const failed = asked.filter(({ ok }) => !ok).map(({ kind }) => kind);
  const trips = asked.flatMap(({ kind, roundTrip }) =>
    roundTrip === undefined || kind.startsWith("tcp-") ? [] : [roundTrip]
  );
  const time = trips.length > 0 ? ` ${Math.min(...trips)} ms` : "";
  return [
    `${host.hostname} -> ${target}: ${failed.length === 0 ? "ok" : `FAILED ${failed.join(" ")}`}${time}`,
  ];
}

function cellChecks({ results }: HostVerification, target: string): CheckResult[] {
  return results.filter(({ kind, to }) => CELL_KINDS.has(kind) && to === target);
}

/** Rows ask, columns are asked. */
export function renderMatrix({ targets, hosts }: Verification): string[] {
  const wide = targets.length <= WIDE;
  const asked = new Set(hosts.flatMap(({ results }) => results.map(({ kind }) => kind)));
  const letters = LETTERS.filter(({ kinds }) => kinds.some((kind) => asked.has(kind)));
  const width = wide ? Math.max(3, letters.length) : 1;
  const nameWidth = Math.max(4, ...hosts.map(({ hostname }) => Math.min(24, hostname.length)));
  const header = wide
    ? wideHeader(targets.length, nameWidth, width)
    : narrowHeader(targets.length, nameWidth);
  const rows = hosts.map((host) => {
    const number = String(targets.indexOf(host.hostname) + 1).padStart(3);
    const cells = targets.map((target) => wide ? wideCell(host, target, letters) : narrowCell(host, target));
    return `${number} ${host.hostname.slice(0, 24).padEnd(nameWidth)} ${cells.join(wide ? " " : "")}`;
  });
  return [...header, ...rows, legend(wide ? letters : undefined)];
}

function wideHeader(count: number, nameWidth: number, width: number): string[] {
  const numbers = Array.from({ length: count }, (_, index) => String(index + 1).padEnd(width));
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

function legend(letters: typeof LETTERS | undefined): string {
  return letters
    ? `${letters.map(({ letter, means }) => `${letter} ${means}`).join(", ")}: as it should be; -: not; ` +
      "<: smaller packets only; blank: not asked; ?: the host could not be asked"
    : ".: all as it should be; %: some; x: nothing; ?: the host could not be asked";
}

function wideCell(host: HostVerification, target: string, letters: typeof LETTERS): string {
  if (host.error !== undefined) return red("?".padEnd(Math.max(3, letters.length)));
  const asked = cellChecks(host, target);
  const cell = letters.map(({ letter, kinds }) => {
    const found = asked.filter(({ kind }) => kinds.includes(kind));
    if (found.length === 0) return " ";
    if (found.every(({ ok }) => ok)) return green(letter);
    return red(found.some(({ passes }) => passes !== undefined && passes > 0) ? "<" : "-");
  });
  return cell.join("") + " ".repeat(Math.max(0, 3 - letters.length));
}

function narrowCell(host: HostVerification, target: string): string {
  if (host.error !== undefined) return red("?");
  const asked = cellChecks(host, target);
  const answered = asked.filter(({ ok }) => ok).length;
  if (asked.length === 0) return " ";
  if (answered === asked.length) return green(".");
  return red(answered === 0 ? "x" : "%");
}

function renderSummary({ hosts }: Verification): string[] {
  const results = hosts.flatMap((host) => host.results);
  const counted = SUMMARY.flatMap(([wanted, what, how]) => {
    const asked = results.filter(({ kind }) => kind === wanted);
    const good = asked.filter(({ ok }) => ok).length;
    return asked.length === 0 ? [] : [`${what}: ${good} of ${asked.length} ${how}`];
  });
  return [...counted, ...renderModes(hosts)];
}

/** Each mode with its hosts: most fleets have one. */
function renderModes(hosts: readonly HostVerification[]): string[] {
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

function renderCauses(verification: Verification): string[] {
  const causes = findCauses(verification);
  if (causes.length === 0) return [];
  const more = causes.length - MAX_CAUSES;
  return [
    "",
    "What is broken:",
    ...causes.slice(0, MAX_CAUSES).map(renderCause),
    ...more > 0 ? [`… and ${more} more`] : [],
  ];
}

function renderCause({ message, failures }: Cause): string {
  return `  ${message}${failures > 1 ? ` (explains ${failures} failures)` : ""}`;
}
