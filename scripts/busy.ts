/** What this machine's processors do. Reads /proc. */

/** Seconds that all processors together have not been idle since boot: proc(5), /proc/stat, in hundredths. */
export async function busySeconds(): Promise<number> {
  const text = await Deno.readTextFile("/proc/stat");
  const [user = 0, nice = 0, system = 0, , , interrupts = 0, soft = 0] = text.slice(0, text.indexOf("\n"))
    .split(/\s+/).slice(1).map(Number);
  return (user + nice + system + interrupts + soft) / 100;
}
