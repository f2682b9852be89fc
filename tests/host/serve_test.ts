/** What is done on a host does not depend on whether the one who asked still listens. */
import { assertEquals } from "@std/assert";
import { serveHostVerb } from "../../lib/host/serve.ts";

Deno.test("serveHostVerb: what was begun is brought to its end when nobody listens any more", async () => {
  const lines: string[] = [];
  const code = await serveHostVerb("status", "{}", (line) => {
    lines.push(JSON.parse(line).event);
    throw new Deno.errors.BrokenPipe("Broken pipe (os error 32)");
  });
  assertEquals({ code, lines }, { code: 0, lines: ["result"] });
});
