/**
 * Whether output is coloured. Effects: asks about the terminal and NO_COLOR.
 */
import { setColorEnabled } from "@std/fmt/colors";

/** Colours only where somebody sees them and nobody has asked for none. */
export function settleColours(): void {
  setColorEnabled(Deno.stdout.isTerminal() && !Deno.env.get("NO_COLOR"));
}
