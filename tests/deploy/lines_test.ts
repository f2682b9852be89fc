/** Bytes of a stream, within bounds. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { runCommand } from "../../lib/deploy/command.ts";
import { BOUNDS, pumpLines, readTail, readText, TooMuchOutput } from "../../lib/deploy/lines.ts";

function streamOf(...chunks: readonly string[]): ReadableStream<Uint8Array> {
  return ReadableStream.from(chunks.map((chunk) => new TextEncoder().encode(chunk)));
}

Deno.test("pumpLines: lines over the borders of chunks, the last one without its end", async () => {
  const lines: string[] = [];
  await pumpLines(streamOf("a", "b\nc\n", "\nd", "e"), (line) => lines.push(line));
  assertEquals(lines, ["ab", "c", "", "de"]);
});

Deno.test("pumpLines: refuses a line that does not end, and lines that do not end", async () => {
  const bounds = { line: 10, lines: 100 };
  const long = ReadableStream.from(Array.from({ length: 5 }, () => new TextEncoder().encode("12345")));
  await assertRejects(() => pumpLines(long, () => {}, bounds), TooMuchOutput, "a line of more than");
  const many = ReadableStream.from(Array.from({ length: 60 }, () => new TextEncoder().encode("1\n")));
  await assertRejects(() => pumpLines(many, () => {}, bounds), TooMuchOutput, "more than");
});

Deno.test("readText and readTail: the whole, the end, and no more than the bound", async () => {
  assertEquals(await readText(streamOf("grö", "ßer")), "größer");
  assertEquals(await readTail(streamOf("12", "34", "56"), { tail: 3, text: 10 }), "456");
  await assertRejects(() => readText(streamOf("123", "456"), { text: 5 }), TooMuchOutput);
  await assertRejects(() => readTail(streamOf("123", "456"), { tail: 3, text: 5 }), TooMuchOutput);
});

Deno.test("runCommand: a command that is ended is not waited for by its pipes, which others may hold", async () => {
  const deadline = new AbortController();
  let holder = 0;
  const { code } = await runCommand("sh", ["-c", "sleep 600 & echo $!; wait"], {
    env: { PATH: "/usr/bin:/bin" },
    signal: deadline.signal,
    onLine: (line) => {
      holder = Number(line);
      deadline.abort();
    },
  });
  assertEquals(code, 143);
  Deno.kill(holder);
});

for (
  const [what, script] of [
    ["a line without an end", "yes | tr -d '\\n'"],
    ["complaints without an end", "yes >&2"],
    ["text without an end", "yes"],
  ] as const
) {
  Deno.test(`runCommand: ends a command that says ${what}, in bounded memory`, async () => {
    const before = Deno.memoryUsage().rss;
    const options = {
      env: { PATH: "/usr/bin:/bin" },
      ...(what === "a line without an end" ? { onLine() {} } : {}),
    };
    await assertRejects(() => runCommand("sh", ["-c", script], options), TooMuchOutput);
    const grown = Deno.memoryUsage().rss - before;
    assert(grown < 10 * BOUNDS.text, `${grown} bytes`);
  });
}
