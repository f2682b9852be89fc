/**
 * `deno task vm`: the lab with virtual machines in place of containers; the same verbs. Needs root.
 */
import { runLabTask } from "./lab.ts";

if (import.meta.main) {
  await runLabTask({
    name: "vm",
    description: "virtual machines with Debian's own kernel on an Internet of their own, on this machine",
    lab: "vm",
    kind: "machine",
  });
}
