import { assertEquals } from "@std/assert";
import { type Input, serveSession } from "../../lib/host/session.ts";

/** Lines that a test sends, in chunks that end anywhere. */
function inputOf(...lines: readonly string[]): Input {
  const bytes = new TextEncoder().encode(lines.map((line) => `${line}\n`).join(""));
  let at = 0;
  return {
    read(into) {
      const chunk = bytes.subarray(at, at + 7);
      at += chunk.length;
      into.set(chunk);
      return Promise.resolve(chunk.length === 0 ? null : chunk.length);
    },
  };
}

Deno.test("serveSession: requests overlap, events bear the request's number, other lines are ignored", async () => {
  const said: unknown[] = [];
  const slow = Promise.withResolvers<void>();
  await serveSession(
    inputOf(
      '{"id":1,"verb":"slow","request":{"a":1}}',
      "not a request",
      '{"id":"one","verb":"slow"}',
      '{"id":2,"verb":"quick"}',
    ),
    async (verb, request, report) => {
      if (verb === "slow") await slow.promise;
      report({ event: "result", result: [verb, request] });
      slow.resolve();
    },
    (line) => said.push(JSON.parse(line)),
  );
  assertEquals(said, [
    { event: "ready" },
    { id: 2, event: "result", result: ["quick", null] },
    { id: 1, event: "result", result: ["slow", { a: 1 }] },
  ]);
});

Deno.test("serveSession: what has begun is finished after the end of the input", async () => {
  const said: string[] = [];
  await serveSession(
    inputOf('{"id":1,"verb":"slow"}'),
    async (_verb, _request, report) => {
      await new Promise((resolve) => setTimeout(resolve, 10));
      report({ event: "result", result: "done" });
    },
    (line) => said.push(line),
  );
  assertEquals(said.at(-1), '{"id":1,"event":"result","result":"done"}');
});

Deno.test("serveSession: ends when its connection is about to be cut, although its input stays open", async () => {
  const line = new TextEncoder().encode('{"id":1,"verb":"status"}\n');
  let reads = 0;
  const input: Input = {
    read(into) {
      if (reads++ > 0) return new Promise(() => {});
      into.set(line);
      return Promise.resolve(line.length);
    },
  };
  const said: string[] = [];
  await serveSession(
    input,
    async (_verb, _request, report) => {
      await Promise.resolve();
      report({ event: "result", result: { activation: "running", cut: true } });
    },
    (line) => said.push(line),
  );
  assertEquals(said.length, 2);
});
