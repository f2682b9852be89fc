/**
 * Rounds of figures → ratios and their table. Pure.
 */
import type { Contender } from "./contenders.ts";
import { type Column, COLUMNS, type FigureName, type Figures } from "./measures.ts";

/** Each contender's figures, round by round. */
export type Rounds = Readonly<Record<string, readonly Figures[]>>;

/** What one contender should reach of another. */
export interface Target {
  readonly contender: string;
  readonly reference: string;
  readonly figures: readonly FigureName[];
  readonly least: number;
}

export const TARGETS: readonly Target[] = [
  { contender: "intrawire", reference: "wireguard", figures: ["tcp1", "tcp4"], least: 0.95 },
  { contender: "intrawire", reference: "behind", figures: ["tcp1", "tcp4"], least: 0.95 },
  { contender: "access", reference: "intrawire", figures: ["tcp1", "tcp4"], least: 0.85 },
  { contender: "access", reference: "switched", figures: ["tcp1", "tcp4"], least: 0.95 },
  // Whether the target for access is in reach of any Ethernet in geneve there.
  { contender: "geneve", reference: "intrawire", figures: ["tcp1", "tcp4"], least: 0.85 },
];

/** The middle one; of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? NaN) + (sorted[Math.floor(middle)] ?? NaN)) / 2;
}

/** The median of a contender's figure. */
export function absolute(rounds: Rounds, contender: string, figure: FigureName): number {
  return median((rounds[contender] ?? []).map((figures) => figures[figure] ?? NaN));
}

/** The median of the ratios of each round: what disturbs the machine for a while disturbs both. */
export function ratio(rounds: Rounds, contender: string, reference: string, figure: FigureName): number {
  const others = rounds[reference] ?? [];
  return median(
    (rounds[contender] ?? []).map((figures, round) =>
      (figures[figure] ?? NaN) / (others[round]?.[figure] ?? NaN)
    ),
  );
}

/** Ratios to one contender as a Markdown table. */
export function renderRatios(rounds: Rounds, contenders: readonly Contender[], reference: string): string {
  const cell = (contender: Contender, { figure, lost }: Column) => {
    const text = renderRatio(ratio(rounds, contender.name, reference, figure));
    return lost === undefined ? text : `${text} (${renderPercent(absolute(rounds, contender.name, lost))})`;
  };
  return renderTable([
    ["network", ...COLUMNS.map(({ title }) => title)],
    ...contenders.map((contender) => [contender.title, ...COLUMNS.map((column) => cell(contender, column))]),
  ]);
}

/** The reference's own figures in one line. */
export function renderAbsolute(rounds: Rounds, reference: string): string {
  return COLUMNS.map(({ figure, title, unit }) =>
    `${title} ${renderRatio(absolute(rounds, reference, figure))} ${unit}`
  ).join(", ");
}

/** The targets as a Markdown table. */
export function renderTargets(rounds: Rounds, contenders: readonly Contender[]): string {
  const title = (name: string) => contenders.find((contender) => contender.name === name)?.title ?? name;
  const rows = TARGETS.flatMap(({ contender, reference, figures, least }) =>
    figures.map((figure) => {
      const value = ratio(rounds, contender, reference, figure);
      const column = COLUMNS.find((one) => one.figure === figure)?.title ?? figure;
      const verdict = Number.isNaN(value) ? "not measured" : value >= least ? "reached" : "short";
      const of = `${title(contender)} / ${title(reference)}`;
      return [of, column, renderRatio(value), least.toFixed(2), verdict];
    })
  );
  return renderTable([["ratio", "figure", "measured", "target", ""], ...rows]);
}

function renderRatio(value: number): string {
  if (Number.isNaN(value)) return "-";
  return value >= 10 ? value.toFixed(0) : value.toFixed(2);
}

function renderPercent(value: number): string {
  return Number.isNaN(value) ? "-" : `${value.toFixed(0)} %`;
}

/** The first row is the head; all cells of a column are as wide as its widest. */
function renderTable(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  const widths = head.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0), 3));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(" | ")} |`;
  return [line(head), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...body.map(line)].join(
    "\n",
  );
}
