import { assertEquals } from "@std/assert";
import { TRANSLATED_PORT } from "../../lib/render/nftables.ts";
import { renderShortcut } from "../../lib/render/shortcut.ts";

Deno.test("renderShortcut: every port that may be translated to goes the usual way, and hardly another one", () => {
  const lines = renderShortcut(2).split("\n").filter((line) => line.includes("action pass"));
  for (const protocol of [6, 17]) {
    const keys = lines.filter((line) => line.includes(`match u8 ${protocol} 0xff at 9`))
      .flatMap((line) => [...line.matchAll(/match u16 (0x[0-9a-f]+) (0x[0-9a-f]+) at 22/g)])
      .map(([, value, mask]) => [Number(value), Number(mask)] as const);
    const passes = (port: number) => keys.some(([value, mask]) => (port & mask) === value);
    const ports = Array.from({ length: 65_536 }, (_, port) => port);
    assertEquals(ports.filter((port) => port >= TRANSLATED_PORT && !passes(port)), []);
    assertEquals(ports.filter((port) => port < TRANSLATED_PORT - 100 && passes(port)), []);
  }
});
