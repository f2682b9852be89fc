/**
 * Runs steps on this very machine: starts processes, reads and writes files.
 */
import type { Output, Runner, Step, WantedFile } from "../step.ts";

/** There is no file of that name, but perhaps something else. */
const NO_FILE = [Deno.errors.NotFound, Deno.errors.NotADirectory, Deno.errors.IsADirectory] as const;

/** A Runner for the host that it runs on. */
export class LocalRunner implements Runner {
  async run(step: Step): Promise<Output> {
    const child = spawn(step);
    if (!(child instanceof Deno.ChildProcess)) return child;
    const [output] = await Promise.all([child.output(), writeInput(child, step.stdin)]);
    const decoder = new TextDecoder();
    return {
      code: output.code,
      stdout: decoder.decode(output.stdout),
      stderr: decoder.decode(output.stderr),
    };
  }

  async readFile(path: string): Promise<string | undefined> {
    try {
      return await Deno.readTextFile(path);
    } catch (error) {
      if (NO_FILE.some((kind) => error instanceof kind)) return undefined;
      throw error;
    }
  }

  async readFiles(paths: readonly string[]): Promise<ReadonlyMap<string, string | undefined>> {
    return new Map(
      await Promise.all(paths.map(async (path) => {
        // Of many, one that cannot be read counts as missing: it is compared with what it should be, and written anew.
        return [path, await this.readFile(path).catch(() => undefined)] as const;
      })),
    );
  }

  readLink(path: string): Promise<string | undefined> {
    return Deno.readLink(path).catch(() => undefined);
  }

  async list(path: string): Promise<readonly string[]> {
    return await Array.fromAsync(Deno.readDir(path), ({ name }) => name).catch(() => []);
  }

  async writeFile({ path, content, mode = 0o644 }: WantedFile): Promise<void> {
    if (content === undefined) {
      await Deno.remove(path).catch(ignoreMissing);
      return;
    }
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    const temporary = `${path}.mobula-new`;
    await Deno.remove(temporary).catch(ignoreMissing);
    try {
      const file = await Deno.open(temporary, { write: true, createNew: true, mode: mode & 0o600 });
      try {
        await writeAll(file, new TextEncoder().encode(content));
        await file.syncData();
      } finally {
        file.close();
      }
      await Deno.chmod(temporary, mode);
      await Deno.rename(temporary, path);
    } catch (error) {
      await Deno.remove(temporary).catch(ignoreMissing);
      throw error;
    }
  }
}

/** The process; where it cannot be started, what a shell would say of that, with its exit codes: 127 for no such program, 126 for all else. */
function spawn(step: Step): Deno.ChildProcess | Output {
  const [program = "", ...args] = enterNamespace(step);
  const command = new Deno.Command(program, {
    args,
    stdin: step.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    env: ENVIRONMENT,
  });
  try {
    return command.spawn();
  } catch (error) {
    const code = error instanceof Deno.errors.NotFound ? 127 : 126;
    return { code, stdout: "", stderr: error instanceof Error ? error.message : String(error) };
  }
}

/** The same for everyone: no locale, and both sbin folders. */
const ENVIRONMENT = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

/** `ip` enters a namespace by itself, everything else through `ip netns exec`. */
export function enterNamespace({ argv, namespace }: Pick<Step, "argv" | "namespace">): readonly string[] {
  if (namespace === undefined) return argv;
  return argv[0] === "ip"
    ? ["ip", "-n", namespace, ...argv.slice(1)]
    : ["ip", "netns", "exec", namespace, ...argv];
}

async function writeInput(child: Deno.ChildProcess, text: string | undefined): Promise<void> {
  if (text === undefined) return;
  const writer = child.stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  } catch {
    // The command may end without reading it all; its exit code tells whether that was right.
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length;) written += await file.write(bytes.subarray(written));
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
