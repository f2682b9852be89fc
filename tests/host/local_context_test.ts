import { assertEquals } from "@std/assert";
import { hostContext } from "../../lib/host/local_context.ts";

Deno.test("hostContext: folders can be read by daemons whatever the caller's umask is", async () => {
  const directory = await Deno.makeTempDir();
  const before = Deno.umask(0o077);
  try {
    await hostContext(() => {}).runner.writeFile({ path: `${directory}/etc/names/hosts`, content: "" });
    const modes = ["etc", "etc/names", "etc/names/hosts"].map((path) =>
      Deno.statSync(`${directory}/${path}`).mode! & 0o777
    );
    assertEquals(modes, [0o755, 0o755, 0o644]);
  } finally {
    Deno.umask(before);
    await Deno.remove(directory, { recursive: true });
  }
});
