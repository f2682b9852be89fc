/** Text of somebody else as a terminal may show it. */
import { assert, assertEquals } from "@std/assert";
import { bold, green, red, setColorEnabled } from "@std/fmt/colors";
import fc from "fast-check";
import { plainLine, plainText, plainValue, REPLACEMENT, withColoursOnly } from "../../lib/plain.ts";

// deno-lint-ignore no-control-regex
const OBEYED = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;

for (
  const [what, text] of [
    ["a window title", "\x1b]0;you are root\x07"],
    ["the clipboard (OSC 52)", "\x1b]52;c;cm0gLXJmIC8K\x07"],
    ["colours", "\x1b[32mDone: 3 of 3 hosts\x1b[0m"],
    ["a line that writes over the last one", "\x1b[1A\x1b[2KDone"],
    ["a carriage return", "failed\rDone"],
    ["a backspace and a bell", "failed\b\b\b\x07"],
    ["a C1 control sequence", "\x9b2J"],
    ["DEL", "\x7f"],
    ["another direction of text", "\u202egnorw si gnihton"],
    ["an isolate", "\u2066x\u2069"],
  ] as const
) {
  Deno.test(`plainText: takes out ${what}`, () => {
    const plain = plainText(text);
    assert(!OBEYED.test(plain), JSON.stringify(plain));
    assert(plain.includes(REPLACEMENT));
    assertEquals(plainText(plain), plain);
  });
}

Deno.test("plainText: keeps lines, tabs and any language", () => {
  const text = "eins\n\tzwei: größer, 日本語, 🙂\n";
  assertEquals(plainText(text), text);
  assertEquals(plainText("a\r\nb"), "a\nb");
  assertEquals(plainLine("a\n\tb"), "a b");
});

Deno.test("plainText: cuts what is too long, and says so", () => {
  assertEquals(plainText("x".repeat(50), 10), `${"x".repeat(10)}… (50 characters)`);
});

Deno.test("plainText: whatever comes, nothing is left that a terminal obeys", () => {
  const text = fc.array(fc.integer({ min: 0, max: 0xffff })).map((units) => String.fromCharCode(...units));
  fc.assert(fc.property(text, (text) => !OBEYED.test(plainText(text))));
});

Deno.test("plainValue: texts at any depth, names of properties too", () => {
  assertEquals(
    plainValue({ "a\x1b": ["\x07", 1, null, { b: "\x9b" }], c: true }),
    { [`a${REPLACEMENT}`]: [REPLACEMENT, 1, null, { b: REPLACEMENT }], c: true },
  );
});

Deno.test("withColoursOnly: our colours stay, everything else goes", () => {
  setColorEnabled(true);
  const ours = `${bold(green("✓"))} alpha\n${red("✗")}`;
  assertEquals(withColoursOnly(ours), ours);
  assertEquals(withColoursOnly("\x1b[2J\x1b]0;x\x07"), `${REPLACEMENT}[2J${REPLACEMENT}]0;x${REPLACEMENT}`);
});
