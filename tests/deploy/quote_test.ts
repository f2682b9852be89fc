import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { shellQuote } from "../../lib/deploy/quote.ts";

async function split(shell: string, command: string): Promise<string[]> {
  const { stdout } = await new Deno.Command(shell, { args: ["-c", command] }).output();
  return new TextDecoder().decode(stdout).split("\0").slice(0, -1);
}

Deno.test("shellQuote: the real shell gives back the same words, whatever they hold", async () => {
  const character = fc.oneof(
    fc.constantFrom(..."'\"\\$`!*?[]{}()<>|&;#~=%^ \n\t\r-"),
    fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
  );
  const word = fc.array(character, { maxLength: 12 })
    .map((parts) => parts.join("").replaceAll("\0", "").replaceAll(/\p{Surrogate}/gu, ""));
  await fc.assert(
    fc.asyncProperty(fc.array(word, { minLength: 1, maxLength: 5 }), async (words) => {
      assertEquals(await split("sh", shellQuote(["printf", "%s\\0", ...words])), words);
    }),
    { numRuns: 150 },
  );
});

Deno.test("shellQuote: a first word is never a keyword, an assignment or a built-in's option", async () => {
  for (const word of ["if", "A=b", "!", "{", "-c"]) {
    const { code } = await new Deno.Command("sh", { args: ["-c", shellQuote([word])], stderr: "null" })
      .output();
    assertEquals(code, 127, word);
  }
});

Deno.test("shellQuote: a NUL character is refused", () => {
  assertThrows(() => shellQuote(["a\0b"]), RangeError);
});
