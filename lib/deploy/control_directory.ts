/**
 * The private folder of a run: the control sockets of its SSH connections, and the executable while it is sent. Effects: makes and removes
 * folders in the temporary directory.
 */
import { dirname, join } from "@std/path";

/** Unix socket paths hold 104 bytes; ssh appends 17 while it makes one. */
const MAX_DIRECTORY = 70;
/** With the id of the process that made it. */
const NAME = /^mobula-(\d+)-[^/]+$/;

/** Makes the folder (mode 0700), with a path short enough for sockets, and removes what runs that were killed have left. */
export async function makeControlDirectory(): Promise<string> {
  const prefix = `mobula-${Deno.pid}-`;
  let directory = await Deno.makeTempDir({ prefix });
  if (directory.length > MAX_DIRECTORY) {
    await Deno.remove(directory);
    directory = await Deno.makeTempDir({ dir: "/tmp", prefix });
  }
  await removeLeft(dirname(directory)).catch(() => {});
  return directory;
}

/** Those of this user whose process is gone. */
async function removeLeft(parent: string): Promise<void> {
  const proc = await Deno.stat("/proc/self/stat").catch(() => undefined);
  if (!proc) return;
  for await (const { name, isDirectory } of Deno.readDir(parent)) {
    const pid = NAME.exec(name)?.[1];
    if (pid === undefined || !isDirectory) continue;
    const path = join(parent, name);
    const [owner, process] = await Promise.all(
      [Deno.lstat(path), Deno.stat(`/proc/${pid}`)].map((one) => one.catch(() => undefined)),
    );
    if (process || owner?.uid !== Deno.uid()) continue;
    await Deno.remove(path, { recursive: true }).catch(() => {});
  }
}
