/**
 * The program as it is, but that each of its effects on a host can be struck: what the lab's fault injection pushes.
 */
import { main } from "../../main.ts";
import { makeStrikable } from "./strike.ts";

if (import.meta.main) {
  makeStrikable(Deno.args);
  Deno.exit(await main(Deno.args));
}
