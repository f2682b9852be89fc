/** What a test run reports of itself, as `deno test --junit-path` writes it. Pure. */

/** How the tests of a run ended. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** A test that failed. */
export interface Failure {
  readonly file: string;
  readonly name: string;
  readonly message: string;
}

/** Sums the attributes of JUnit's outermost element: tests, failures, errors; a skipped one is an element of its own. */
export function readCounts(xml: string): Counts {
  const attribute = (name: string) =>
    Number(new RegExp(`<testsuites[^>]* ${name}="(\\d+)"`).exec(xml)?.[1] ?? 0);
  const skipped = xml.match(/<skipped/g)?.length ?? 0;
  const failed = attribute("failures") + attribute("errors");
  return { passed: attribute("tests") - failed - skipped, failed, skipped };
}

/** The failed tests, in the order of the report. */
export function readFailures(xml: string): Failure[] {
  const found = xml.matchAll(
    /<testcase name="([^"]*)" classname="([^"]*)"[^>]*>\s*<(?:failure|error) message="([^"]*)"/g,
  );
  return [...found].map(([, name = "", file = "", message = ""]) => ({
    file: plain(file),
    name: plain(name),
    message: plain(message).replace(/^Uncaught (\(in promise\) )?/, ""),
  }));
}

/** So many lines of a message's beginning, and as many of its end, are shown. */
const LINES = 8;

/** Where, what, and how the message begins and ends; the message's lines are indented. */
export function renderFailure({ file, name, message }: Failure): string {
  const lines = message.split("\n").filter((line) => line.trim() !== "");
  const left = lines.length - 2 * LINES;
  const some = left > 0 ? [...lines.slice(0, LINES), `… ${left} lines more`, ...lines.slice(-LINES)] : lines;
  const shown = some.map((line) => `  ${line}`);
  return [`FAILED ${file} => ${name}`, ...shown].join("\n");
}

const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

function plain(text: string): string {
  return text.replace(/&(lt|gt|quot|apos|amp);/g, (_, name: string) => ENTITIES[name]!);
}
