/** loadFleet: who else may read or change the files. Reads the examples, writes copies. */
import { assertEquals, assertRejects } from "@std/assert";
import { loadFleet } from "../../lib/commands/load_fleet.ts";
import { ConfigError } from "../../lib/errors.ts";

const EXAMPLES = new URL("../../examples/", import.meta.url).pathname;

/** Hands a copy over with this mode: a checkout has its own. */
async function withMode<T>(mode: number, file: string, use: (path: string) => Promise<T>): Promise<T> {
  const directory = await Deno.makeTempDir();
  try {
    const path = `${directory}/hosts.yml`;
    await Deno.copyFile(EXAMPLES + file, path);
    await Deno.chmod(path, mode);
    return await use(path);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

for (
  const [mode, file, message] of [
    [0o646, "minimal/hosts.yml", "every user may change (mode 0646); expected one that others cannot write"],
    [0o666, "single/hosts.yml", "every user may change (mode 0666); expected one that others cannot write"],
    [
      0o644,
      "pinned_keys/hosts.yml",
      "private keys in a file that others may read (mode 0644); expected 0600",
    ],
    [
      0o640,
      "pinned_keys/hosts.yml",
      "private keys in a file that others may read (mode 0640); expected 0600",
    ],
  ] as const
) {
  Deno.test(`loadFleet: refuses examples/${file} with mode 0${mode.toString(8)}`, async () => {
    await withMode(mode, file, (path) => assertRejects(() => loadFleet(path), ConfigError, message));
  });
}

Deno.test("loadFleet: others may read a file without private keys, and the group may write it", async () => {
  for (const mode of [0o644, 0o664]) {
    assertEquals((await withMode(mode, "minimal/hosts.yml", loadFleet)).fleet.hosts.length, 2);
  }
});
