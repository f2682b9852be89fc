/**
 * Compares texts with the golden files beside this one; `MOBULA_UPDATE_GOLDEN=1 deno test -A tests/golden` writes
 * them instead. Reads and writes only there.
 */
import { assertEquals } from "@std/assert";
import type { Step, WantedFile } from "../../lib/step.ts";

const DIRECTORY = new URL(".", import.meta.url).pathname;
/** Without the permission to read the environment, as the test run has it, nothing is to be written either. */
const updating =
  Deno.permissions.querySync({ name: "env", variable: "MOBULA_UPDATE_GOLDEN" }).state === "granted" &&
  Deno.env.get("MOBULA_UPDATE_GOLDEN") === "1";

/** Compares one text with its golden file. */
export function assertGolden(name: string, text: string): void {
  const path = `${DIRECTORY}${name}.txt`;
  if (updating) {
    Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    Deno.writeTextFileSync(path, text);
  }
  assertEquals(text, Deno.readTextFileSync(path), `${name}: not as in ${path}`);
}

/** Golden files that are in a folder below `tests/golden`, without `.txt`. */
export function goldenNames(folder: string): string[] {
  return [...Deno.readDirSync(`${DIRECTORY}${folder}`)].map(({ name }) =>
    `${folder}/${name.replace(/\.txt$/, "")}`
  ).sort();
}

/** Files → one text: first all paths with their modes, then every text whole. */
export function renderBundle(files: readonly WantedFile[], shown: (path: string) => boolean): string {
  const list = files.map(({ path, mode = 0o644 }) => `${mode.toString(8)} ${path}\n`);
  const texts = files.filter(({ path }) => shown(path))
    .map(({ path, content }) => `\n======== ${path}\n${content}`);
  return [...list, ...texts].join("");
}

/** Steps → text: title and what traffic feels, namespace and words, and standard input behind bars. */
export function renderSteps(steps: readonly Step[]): string {
  return steps.map(({ title, argv, namespace, stdin, effect }) => {
    const words = argv.map((word) => /^[\w./:=,@+-]+$/.test(word) ? word : JSON.stringify(word));
    const input = stdin === undefined ? [] : stdin.trimEnd().split("\n").map((line) => `  | ${line}`);
    const head = effect === undefined ? title : `${title}  [${effect}]`;
    return [head, `  ${namespace ? `[${namespace}] ` : ""}${words.join(" ")}`, ...input, ""].join("\n");
  }).join("");
}
