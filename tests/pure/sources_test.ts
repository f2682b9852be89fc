/** What the program's own sources must not use. */
import { assertEquals } from "@std/assert";

const LIB = new URL("../../lib/", import.meta.url);

function sourcesOf(directory: URL): URL[] {
  return [...Deno.readDirSync(directory)].flatMap(({ name, isDirectory }) =>
    isDirectory ? sourcesOf(new URL(`${name}/`, directory)) : [new URL(name, directory)]
  );
}

Deno.test("sources: no using declaration, which the bundled program was seen not to dispose of", () => {
  const found = sourcesOf(LIB).filter((file) =>
    /^\s*(await )?using \w+ =/m.test(Deno.readTextFileSync(file))
  );
  assertEquals(found.map(({ pathname }) => pathname), []);
});
