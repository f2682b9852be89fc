/** The private folder of a run. Makes folders in a temporary directory of its own. */
import { assertEquals, assertMatch } from "@std/assert";
import { fromFileUrl } from "@std/path";

const CONFIG = fromFileUrl(new URL("../../deno.json", import.meta.url));
const MODULE = new URL("../../lib/deploy/control_directory.ts", import.meta.url).href;

/** A process that makes the folder, and ends. */
async function run(temporary: string): Promise<{ pid: number; directory: string }> {
  const code = `import { makeControlDirectory } from "${MODULE}"; console.log(await makeControlDirectory());`;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--config", CONFIG, code],
    env: { TMPDIR: temporary },
    stdout: "piped",
  }).spawn();
  const { stdout } = await child.output();
  return { pid: child.pid, directory: new TextDecoder().decode(stdout).trim() };
}

Deno.test("makeControlDirectory: what killed runs have left is removed, and nothing else", async () => {
  const temporary = await Deno.makeTempDir({ dir: "/tmp", prefix: "left-" });
  try {
    const { pid, directory } = await run(temporary);
    assertMatch(directory, new RegExp(`^${temporary}/mobula-${pid}-`));
    assertEquals((await Deno.stat(directory)).mode! & 0o777, 0o700);
    await Deno.writeTextFile(`${directory}/mobula.gz`, "a package");
    const mine = `${temporary}/mobula-${Deno.pid}-live`;
    for (const path of [mine, `${temporary}/mobula-notes`, `${temporary}/other`]) await Deno.mkdir(path);
    const second = await run(temporary);
    const names = [...Deno.readDirSync(temporary)].map(({ name }) => `${temporary}/${name}`).sort();
    assertEquals(names, [second.directory, mine, `${temporary}/mobula-notes`, `${temporary}/other`].sort());
  } finally {
    await Deno.remove(temporary, { recursive: true });
  }
});
