/**
 * A network of one's own: a process in new network and mount namespaces, with /run, /opt and /etc/netns that nobody else sees. Starts
 * processes; everything is gone when that process ends, at the latest with this one. Needs root.
 */
import { enterNamespace, LocalRunner } from "../../lib/host/local_runner.ts";
import { readFilesByScript } from "../../lib/host/read_files.ts";
import { runStep } from "../../lib/host/run_steps.ts";
import type { Output, Runner, Step, WantedFile } from "../../lib/step.ts";

/** Runs steps inside of the world. */
export class World implements Runner {
  readonly #keeper: Deno.ChildProcess;
  readonly #local = new LocalRunner();

  private constructor(keeper: Deno.ChildProcess) {
    this.#keeper = keeper;
  }

  /** Makes a world, hands it over, and ends it. */
  static async with(use: (world: World) => Promise<void>): Promise<void> {
    const keeper = new Deno.Command("unshare", {
      args: ["-m", "-n", "sh", "-c", PREPARE],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const output = keeper.stdout.getReader();
    try {
      await output.read();
      await use(new World(keeper));
    } finally {
      await output.cancel();
      // The keeper reads until its input ends.
      await keeper.stdin.close();
      await keeper.status;
    }
  }

  run(step: Step): Promise<Output> {
    const enter = ["nsenter", `--target=${this.#keeper.pid}`, "--mount", "--net", "--"];
    const { namespace: _namespace, ...rest } = step;
    return this.#local.run({ ...rest, argv: [...enter, ...enterNamespace(step)] });
  }

  async readFile(path: string): Promise<string | undefined> {
    const { code, stdout } = await this.run({ title: `read ${path}`, argv: ["cat", path] });
    return code === 0 ? stdout : undefined;
  }

  readFiles(paths: readonly string[]): Promise<ReadonlyMap<string, string | undefined>> {
    return readFilesByScript(this, paths);
  }

  readLink(path: string): Promise<string | undefined> {
    return this.#local.readLink(path);
  }

  list(path: string): Promise<readonly string[]> {
    return this.#local.list(path);
  }

  async writeFile({ path, content, mode = 0o644 }: WantedFile): Promise<void> {
    if (content === undefined) {
      await runStep(this, { title: `remove ${path}`, argv: ["rm", "-f", path] });
      return;
    }
    const script = 'mkdir -p "${1%/*}" && cat >"$1" && chmod "$2" "$1"';
    const argv = ["sh", "-c", script, "sh", path, mode.toString(8)];
    await runStep(this, { title: `write ${path}`, argv, stdin: content });
  }

  /** Runs a shell script; throws if it fails. */
  async sh(script: string): Promise<string> {
    return await runStep(this, { title: "run a script", argv: ["sh", "-eu"], stdin: script });
  }
}

const PREPARE = `set -eu
mount --make-rprivate /
for folder in /run /opt; do mount -t tmpfs none "$folder"; done
mount -t sysfs none /sys
ip link set lo up
echo ready
exec cat
`;
