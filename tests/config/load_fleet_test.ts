/** loadFleet: what it says of files it cannot use. Reads the examples. */
import { assertEquals, assertRejects } from "@std/assert";
import { loadFleet } from "../../lib/commands/load_fleet.ts";
import { ConfigError } from "../../lib/errors.ts";

const EXAMPLES = new URL("../../examples/", import.meta.url).pathname;

async function messageOf(path: string): Promise<string> {
  const error = await assertRejects(() => loadFleet(path), ConfigError);
  return error.message.replaceAll(EXAMPLES, "");
}

Deno.test("loadFleet: a missing file says what to do", async () => {
  assertEquals(
    await messageOf(`${EXAMPLES}nowhere/hosts.yml`),
    "nowhere/hosts.yml: no such file; expected the list of hosts, see examples/hosts.yml for one to copy, " +
      "or name another: mobula push <path>",
  );
});

Deno.test("loadFleet: a directory is not a file", async () => {
  assertEquals(await messageOf(`${EXAMPLES}single`), "single: found a directory; expected a file");
});

Deno.test("loadFleet: another file is not an inventory", async () => {
  assertEquals(
    await messageOf(`${EXAMPLES}extra_hosts.yml`),
    "extra_hosts.yml: extra_hosts: unknown key; expected all\n" +
      "extra_hosts.yml: all: missing; expected a map with hosts, and if wanted vars and children",
  );
});
