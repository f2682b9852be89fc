/**
 * Helpers for the tests of the executable: running it, waiting, and a root file system without a C library. Starts processes.
 */
import { demand } from "../../scripts/compile/run.ts";

/** The project's directory. */
export const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");

/** How a program ended. */
export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program with these variables in its environment and `input` on its standard input. */
export async function execute(
  argv: readonly string[],
  { env, input = "" }: { readonly env?: Record<string, string>; readonly input?: string } = {},
): Promise<Ended> {
  const [program, ...args] = argv as [string, ...string[]];
  const child = new Deno.Command(program, { args, env, stdin: "piped", stdout: "piped", stderr: "piped" })
    .spawn();
  const writer = child.stdin.getWriter();
  // A program that never reads its input closes the pipe.
  await writer.write(new TextEncoder().encode(input)).then(() => writer.close()).catch(() => {});
  const { code, stdout, stderr } = await child.output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

/** Runs a shell script in a mount namespace of its own, so that its mounts end with it. */
export async function executeWithMounts(script: string, ...args: readonly string[]): Promise<Ended> {
  return await execute([
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "sh",
    "-ec",
    script,
    "sh",
    ...args,
  ]);
}

/** Names in a directory, sorted. */
export async function namesIn(directory: string): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(directory));
  return entries.map(({ name }) => name).sort();
}

/** Asks until it is so, at most ten seconds. */
export async function until(wanted: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!await isSo()) {
    if (Date.now() > deadline) throw new Error(`Cannot wait any longer for ${wanted}: 10 s have passed`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The commands the bare root file system has, and no others. */
const APPLETS = ["sh", "tail", "gzip", "ls", "mkdir", "chmod", "mv", "rm"];

/** Makes a root file system that holds nothing but a static busybox. */
export async function makeBareRoot(directory: string): Promise<void> {
  for (const name of ["bin", "dev", "proc"]) {
    await Deno.mkdir(`${directory}/${name}`, { recursive: true });
  }
  await Deno.copyFile(await staticBusybox(`${ROOT}/.cache/busybox-static`), `${directory}/bin/busybox`);
  for (const applet of APPLETS) await Deno.symlink("busybox", `${directory}/bin/${applet}`);
}

async function staticBusybox(cache: string): Promise<string> {
  const path = `${cache}/bin/busybox`;
  if (await Deno.stat(path).then(() => true, () => false)) return path;
  await Deno.mkdir(cache, { recursive: true });
  await demand("download busybox-static", ["apt-get", "download", "busybox-static"], { cwd: cache });
  const packed = (await namesIn(cache)).find((name) => name.endsWith(".deb"));
  await demand("unpack busybox-static", ["dpkg", "-x", `${cache}/${packed}`, cache]);
  return path;
}
