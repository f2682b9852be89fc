/**
 * Many files of a host by one command, for runners to which every command is a round trip. Effects: through the runner it is given.
 */
import { decodeBase64 } from "@std/encoding/base64";
import type { Runner } from "../step.ts";
import { runStep } from "./run_steps.ts";

/** One line a path: the text as base64, behind a "+"; an empty line where there is no such file. */
const SCRIPT = `for path; do
  if [ -f "$path" ]; then echo "+$(base64 <"$path" | tr -d '\\n')"; else echo; fi
done`;

/** The texts of the files, undefined where there is none. */
export async function readFilesByScript(
  runner: Pick<Runner, "run">,
  paths: readonly string[],
): Promise<ReadonlyMap<string, string | undefined>> {
  const argv = ["sh", "-c", SCRIPT, "sh", ...paths];
  const lines = (await runStep(runner, { title: `read ${paths.length} files`, argv })).split("\n");
  const decoder = new TextDecoder();
  return new Map(paths.map((path, index) => {
    const line = lines[index] ?? "";
    return [path, line.startsWith("+") ? decoder.decode(decodeBase64(line.slice(1))) : undefined];
  }));
}
