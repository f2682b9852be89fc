/**
 * One at a time: a boot, a push, a restarted daemon and the way back may come together. Locks a file in /run; may end the process
 * that holds it.
 */
import type { Locks } from "./context.ts";
import { ARMED_LOCK_FILE, LOCK_FILE } from "./paths.ts";

/** Locks that hold between processes, and end with the process that holds them. */
export const FILE_LOCKS: Locks = {
  locked: (action) => withLock(undefined, action),
  lockedByForce: withLock,
  lockedArmed: withArmedLock,
};

async function withArmedLock<T>(action: () => Promise<T>): Promise<T> {
  const file = await openLock(ARMED_LOCK_FILE);
  try {
    await file.lock(true);
    return await action();
  } finally {
    file.close();
  }
}

async function openLock(path: string): Promise<Deno.FsFile> {
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  return await Deno.open(path, { create: true, read: true, write: true, mode: 0o600 });
}

async function withLock<T>(patience: number | undefined, action: () => Promise<T>): Promise<T> {
  const file = await openLock(LOCK_FILE);
  const timer = patience === undefined ? undefined : setTimeout(endHolder, patience);
  try {
    await file.lock(true);
    clearTimeout(timer);
    await file.truncate();
    await file.write(new TextEncoder().encode(`${Deno.pid}\n`));
    return await action();
  } finally {
    clearTimeout(timer);
    file.close();
  }
}

/** A holder that has ended left its number behind, which may be another's by now: only one of our own programs is ended. */
async function endHolder(): Promise<void> {
  try {
    const pid = Number(await Deno.readTextFile(LOCK_FILE));
    if (!(pid > 1) || pid === Deno.pid) return;
    if ((await Deno.readTextFile(`/proc/${pid}/cmdline`)).includes("mobula")) Deno.kill(pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}
